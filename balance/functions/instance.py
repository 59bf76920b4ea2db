"""What one process has one of: its settings, its database client, its bookkeeper. Made on first use, never at import."""

import os
from functools import partial
from threading import RLock

from balance.database.firestore import Directory
from balance.database.retry import Retry
from balance.database.sdk import connect, project_id
from balance.documents.settings import Settings, from_environment, updates_on
from balance.protocol.bookkeeper import Bookkeeper

_lock = RLock()
_firestore: Directory | None = None
_bookkeeper: Bookkeeper | None = None


def firestore() -> Directory:
    """The process's database; raises InvalidSetting when the environment is not understood."""
    global _firestore
    if _firestore is None:
        with _lock:
            if _firestore is None:
                settings: Settings = from_environment(os.environ)
                _firestore = connect(project_id(), settings.database)
    return _firestore


def bookkeeper(retry: Retry | None = None) -> Bookkeeper:
    """The process's bookkeeper; raises InvalidSetting when the environment is not understood.

    Whoever asks first may say how patient it is; a process serves either events or callers.
    """
    global _bookkeeper
    if _bookkeeper is None:
        with _lock:
            if _bookkeeper is None:
                settings: Settings = from_environment(os.environ)
                _bookkeeper = Bookkeeper(firestore(), settings, updates_on=partial(updates_on, os.environ), retry=retry)
    return _bookkeeper
