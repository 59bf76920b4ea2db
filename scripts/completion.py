"""Print what makes your shell complete the commands and options of `balance` with the Tab key.

Exit codes: 0 printed; 2 wrong usage.

Examples:
  eval "$(balance completion bash)"      # in ~/.bashrc
  balance completion fish > ~/.config/fish/completions/balance.fish
"""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from scripts.command import Refused, subcommand
from scripts.exits import Exit

PROGRAM = "balance"


@subcommand("completion", __doc__)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    made = get_completion_class(shell)
    group = click.get_current_context().find_root().command
    assert made is not None, "Click knows these three"
    try:
        print(made(group, {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE").source())
    except RuntimeError as error:
        raise Refused(str(error)) from None
    return Exit.DONE
