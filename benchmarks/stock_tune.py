"""A sweep beside one of stock parts on the same trials: wall and CPU time per trained epoch, and the first step.

    python -m benchmarks.stock_tune [--trials 6] [--epochs 4] [--slots 2] [--size 96x128] [--rounds 3] [--report]

In each round, one after the other: Ray alone (`import ray; ray.init()`, a process that ends then); ours, which is
`python -m sweep.run` on the embedded images (space `lr`, TPE, ASHA, no confirmation, W&B off, without the report on
val unless `--report`); and `benchmarks/stock_sweep.py` with the configurations that ours suggested, its rungs, images
and batches. A busy machine slows a round alike: ratios are of one round, the last lines have their medians. Ray's
workers have the niceness of the command in all three: with Ray's own 15 they stand still where anything else runs.

Wall is from the start of a command to its end; CPU is that of all its processes. `inside` is the time within epochs
(training and validation, as each side measures it) per epoch; efficiency its share of the slots' time from the first
step to the end of the last epoch. Ours does more: it checks the data, measures what trials cost, finishes labels and
publishes models.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.processes import Took, timed
from sweep.journal import JOURNAL_FILE, read_events
from sweep.schedulers import grace_epochs
from trainables.data.splits.frozen import load_split

MODEL = "lraspp_mobilenet_v3_large"
BATCH = 8
RAY = "import ray; ray.init(num_cpus={slots}, log_to_driver=False{folder}); print(__import__('time').time())"


@dataclass(frozen=True)
class Side:
    """One sweep.

    Attributes:
        took: Its command.
        epochs: When each epoch began, in seconds since 1970, and how long it was.
    """

    took: Took
    epochs: list[tuple[float, float]]

    @property
    def first_step(self) -> float:
        """Seconds from the start of the command to the beginning of the first epoch."""
        return min(began for began, _ in self.epochs) - self.took.began

    @property
    def per_epoch(self) -> float:
        """Wall seconds of the command per trained epoch."""
        return self.took.wall / len(self.epochs)

    @property
    def cpu_per_epoch(self) -> float:
        """CPU seconds of the command per trained epoch."""
        return self.took.cpu / len(self.epochs)

    def efficiency(self, slots: int) -> float:
        """Share of the slots' time in epochs, from the first step to the end of the last epoch."""
        busy = max(began + took for began, took in self.epochs) - min(began for began, _ in self.epochs)
        return sum(took for _, took in self.epochs) / (busy * slots)

    def row(self, name: str, slots: int) -> str:
        """Of the table."""
        inside = sum(took for _, took in self.epochs) / len(self.epochs)
        return (
            f"{name:<8} {self.took.wall:>8.1f} {self.took.cpu:>8.1f} {len(self.epochs):>7} {self.per_epoch:>10.2f} "
            f"{self.cpu_per_epoch:>10.2f} {inside:>9.2f} {self.first_step:>11.1f} {self.efficiency(slots):>11.2f}"
        )


HEADER = (
    f"{'':<8} {'wall, s':>8} {'CPU, s':>8} {'epochs':>7} {'wall each':>10} {'CPU each':>10} {'inside':>9} "
    f"{'first step':>11} {'efficiency':>11}"
)


def ours(asked: argparse.Namespace, runs: Path) -> tuple[Side, list[dict[str, Any]]]:
    """Runs our sweep; returns it with the configurations of its search."""
    command = [
        sys.executable, "-m", "sweep.run", "--space", "lr", "--models", MODEL, "--trials", str(asked.trials),
        "--max-epochs", str(asked.epochs), "--concurrent", str(asked.slots), "--set", f"image_size={asked.size}",
        "--set", f"batch_size={BATCH}", "--confirm", "0", "--wandb", "disabled", "--runs-dir", str(runs),
        "--name", "ours", *([] if asked.report else ["--no-report"]),
    ]  # fmt: skip
    took = timed(command)
    events = read_events(runs / "ours" / JOURNAL_FILE)
    epochs = [epoch_of(event) for event in events if event["event"] == "result"]
    points = [event["config"] for event in events if event["event"] == "suggested" and event["phase"] == "search"]
    return Side(took, epochs), points


def epoch_of(event: dict[str, Any]) -> tuple[float, float]:
    """When the epoch of a result began, in seconds since 1970, and how long it was."""
    return datetime.fromisoformat(event["time"]).timestamp() - event["seconds"], event["seconds"]


def stock(asked: argparse.Namespace, runs: Path, points: list[dict[str, Any]]) -> Side:
    """Runs the stock sweep of some configurations."""
    answer = runs / "stock.json"
    order = {
        "points": points,
        "epochs": asked.epochs,
        "slots": asked.slots,
        "batch": BATCH,
        "size": [int(side) for side in asked.size.split("x")],
        "grace": min(grace_epochs(asked.epochs), asked.epochs),
        "splits": {name: list(load_split(runs / "ours", name).ids) for name in ("train", "val")},
        "folder": str(runs.resolve()),
        "answer": str(answer),
    }
    took = timed([sys.executable, "-m", "benchmarks.stock_sweep"], stdin=json.dumps(order))
    told = json.loads(answer.read_text())
    if told["errors"]:
        raise SystemExit(
            f"{len(told['errors'])} trials of the stock sweep failed, the first with:\n{told['errors'][0]}"
        )
    return Side(took, [(began, seconds) for began, seconds in told["epochs"]])


def ray_alone(slots: int) -> float:
    """Seconds from the start of a process to the end of its `ray.init`."""
    place = os.environ.get("RAY_TMPDIR")
    took = timed([sys.executable, "-c", RAY.format(slots=slots, folder=f", _temp_dir={place!r}" if place else "")])
    return float(took.output.split()[-1]) - took.began


def main() -> None:
    """Runs the rounds and prints their tables."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--trials", type=int, default=6, metavar="N")
    flags.add_argument("--epochs", type=int, default=4, metavar="N")
    flags.add_argument("--slots", type=int, default=2, metavar="N")
    flags.add_argument("--size", default="96x128", metavar="HEIGHTxWIDTH")
    flags.add_argument("--rounds", type=int, default=3, metavar="N")
    flags.add_argument("--report", action="store_true", help="ours writes its report on val, too")
    asked = flags.parse_args()
    os.environ.setdefault("RAY_worker_niceness", "0")
    found: dict[str, list[float]] = {}
    for number in range(1, asked.rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            init = ray_alone(asked.slots)
            own, points = ours(asked, Path(folder))
            other = stock(asked, Path(folder), points)
        print(f"round {number}: Ray alone {init:.1f} s", HEADER, sep="\n")
        print(own.row("ours", asked.slots), other.row("stock", asked.slots), sep="\n", flush=True)
        ratios = {
            "wall per trained epoch, ours to stock": own.per_epoch / other.per_epoch,
            "CPU per trained epoch, ours to stock": own.cpu_per_epoch / other.cpu_per_epoch,
            "first step of ours, of Ray alone": own.first_step / init,
            "first step of stock, of Ray alone": other.first_step / init,
            "efficiency of ours": own.efficiency(asked.slots),
            "efficiency of stock": other.efficiency(asked.slots),
        }
        for name, value in ratios.items():
            found.setdefault(name, []).append(value)
    for name, values in found.items():
        print(f"{name}: {statistics.median(values):.2f} ({', '.join(f'{value:.2f}' for value in values)})")


if __name__ == "__main__":
    main()
