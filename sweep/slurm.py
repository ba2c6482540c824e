"""`python -m sweep.slurm`: a job script that runs a sweep on nodes of a Slurm cluster, and goes on when requeued."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from sweep.scripts import TEMPLATES, Sweep, add_sweep, read_sweep, write
from trainables import commands
from trainables.errors import SegsweepError, UsageError
from trainables.flags import command_parser
from trainables.guarded import guarded

WARNING_SECONDS = 120
"""Before the time limit the sweep is told to end."""
JOIN_SECONDS = 300.0
"""For all nodes to join; after that the sweep begins on those that have."""
TEMPLATE = "slurm.sh.jinja"


def parser() -> argparse.ArgumentParser:
    """The flags."""
    p = command_parser(
        "sweep.slurm",
        "Write a job script that runs a sweep on nodes of a Slurm cluster. A job that comes to its time "
        "limit, or is requeued, goes on with the same run. Not yet run on a real one; see docs/cluster.md.",
        epilog=f"Example: {commands.prog('sweep.slurm')} --nodes 2 --gpus-per-node 4 --cpus-per-node 32 --time 8h "
        "--partition gpu -- --space augment --data folder --data-root /shared/images --name mine. See docs/cluster.md.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=32, width=110),
    )
    p.add_argument("--nodes", type=_positive, default=1, metavar="N", help="default: 1")
    p.add_argument("--gpus-per-node", type=int, default=0, metavar="N", help="default: 0")
    p.add_argument("--cpus-per-node", type=_positive, default=4, metavar="N", help="default: 4")
    p.add_argument("--time", type=_limit, default="8:00:00", metavar="8h", help="limit of one job (default: 8h)")
    p.add_argument("--partition", type=_partition, metavar="NAME", help="default: Slurm's own")
    p.add_argument(
        "--sbatch",
        action="append",
        default=[],
        metavar="OPTION",
        help="another line for sbatch, such as --sbatch=--account=mine; again for more",
    )
    p.add_argument(
        "--setup",
        action="append",
        default=[],
        metavar="LINE",
        help="a line of shell before anything else, such as --setup 'module load cuda'; again for more",
    )
    p.add_argument("--wait", metavar="HOST:PORT", help=argparse.SUPPRESS)  # typed by the script alone
    add_sweep(p)
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    asked = parser().parse_args(arguments)
    body = (lambda: wait_for(asked.wait, asked.nodes)) if asked.wait else (lambda: _write(asked))
    return guarded(body, interrupted="interrupted")


def job_script(asked: argparse.Namespace, sweep: Sweep, file: Path) -> str:
    """The text of the job script.

    Args:
        asked: From `parser`.
        sweep: To run.
        file: Where it will stand, for its first line.

    Raises:
        UsageError: If an option has a line end in it.
    """
    import jinja2

    for text in (*asked.sbatch, *asked.setup, asked.partition or "", *sweep.words):
        if re.search(r"[\r\n]", text):
            raise UsageError(f"{text!r} has a line end in it, which a job script cannot hold there")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # a shell script, whose words are quoted below
        keep_trailing_newline=True,
    )
    return environment.get_template(TEMPLATE).render(
        command=commands.prog("sweep.slurm"),
        file=shlex.quote(file.name),
        name=sweep.config.name,
        nodes=asked.nodes,
        cpus=asked.cpus_per_node,
        gpus=asked.gpus_per_node,
        time=asked.time,
        partition=asked.partition,
        options=asked.sbatch,
        setup=asked.setup,
        warning=WARNING_SECONDS,
        folder=shlex.quote(str(Path.cwd())),
        python=shlex.quote(sys.executable),
        run=shlex.quote(str(sweep.config.run_dir)),
        arguments=list(map(shlex.quote, sweep.words)),
        sweep=_started("sweep.run"),
        wait=_started("sweep.slurm"),
    )


def wait_for(address: str, nodes: int) -> int:
    """Waits until so many nodes have joined a cluster, `JOIN_SECONDS` at most; returns the exit code.

    Raises:
        SegsweepError: If none has.
    """
    from sweep.resources import available

    console, deadline = Console(highlight=False), time.monotonic() + JOIN_SECONDS
    joined, fault = 0, ""
    while joined < nodes and time.monotonic() < deadline:
        try:
            joined = len(available(address).nodes)
        except SegsweepError as error:
            fault = str(error)
        if joined < nodes:
            time.sleep(1)
    if not joined:
        raise SegsweepError(fault)
    console.print(f"{joined} of {nodes} nodes have joined the cluster at {address}")
    return 0


def _write(asked: argparse.Namespace) -> int:
    if asked.gpus_per_node < 0:
        raise UsageError("--gpus-per-node cannot be negative")
    sweep = read_sweep(asked.sweep)
    path = asked.out or Path(f"{sweep.config.name}.slurm")
    write(job_script(asked, sweep, path), path)
    Console(highlight=False).print(
        f"written: {path}\nsubmit it: sbatch {shlex.quote(str(path))}", markup=False, soft_wrap=True
    )
    return 0


def _started(module: str) -> str:
    """How the script starts a module of ours: as this command was started, by this Python."""
    words = commands.prog(module).split()
    if words[0] == "segsweep":
        return " ".join([shlex.quote(str(Path(sys.executable).with_name("segsweep"))), *words[1:]])
    return f'"$python" -m {module}'


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number above 0")
    return int(text)


def _partition(text: str) -> str:
    if not text or re.search(r"[\s'\"#]", text):
        raise argparse.ArgumentTypeError(f"{text!r} must be the name of a partition, or several with commas")
    return text


def _limit(text: str) -> str:
    """A time such as 8h or 90m as Slurm writes it, or as Slurm writes it already."""
    from sweep.flags import duration

    if re.fullmatch(r"(\d+-)?\d+(:\d\d){0,2}", text):
        return text
    seconds = int(duration(text))
    return f"{seconds // 3600}:{seconds % 3600 // 60:02}:{seconds % 60:02}"


if __name__ == "__main__":
    sys.exit(main())
