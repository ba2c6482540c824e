"""What a sweep is expected to take: a simulation of its search on measured costs.

Trials with drawn learning curves run on the places that there are, stopped by the sweep's own rule; the labels' best
are finished at the end, and the best few are trained again with fresh seeds. Only the costs are measured.
"""

from __future__ import annotations

import heapq
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from search_spaces.core.space import SearchSpace
from sweep.forecast import RAY_SECONDS, TRIAL_SECONDS, WORKER_SECONDS, makespan
from sweep.plan import MeasuredCost, cost_of, gpus_of
from sweep.schedulers import SCHEDULERS
from trainables.labels import BASELINE
from trainables.registry import Scalar

END_SECONDS = 6.0
"""From the last trial's end on, beside the report: Ray ends, models are published, and at last the process ends."""
REPORT_SECONDS = 14.0
"""Of the report on val beside what grows with labels and images: a process that loads its libraries, tables, page; as
long as it takes where other work shares the cores."""
IMAGE_SECONDS, PIXEL_SECONDS = 0.02, 1.2e-7
"""Of the report for each image of a label and each pixel of it, beside the model: regions, pictures, files. Estimates:
`benchmarks/on_time.py` shows whether they are long enough."""
SIMULATIONS = 8


@dataclass(frozen=True)
class Prediction:
    """What a search is expected to come to.

    Attributes:
        search_epochs: Over all its trials.
        finish_epochs: Of labels that are trained to the end afterwards.
        seconds: From the first trial's start to the last one's end, the confirmation left out.
        busy_seconds: Sum over the places, with the confirmation.
        confirm_epochs: Of the trials with fresh seeds.
        confirm_seconds: Of them.
        refit_seconds: Of training the best configuration again on train and val together.
    """

    search_epochs: float
    finish_epochs: float
    seconds: float
    busy_seconds: float
    confirm_epochs: float
    confirm_seconds: float
    refit_seconds: float

    @property
    def all_seconds(self) -> float:
        """From the first trial's start to the last one's end."""
        return self.seconds + self.confirm_seconds


@dataclass(frozen=True)
class Confirmation:
    """Fresh seeds for the best few configurations and the baseline.

    Attributes:
        top: Configurations beside the baseline.
        seeds: Of each.
    """

    top: int = 0
    seeds: int = 0

    @property
    def trials(self) -> int:
        """How many trials that makes."""
        return (self.top + 1) * self.seeds if self.top else 0


@dataclass(frozen=True)
class Setting:
    """What a plan depends on beside the budget.

    Attributes:
        space: What varies.
        base: Keys common to all trials.
        costs: Of every model and size; empty where they could not be measured.
        scheduler: Name of the stop rule.
        slots: Trials at once.
        gpus_per_trial: The least that a trial is given.
        spent: Seconds since the start of the command.
        report: Whether a report on val is written.
        train_images: Of the train split.
        val_images: Of the val split.
        val_pixels: Of its masks, in the mean.
        val_units: Images of val, or groups of them where images stay together.
    """

    space: SearchSpace
    base: Mapping[str, Scalar]
    costs: tuple[MeasuredCost, ...]
    scheduler: str
    slots: int
    gpus_per_trial: float
    spent: float
    report: bool
    train_images: int
    val_images: int
    val_pixels: float
    val_units: int

    @property
    def prepare_seconds(self) -> float:
        """From the start of the command to the first trial."""
        return self.spent + RAY_SECONDS

    def labels(self, trials: int) -> int:
        """The most labels that a sweep with so many trials can have, beside the winner."""
        by = self.space.parameter(self.space.label_by)
        most = 1 if by is None else len(by.choices) if by.kind == "choice" else len(self.space.start)
        return min(most, trials)

    def at_once(self, cost: MeasuredCost) -> float:
        """How many trials of a configuration can run at once: fewer where each is given more of a GPU than others."""
        return self.slots * self.gpus_per_trial / cost.gpus if cost.gpus else self.slots

    @property
    def label_seconds(self) -> float:
        """Of the report for each label: it is evaluated, and its masks are kept, measured and drawn."""
        if not self.report:
            return 0.0
        validation = max((one.cost.val_seconds for one in self.costs), default=0.0)
        return validation + self.val_images * (IMAGE_SECONDS + PIXEL_SECONDS * self.val_pixels)

    def report_seconds(self, trials: int) -> float:
        """Of the report on val of a sweep with so many trials, and of what comes before it."""
        if not self.report:
            return END_SECONDS
        return END_SECONDS + REPORT_SECONDS + self.labels(trials) * self.label_seconds

    def points(self) -> list[Mapping[str, Scalar]]:
        """Flat keys of the starting points."""
        return [{**self.base, **self.space.fixed, **point} for point in self.space.start]


def seconds_of(setting: Setting, config: Mapping[str, Scalar]) -> float:
    """Of an epoch of a configuration, as measured; one that is given more of a GPU takes the time of several places."""
    cost = cost_of(setting.costs, config)
    if cost is None:
        return 0.0
    usual = setting.gpus_per_trial
    places = gpus_of(setting.costs, config, usual) / usual if usual else 1.0
    return cost.epoch_seconds * places


