"""Where a model fails and what can be measured about why."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see `analysis.failures.__main__`."""
    from analysis.failures.__main__ import main as run

    return run(arguments)
