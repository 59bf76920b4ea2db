"""The arithmetic: amounts in integer minor units, currencies, the ledger and settle-up suggestions.

Imports only the standard library. Never does I/O, reads a clock or the environment, or knows that Firestore exists: the same
arguments always give the same result.
"""
