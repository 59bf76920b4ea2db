"""The console: what the balances are, what comes in and what is wrong, as pages in the browser.

Imports `balance.operations` and what lies below, the runner's client and the words of the command; nothing imports it but the
subcommand `balance console`. It changes a balance only by the protocol's rebuild, and the app's documents only on the
embedded Firestore. Never deployed.
"""
