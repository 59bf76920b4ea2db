"""What is stored: the app's documents and how they are read, and our own (balances, records) and how they are written.

Imports `core`, the types of `database.firestore`, and the app's adapter. Pure: never reads or writes a document itself, only
turns fields into values and values into fields.
"""
