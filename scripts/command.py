"""What the operators' commands have in common: help from their docstrings, the choice of groups, signals."""

import argparse
import signal
import sys
from collections.abc import Callable, Iterable
from types import FrameType

from google.api_core.exceptions import GoogleAPICallError

from balance.database.firestore import Directory, TransientError
from balance.documents.settings import Settings
from balance.documents.sources import is_document_id
from balance.operations.fleet import group_ids
from scripts.connection import PARAMETERS_HELP, UsageError


def documented_parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the module's docstring; the parameters are explained before its exit codes and examples."""
    description, exit_codes, examples = (doc or "").partition("exit codes:")
    return argparse.ArgumentParser(
        prog=f"python -m scripts.{name}",
        description=description,
        epilog=PARAMETERS_HELP + "\n" + exit_codes + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_group_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that choose groups."""
    parser.add_argument("--group", metavar="ID", action="append", help="only this group; may be repeated")
    parser.add_argument("--after", metavar="ID", help="only the groups whose id comes after this one")
    parser.add_argument("--workers", metavar="N", type=positive, default=8, help="how many groups at once (default: 8)")


def chosen_groups(given: argparse.Namespace, firestore: Directory, settings: Settings) -> tuple[Iterable[str], int | None]:
    """The ids of the groups asked for, and how many there are, if that can be told. Raises UsageError."""
    if given.group:
        wrong = next((group_id for group_id in given.group if not is_document_id(group_id)), None)
        if wrong is not None:
            raise UsageError(f"--group {wrong!r}: this cannot be the id of a group")
        distinct = list(dict.fromkeys(given.group))
        return distinct, len(distinct)
    total = None if given.after else firestore.count(settings.layout.groups)
    return group_ids(firestore, settings.layout, given.after), total


def positive(text: str) -> int:
    """A whole number above zero."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)


def stop_on_signals() -> None:
    """Take SIGTERM for Ctrl-C: finish the groups under way, then stop."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def run(name: str, action: Callable[[], int]) -> int:
    """The exit code of a command; what keeps it from starting is said in a line, and is 2."""
    stop_on_signals()
    try:
        return action()
    except UsageError as error:
        fail(name, str(error))
        return 2
    except (TransientError, GoogleAPICallError) as error:
        fail(name, f"Firestore: {error}")
        return 2
    except KeyboardInterrupt:
        fail(name, "interrupted")
        return 130


def fail(name: str, message: str) -> None:
    """Say on standard error why a command gives up."""
    print(f"{name}: {message}", file=sys.stderr)
