"""`python -m sweep.run`: from a search space to labels trained to full budget, and the next command to type."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from sweep.config import GoOnConfig, SweepConfig, from_command_line
from sweep.show import show
from trainables.errors import INTERRUPTED, SegsweepError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a sweep.

    Returns:
        0 done; 1 something failed, reported with the cure; 2 bad usage; 130 interrupted, resume command printed.
    """
    started = time.monotonic() - (time.process_time() if arguments is None else 0.0)  # Python has started before
    arguments = sys.argv[1:] if arguments is None else arguments
    console = Console(highlight=False)
    try:
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
    except SegsweepError as error:
        Console(stderr=True, highlight=False).print(f"[bold red]error[/bold red] {escape(str(error))}", soft_wrap=True)
        return error.exit_code
    except OSError as error:
        told = f"{error}: free space, or move what is in its place; nothing that was written before is lost"
        Console(stderr=True, highlight=False).print(f"[bold red]error[/bold red] {escape(told)}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted before the first trial; nothing was kept")
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
