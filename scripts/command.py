"""What the subcommands of `balance` have in common: help from their docstrings, types of options, errors."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from scripts.exits import Exit

F = TypeVar("F", bound=Callable[..., Any])


class Refused(click.ClickException):
    """The command cannot be obeyed; the message says what to do."""

    exit_code = Exit.REFUSED


def subcommand(name: str, doc: str | None, **more: Any) -> Callable[[Callable[..., int]], click.Command]:
    """A subcommand whose help is its module's docstring. The function returns the exit code."""
    return click.command(name, help=_formatted(doc or ""), **more)


def _formatted(doc: str) -> str:
    """Indented lines stay as they are; what stands before them does, too, and paragraphs are wrapped."""
    return "\n\n".join(
        f"\b\n{paragraph}" if re.search(r"^ ", paragraph, re.MULTILINE) else paragraph
        for paragraph in doc.strip().split("\n\n")
    )


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")

POSITIVE = click.IntRange(1, 2**31 - 1)
"""As large as Firestore's own limits may be."""


class Finite(click.FloatRange):
    """A number above 0 that has an end: click lets `nan` through, and `inf`."""

    def __init__(self) -> None:
        super().__init__(0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See click.ParamType.convert."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no number of them", param, ctx)
        return number


def group_options(function: F) -> F:
    """The options that choose groups."""
    for option in (
        click.option("--workers", metavar="N", type=POSITIVE, default=8, help="How many groups at once (8)."),
        click.option("--after", metavar="ID", help="Only groups whose id comes after this one."),
        click.option("--group", "groups", metavar="ID", multiple=True, help="Only this group; may be repeated."),
    ):
        function = option(function)
    return function
