"""`python -m sweep.run`: from a search space to labels trained to full budget, and the next command to type."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from rich.console import Console

from sweep.config import GoOnConfig, SweepConfig, from_command_line
from sweep.show import show
from trainables.guarded import guarded, leave


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a sweep.

    Returns:
        0 done; 1 something failed, reported with the cure; 2 bad usage; 130 interrupted, resume command printed.
    """
    started = time.monotonic() - (time.process_time() if arguments is None else 0.0)  # Python has started before
    arguments = sys.argv[1:] if arguments is None else arguments
    told = "interrupted before the first trial; nothing was kept"
    return guarded(lambda: _run(arguments, started), interrupted=told)


def _run(arguments: Sequence[str], started: float) -> int:
    console = Console(highlight=False)
    config = from_command_line(arguments)
    if isinstance(config, SweepConfig) and config.show:
        return show(config, console)
    # What follows loads torch and Optuna, which help and `--show` have no use for.
    if isinstance(config, GoOnConfig):
        from sweep.go_on import go_on

        return go_on(config, console, started=started)
    if not arguments:
        console.print(
            "a demonstration: no flags, so this sweeps augmentation policies on embedded images, for a few "
            "minutes. Ctrl-C stops it; --help lists the flags.",
            soft_wrap=True,
        )
    from sweep.start import start

    return start(config, console, started=started)


if __name__ == "__main__":
    leave(main())
