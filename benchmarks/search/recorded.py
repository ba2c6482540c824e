"""Recorded learning curves of real trainings (`benchmarks/search/record.py`) as something to search.

A suggestion is answered by the nearest configuration that was recorded, of the same label. The curve is that of one
seed; the true value comes from what could not be chosen by: the other seeds, on images that no trial saw.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.search.families import OBJECTIVE
from search_spaces import SPACES, SearchSpace
from search_spaces.core.parameter import Parameter
from trainables.registry import Scalar

RECORDED = Path(__file__).with_name("recorded.jsonl")
MODEL = "lraspp_mobilenet_v3_large"
IMAGE_SIZE = "32x48"
SEEDS = (0, 1)


def read_lines(path: Path = RECORDED) -> list[dict[str, Any]]:
    """One dictionary per recorded trial; none before the first."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def coordinate(parameter: Parameter, value: Scalar | None) -> float:
    """A number's share of its range, on the scale on which it is searched; a choice's place; NaN if it is absent."""
    if value is None:
        return math.nan
    if parameter.kind == "choice":
        return float(parameter.choices.index(value))
    low, high, at = parameter.low, parameter.high, float(value)
    if parameter.log:
        low, high, at = math.log(low), math.log(high), math.log(at)
    return (at - low) / (high - low)


class Recording:
    """The recorded trials of one space.

    Args:
        space: Name of the space.
        seed: Whose curves are replayed.
        lines: Recorded trials, of any space; configurations without all seeds at all lengths are left out.

    Raises:
        ValueError: If no configuration is complete.
    """

    def __init__(self, space: str, seed: int, lines: Sequence[Mapping[str, Any]]) -> None:
        self.name = f"recorded {space}"
        self.space: SearchSpace = SPACES.get(space)([MODEL], "none")
        self._seed = seed
        own = [line for line in lines if line["space"] == space]
        self.lengths = tuple(sorted({line["epochs"] for line in own}))
        self._trials = {(line["point"], line["epochs"], line["seed"]): line for line in own}
        wanted = [(epochs, one) for epochs in self.lengths for one in SEEDS]
        numbers = dict.fromkeys(line["point"] for line in own)
        self._points = [n for n in numbers if all((n, *rest) in self._trials for rest in wanted)]
        if not self._points:
            raise ValueError(f"{RECORDED.name} has no complete configuration of the space {space}")
        params = [self._trials[n, *wanted[0]]["params"] for n in self._points]
        self._labels = np.array([point[self.space.label_by] for point in params])
        self._at = np.array([[coordinate(p, point.get(p.key)) for p in self.space.parameters] for point in params])
        self._is_choice = np.array([p.kind == "choice" for p in self.space.parameters])
        self._found: dict[tuple[Any, ...], int] = {}
        self.best = max(self._worth(n, epochs) for n in self._points for epochs in self.lengths)

    def __len__(self) -> int:
        return len(self._points)

    def base(self, epochs: int) -> dict[str, Scalar]:
        """With the seed whose curves are replayed."""
        return {"image_size": IMAGE_SIZE, "epochs": epochs, "seed": self._seed, "model.name": MODEL,
                "model.weights": "none"}  # fmt: skip

    def nearest(self, config: Mapping[str, Any]) -> int:
        """The number of the nearest recorded configuration.

        A number is as far away as the difference of its shares; another choice, and a parameter that only one of the
        two has, count 1.
        """
        key = tuple(config.get(p.key) for p in self.space.parameters)
        if key not in self._found:
            asked = {p.key for p in self.space.parameters if p.key in self.space.complete(config)}
            own = np.array([coordinate(p, config[p.key] if p.key in asked else None) for p in self.space.parameters])
            apart = np.abs(self._at - own)
            apart = np.where(self._is_choice & ~np.isnan(apart), apart > 0, apart)
            apart = np.where(np.isnan(self._at) & np.isnan(own), 0.0, np.nan_to_num(apart, nan=1.0)).sum(axis=1)
            same = self._labels == config[self.space.label_by]
            if same.any():
                apart = np.where(same, apart, np.inf)
            self._found[key] = self._points[int(np.argmin(apart))]
        return self._found[key]

    def report(self, config: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        """What the recorded trial reported."""
        line = self._trials[self.nearest(config), config["epochs"], self._seed]
        if epoch > len(line["val"]):
            return {"infeasible": line["infeasible"]}
        return {"metrics": {OBJECTIVE: line["val"][epoch - 1]}}

    def value(self, config: Mapping[str, Any]) -> float:
        """The mean over the other seeds of mIoU on held-out images."""
        return self._worth(self.nearest(config), config["epochs"])

    def _worth(self, point: int, epochs: int) -> float:
        others = [self._trials[point, epochs, seed] for seed in SEEDS if seed != self._seed]
        return statistics.fmean(line.get("held_out", 0.0) for line in others)
