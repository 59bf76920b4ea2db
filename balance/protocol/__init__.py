"""Exactly once: from an event to a balance that holds it, whatever fails and however often it comes.

Imports `documents`, `database` and `core`. Sees Firestore only through `database.firestore`, so that the simulator can run this
code on virtual time. Never reads the environment, logs, or knows which function called it.
"""
