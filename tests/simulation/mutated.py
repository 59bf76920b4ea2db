"""Tests run on a weakened product, in a process of their own: `python -m tests.simulation.mutated MUTANT TEST...`

For what neither simulator runs. Exit code: pytest's, so 1 when the tests catch it.
"""

import sys

import pytest

from tests.simulation.product import Editor


def main() -> int:
    """Weaken the package before anything of it is imported, then run the tests."""
    from tests.simulation.mutants import MUTANTS

    name, *tests = sys.argv[1:]
    edits = next(mutant.edits for mutant in MUTANTS if mutant.name == name)
    for module in [module for module in sys.modules if module.split(".")[0] == "balance"]:
        del sys.modules[module]
    sys.meta_path.insert(0, Editor(edits))
    return int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", *tests]))


if __name__ == "__main__":
    sys.exit(main())
