"""The command `balance`: its subcommands by section, loaded only when they are called.

To add a subcommand, write a module with a function of its name, made one by `scripts.command.subcommand`, and add a line to
COMMANDS.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from scripts import source
from scripts.exits import TABLE, Exit

WIDTH: Final = 80
PROGRAM: Final = "balance"


@dataclass(frozen=True, slots=True)
class Entry:
    """A subcommand: where it is and what `balance --help` says of it."""

    name: str
    module: str
    summary: str
    reads_documents: bool = False
    """It reads an app's documents, so it needs the adapter of the app's functions."""


DEVELOP: Final = "Develop this project"

COMMANDS: Final = {
    "Look": (
        Entry("show", "scripts.show", "one group: balance, suggestions, records, faults", reads_documents=True),
        Entry("console", "scripts.console", "all of it in the browser", reads_documents=True),
        Entry("explain", "scripts.explain", "why somebody owes somebody: document by document", reads_documents=True),
        Entry("faults", "scripts.faults", "documents that cannot be understood, by reason", reads_documents=True),
    ),
    "Repair": (
        Entry("backfill", "scripts.backfill", "give every group its balance", reads_documents=True),
        Entry("verify", "scripts.verify", "compare balances with a recalculation; --repair", reads_documents=True),
    ),
    "Try on this machine": (
        Entry("demo", "scripts.demo", "watch a group's balances being kept true"),
        Entry("dev", "scripts.serve", "run Firestore and all functions here"),
        Entry("emulators", "scripts.emulators", "the Firebase Emulator Suite with your functions and ours"),
        Entry("token", "scripts.unsigned_token", "an ID token for the read API of `dev`"),
        Entry("completion", "scripts.completion", "tab completion for your shell"),
    ),
    "Deploy": (
        Entry("doctor", "scripts.doctor", "look a project over, before and after deploying", reads_documents=True),
        Entry("package", "scripts.package", "copy the functions into your app's repository"),
        Entry(
            "check-assumptions",
            "scripts.check_assumptions",
            "check that a project's Firestore is as we expect",
            reads_documents=True,
        ),
    ),
    DEVELOP: (
        Entry("simulate", "scripts.developing.simulate", "random schedules against the protocol"),
        Entry("explore", "scripts.developing.explore", "every interleaving of small worlds"),
        Entry("chaos", "scripts.developing.attack", "the same attack on real processes"),
        Entry("soak", "scripts.developing.soak", "a bad day: silence, hanging servers, replacements"),
        Entry("rehearsal", "scripts.developing.rehearsal", "the roll-out under traffic, every answer checked"),
        Entry("audit", "scripts.developing.vulnerabilities", "known vulnerabilities of the libraries"),
        Entry("client-contract", "scripts.developing.client_contract", "what the TypeScript client takes from here"),
        Entry("currencies", "scripts.developing.currency_release", "merge a new release of ISO 4217"),
    ),
}

ENTRIES: Final = {entry.name: entry for entries in COMMANDS.values() for entry in entries}


class Balance(click.Group):
    """The group of subcommands; none is imported before it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names."""
        return list(ENTRIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a subcommand."""
        entry = ENTRIES.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = getattr(import_module(entry.module), entry.name.replace("-", "_"))
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Load the app's adapter, before a subcommand imports modules that use it."""
        entry = ENTRIES.get(args[0])
        if entry is not None and entry.reads_documents:
            source.load_adapter(args[1:])
        if entry is None and (alike := get_close_matches(args[0], ENTRIES, 1)):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {alike[0]!r}?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a subcommand. Whoever reads its output may have seen enough, as `head` does."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Python must not try once more at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return Exit.DONE

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The subcommands by section; of those that no operator needs, the names."""
        width = max(map(len, ENTRIES))
        for title, entries in COMMANDS.items():
            with formatter.section(title):
                if title == DEVELOP:
                    formatter.write_text(", ".join(entry.name for entry in entries))
                else:
                    formatter.write_dl([(entry.name.ljust(width), entry.summary) for entry in entries])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The subcommands; the group has no options of its own to tell of."""
        self.format_commands(ctx, formatter)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names of subcommands, without importing any."""
        names = [entry for entry in ENTRIES.values() if entry.name.startswith(incomplete)]
        return [CompletionItem(entry.name, help=entry.summary) for entry in names] + click.Command.shell_complete(
            self, ctx, incomplete
        )


@click.group(
    cls=Balance,
    context_settings={"max_content_width": WIDTH, "help_option_names": ["-h", "--help"]},
    epilog=f"\b\n{TABLE}",
)
def balance() -> None:
    """Group balances for bill-splitting apps on Firebase.

    `balance COMMAND --help` explains a command and has examples.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit code; what keeps it from starting is said on standard error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = " ".join([PROGRAM, *given[:1]]) if given and given[0] in ENTRIES else PROGRAM
    try:
        code = balance.main(given, prog_name=PROGRAM, standalone_mode=False)
    except click.UsageError as error:
        error.show()
        return Exit.REFUSED
    except click.ClickException as error:
        print(f"{name}: {error.format_message()}", file=sys.stderr)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print(f"{name}: interrupted", file=sys.stderr)
        return Exit.INTERRUPTED
    return int(code or 0)