def refit_seconds_of(setting: Setting, config: Mapping[str, Scalar], epochs: int) -> float:
    """Of training a configuration on train and val together, alone and in a process of its own."""
    cost = cost_of(setting.costs, config)
    if cost is None:
        return 0.0
    images = 1 + setting.val_images / max(1, setting.train_images)
    return WORKER_SECONDS + TRIAL_SECONDS + cost.once_seconds + epochs * cost.train_seconds * images


def predict(
    setting: Setting,
    trials: int,
    epochs: int,
    confirm: Confirmation | None = None,
    *,
    simulations: int = SIMULATIONS,
) -> Prediction:
    """Simulates a search; the mean of several.

    Args:
        setting: Of the sweep.
        trials: Of the search.
        epochs: Of a full trial.
        confirm: What follows; nothing by default.
        simulations: How many.
    """
    told = []
    for seed in range(simulations):
        rng = np.random.default_rng([seed, trials, epochs])
        told.append(_simulate(setting, trials, epochs, confirm or Confirmation(), rng))
    return Prediction(*(statistics.fmean(getattr(one, name) for one in told) for name in Prediction.__annotations__))


def _simulate(
    setting: Setting, trials: int, epochs: int, confirm: Confirmation, rng: np.random.Generator
) -> Prediction:
    """One search: the rule sees scores of drawn quality that rise towards it, with noise from epoch to epoch."""
    rule = SCHEDULERS.get(setting.scheduler)(epochs)
    configs = list(_configs(setting, trials, rng))
    seconds = [seconds_of(setting, config) for config in configs]
    first = _once(setting, configs)
    quality = rng.normal(size=trials)
    reached = [0] * trials
    free = [(WORKER_SECONDS, place) for place in range(setting.slots)]
    heapq.heapify(free)
    events: list[tuple[float, int, int]] = []  # when an epoch ends, of which trial, on which place
    next_trial, now = 0, 0.0

    def begin() -> None:
        nonlocal next_trial
        while free and next_trial < trials:
            at, place = heapq.heappop(free)
            begun = at + TRIAL_SECONDS + first[next_trial]
            heapq.heappush(events, (begun + seconds[next_trial], next_trial, place))
            next_trial += 1

    begin()
    while events:
        now, trial, place = heapq.heappop(events)
        reached[trial] += 1
        share = reached[trial] / epochs
        score = quality[trial] - 3 * math.exp(-3 * share) + rng.normal(scale=0.2)
        stopped = reached[trial] < epochs and rule.observe(f"t{trial}", reached[trial], score) and trial > 0
        if reached[trial] >= epochs or stopped:
            heapq.heappush(free, (now, place))
            begin()
        else:
            heapq.heappush(events, (now + seconds[trial], trial, place))
    best: dict[Any, int] = {}
    for trial, config in enumerate(configs):
        label = BASELINE if trial == 0 else config.get(setting.space.label_by, trial)
        if label not in best or (reached[trial], quality[trial]) > (reached[best[label]], quality[best[label]]):
            best[label] = trial
    stopped_early = [trial for trial in best.values() if reached[trial] < epochs]
    finish = [(epochs - reached[trial]) * seconds[trial] + TRIAL_SECONDS for trial in stopped_early]
    search = sum(e * s + TRIAL_SECONDS for e, s in zip(reached, seconds, strict=True)) + sum(first)
    ranked = sorted(range(trials), key=lambda trial: (-reached[trial], -quality[trial]))
    leading = [trial for trial in ranked if trial > 0][: confirm.top]
    again = [seconds[trial] * epochs + TRIAL_SECONDS for trial in (0, *leading)] if confirm.trials else []
    confirming = makespan(statistics.fmean(again), confirm.trials, setting.slots) if again else 0.0
    return Prediction(
        search_epochs=float(sum(reached)),
        finish_epochs=float(sum(epochs - reached[trial] for trial in stopped_early)),
        seconds=now + max(sum(finish) / setting.slots, max(finish, default=0.0)),
        busy_seconds=search + sum(finish) + sum(again) * confirm.seeds + setting.slots * WORKER_SECONDS,
        confirm_epochs=float(confirm.trials * epochs),
        confirm_seconds=confirming,
        refit_seconds=refit_seconds_of(setting, configs[ranked[0]], epochs),
    )


def _once(setting: Setting, configs: Sequence[Mapping[str, Scalar]]) -> list[float]:
    """Seconds before a trial's first epoch that later ones of the same model and size are spared."""
    seen: set[tuple[Any, ...]] = set()
    found = []
    for config in configs:
        cost = cost_of(setting.costs, config)
        what = (config.get("model.name"), config.get("image_size"), config.get("augment.policy"))
        found.append(cost.once_seconds if cost is not None and what not in seen else 0.0)
        seen.add(what)
    return found


def _configs(setting: Setting, trials: int, rng: np.random.Generator) -> Iterable[Mapping[str, Scalar]]:
    """What decides cost and label of each trial: the starting points, then draws from the choices of the space."""
    points = setting.points()
    yield from points[:trials]
    keys = {*(key for one in setting.costs for key in one.settings()), setting.space.label_by}
    varied = {p.key: p.ends() for p in setting.space.parameters if p.key in keys and p.kind == "choice"}
    held = {**setting.base, **setting.space.fixed}
    for _ in range(trials - len(points)):
        yield {**held, **{key: values[int(rng.integers(len(values)))] for key, values in varied.items()}}
