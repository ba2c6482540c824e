"""`python -m sweep.ablate RUN`: takes the winner apart, one component at a time back to the baseline's."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from sweep.more import ask_for_more
from sweep.more import parser as flags_of_both


def parser() -> argparse.ArgumentParser:
    """The flags."""
    return flags_of_both(
        "sweep.ablate",
        "Train the winner of a sweep with one component at a time set back to the baseline's (its policy, its loss, "
        "its learning rate) over fresh seeds, and say what each is worth. First the winner and the baseline are given "
        "as many seeds.",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return ask_for_more(
        parser(),
        arguments,
        lambda asked: {
            "confirm_asked": {"top": 1, "seeds": asked.seeds, "at_least": True},
            "ablate_asked": {"seeds": asked.seeds},
        },
    )


if __name__ == "__main__":
    sys.exit(main())
