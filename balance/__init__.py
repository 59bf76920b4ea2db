"""Group balances kept true by events. Each package may import those below it, and nothing above:

    functions     what Cloud Functions call: triggers, read API, task queue, nightly run
    operations    what works on whole balances and fleets: reading, backfill, reconciliation, logs
    protocol      exactly once: events, the decision table, rebuilds, faults, group commit
    documents     the app's documents and ours: parsing, layout, settings, balances, records
    database      the narrow view of Firestore, the official library behind it, its codec, retry
    core          amounts, currencies, the ledger, settle-up suggestions

`adapter.py` is the one file that an app edits.
"""
