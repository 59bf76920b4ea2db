"""The indexes that are deployed. Tests hold queries to them, so that one without its index cannot reach production."""

from pathlib import Path

from emulator.indexes import Indexes

DEPLOYED_INDEXES = Indexes.parse((Path(__file__).parents[1] / "deploy" / "firestore.indexes.json").read_text())
