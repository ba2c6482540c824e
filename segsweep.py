"""The command `segsweep`, one program for the modules that `python -m` runs; and `run_sweep`, `load_run` for Python.

Unlike `python -m` it does not put the current folder on the path, so that a user's folder called `sweep` or `analysis`
is not imported in place of ours.
"""

from __future__ import annotations

import sys
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables import commands

if TYPE_CHECKING:
    from analysis.run import Run

__all__ = ["load_run", "run_sweep"]


def run_sweep(*, progress: bool = True, **settings: Any) -> Run:
    """Runs a sweep to its end, as `python -m sweep.run` does, and gives its run.

    The sweep runs in a process of its own, from any thread and from a notebook as well. An interrupt ends it as Ctrl-C
    does; `run_sweep(name=..., resume=True)` goes on with it.

    Args:
        progress: Whether to show its live screen, or its lines where there is no terminal.
        **settings: The flags of `python -m sweep.run` by their names with underscores, checked as these are:
            `space="augment"`, `models=["lraspp_mobilenet_v3_large"]`, `time_budget="30m"`, `trials=8`,
            `set={"optimizer.lr": 0.01}`, `report=False`, `config="sweep.yaml"`.

    Raises:
        UsageError: If a setting is unknown or makes no sense; nothing was started.
        SegsweepError: If the sweep cannot start or go on, with the cure.
        KeyboardInterrupt: On an interrupt; what has been trained is kept.

    Example:
        >>> from segsweep import run_sweep
        >>> run = run_sweep(space="augment", time_budget="4m", name="mine")  # doctest: +SKIP
        >>> run.verdict  # doctest: +SKIP
        >>> run.best.load_model().model  # doctest: +SKIP
    """
    from sweep.from_python import conduct

    return load_run(conduct(settings, progress=progress))


def load_run(place: Path | str) -> Run:
    """A run by its folder, finished or still running (`analysis.run.Run`).

    Args:
        place: Such as `runs/NAME`.

    Raises:
        DataError: If it is no run folder.
    """
    from analysis.run import load_run as load

    return load(place)


def main() -> int:
    """Runs `segsweep NAME ...`; returns the exit code of the module's own command."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["--version"]:
        print(f"segsweep {version()}")
        return 0
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in commands.SUBCOMMANDS:
        print(f"error: segsweep knows no {name!r}\n{_help()}", file=sys.stderr)
        return 2
    commands.started_through_script()
    sys.argv = [f"segsweep {name}", *rest]
    return int(import_module(commands.SUBCOMMANDS[name]).main())


def version() -> str:
    """The installed version."""
    try:
        return metadata.version("segsweep")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _help() -> str:
    width = max(map(len, _MEANINGS))
    lines = [f"  {name:<{width}}  {meaning}" for name, meaning in _MEANINGS.items()]
    return "\n".join(
        ["usage: segsweep COMMAND [flags]", "", *lines, "", "segsweep COMMAND --help lists its flags; --version."]
    )


_MEANINGS = {
    "run": "search for the best configuration; go on with a sweep (--resume, --extend)",
    "status": "say where a sweep stands, while it runs or afterwards, from any terminal",
    "report": "evaluate a run's checkpoints and write its report",
    "init": "look at a folder of images and masks, and describe it",
    "check": "check a data set",
    "train": "train one configuration without Ray",
    "preview": "draw what augmentation does to the images",
    "failures": "find and explain the failures of any model's masks",
    "score": "score any program's masks, with intervals and the types of their errors",
    "predict": "predict images of any size with the winner of a sweep",
    "export": "write the winner of a sweep as an ONNX file or a torch program, and compare the two",
    "audit": "count the numbers of a report again from the masks, and print what differs",
    "confirm": "train the best configurations of a sweep and the baseline with more fresh seeds",
    "ablate": "take the winner of a sweep apart, one component at a time",
    "refit": "train the winner of a sweep on train and val together",
    "replay": "train a trial of a sweep again and compare every digit",
    "tracking": "write a run's trials and report to W&B, TensorBoard or MLflow",
    "slurm": "write a job script that runs a sweep on nodes of a Slurm cluster",
    "kuberay": "write a RayJob that runs a sweep on Kubernetes",
    "components": "list every model, loss, optimizer and policy with its parameters",
}


if __name__ == "__main__":
    sys.exit(main())
