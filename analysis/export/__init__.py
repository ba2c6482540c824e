"""`python -m analysis.export RUN`: a trained model as a file that other programs run."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see `analysis.export.__main__`."""
    from analysis.export.__main__ import main as run

    return run(arguments)
