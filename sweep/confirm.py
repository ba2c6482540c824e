"""`python -m sweep.confirm RUN`: trains the best configurations and the baseline with more fresh seeds."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from sweep.more import ask_for_more
from sweep.more import parser as flags_of_both
from trainables.flags import whole


def parser() -> argparse.ArgumentParser:
    """The flags."""
    p = flags_of_both(
        "sweep.confirm",
        "Train the best configurations of a sweep and the baseline again with fresh seeds, and say what they show. "
        "Seeds that are there already count.",
    )
    p.add_argument(
        "--top", type=whole, default=2, metavar="K", help="how many configurations beside the baseline (default: 2)"
    )
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return ask_for_more(
        parser(), arguments, lambda asked: {"confirm_asked": {"top": max(1, asked.top), "seeds": asked.seeds}}
    )


if __name__ == "__main__":
    sys.exit(main())
