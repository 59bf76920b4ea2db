"""Firestore as the rest sees it: `firestore` is the narrow view, `sdk` the official library behind it, `codec` its values.

Imports no other package of ours. Only `sdk` and `codec` know the library; everything else is written against `firestore`, which
the simulator implements in process. Never knows what a balance is.
"""
