"""The Cloud Functions: each module decodes what the platform sends, calls one operation and answers.

Imports everything below; only `main.py` and the tests import it. Clients are made on first use, never at import:
the platform loads this code without credentials. Settings are checked at import, so that a wrong one fails the deployment.
A trigger never loads what only the API or the nightly run needs.
"""
