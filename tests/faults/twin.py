"""One small sweep with a search, a stopped trial that is finished, a confirmation, a refit and a report."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

from ..command import RAY_TMPDIR, events

NAME = "mine"
RESUME = ["--resume", "--name", NAME, "--wandb", "disabled", "--no-dashboard"]


SPACE = """
description: Which policy?
extends: augment
parameters:
  optimizer.lr: {low: 1.0e-8, high: 0.1, log: true, default: 0.02}
start:
  - {}
  - {augment.policy: geometric}
  - {augment.policy: photometric}
  - {augment.policy: all, optimizer.lr: 1.0e-8}
"""
"""The last starting point learns nothing, so that it is stopped."""


def flags_of(root: Path, runs: Path) -> list[str]:
    """Of the sweep: four trials of four epochs, of which one is stopped; two fresh seeds of two; the winner's refit."""
    runs.mkdir(exist_ok=True)
    (runs / "space.yaml").write_text(SPACE)
    data = ["--data", "folder", "--data-root", str(root), "--set", "image_size=48x64", "--set", "batch_size=4"]
    budget = ["--trials", "4", "--max-epochs", "4", "--confirm", "2", "--refit", "--concurrent", "1"]
    rest = ["--runs-dir", str(runs), "--name", NAME, "--wandb", "disabled", "--no-dashboard"]
    return ["--space", str(runs / "space.yaml"), *data, *budget, *rest]


def resume_of(runs: Path) -> list[str]:
    return [*RESUME, "--runs-dir", str(runs)]


class Twin:
    """What a finished run says, without times and without where it was cut.

    Attributes:
        run_dir: The run.
        story: What was suggested, measured to the last digit, decided and ended, in order.
        weights: SHA-256 of the published models, by label.
        report: Label, trial and scores of the report on val.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.story = told(run_dir)
        self.weights = weights(run_dir)
        with (run_dir / "report" / "val" / "tables" / "comparison.csv").open() as file:
            rows = list(csv.DictReader(file))
        self.report = [[row[key] for key in ("label", "trial_id", "iou", "f1", "pixel_accuracy")] for row in rows]

    def __eq__(self, other: object) -> bool:
        mine, others = vars(self), vars(other)
        return all(mine[key] == others[key] for key in mine if key != "run_dir")

    __hash__ = None  # type: ignore[assignment]


def told(run_dir: Path) -> list[tuple[Any, ...]]:
    """The story of a run, see `Twin`."""
    story: list[tuple[Any, ...]] = []
    for event in events(run_dir):
        match event["event"]:
            case "suggested":
                what = (event["phase"], event["trial_id"], event["label"], tuple(sorted(event["config"].items())))
                story.append(("suggested", *what))
            case "result":
                story.append(("result", event["trial_id"], event["epoch"], tuple(sorted(event["metrics"].items()))))
            case "decision" | "ended":
                story.append((event["event"], event["trial_id"], event.get("state"), event["reason"]))
            case "refitted":
                story.append(("refitted", event["of"], event["epochs"], event["sha256"]))
            case "verdict":
                said = {key: value for key, value in event.items() if key not in ("seq", "time", "seal")}
                story.append(("verdict", json.dumps(said, sort_keys=True)))
    return story


def weights(run_dir: Path) -> dict[str, str]:
    """SHA-256 of the published models, by label."""
    published = events(run_dir, "published")
    return {name: files["model.safetensors"] for name, files in published[-1]["labels"].items()} if published else {}


def below(pid: int) -> dict[int, str]:
    """All processes below one, with their command lines."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, IndexError):
            continue
        parents.setdefault(parent, []).append(int(entry.parent.name))
    found: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        for child in parents.get(waiting.pop(), []):
            waiting.append(child)
            try:
                found[child] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
    return found


def of_ray(pid: int) -> dict[str, list[int]]:
    """Processes of the Ray below a driver: `raylet`, `gcs`, `worker`, and `node`, which is all of them."""
    found: dict[str, list[int]] = {"raylet": [], "gcs": [], "worker": [], "node": []}
    for child, command in below(pid).items():
        program = os.path.basename(command.split(" ")[0])
        if "SEGSWEEP_RAY_FOLDER" in command:
            continue  # waits for the driver's end, outside of Ray
        found["node"].append(child)
        for name, is_it in (
            ("raylet", program == "raylet"),
            ("gcs", program == "gcs_server"),
            ("worker", command.startswith("ray::") and "Trainable" in command),
        ):
            if is_it:
                found[name].append(child)
    return found


def leftovers() -> list[Path]:
    """Of Ray, in its temp folder."""
    return list(Path(RAY_TMPDIR).glob("segsweep-*"))
