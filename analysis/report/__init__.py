"""`python -m analysis.report RUN`: evaluates a run's checkpoints and writes what they show."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.report import sections

__all__ = ["main", "sections"]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see `analysis.report.__main__`."""
    from analysis.report.__main__ import main as run

    return run(arguments)
