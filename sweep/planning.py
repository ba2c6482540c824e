"""From a budget to a plan: how many trials of how many epochs, and what that is expected to take.

Predictions come from a simulation of the search: trials with drawn learning curves on the places that there are,
stopped by the sweep's own rule, the labels' best finished at the end. Only the costs are measured.
"""

from __future__ import annotations

import heapq
import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from search_spaces.core.space import SearchSpace
from sweep.forecast import TRIAL_SECONDS, WORKER_SECONDS
from sweep.plan import MeasuredCost, Plan, cost_of
from sweep.schedulers import SCHEDULERS
from trainables.errors import UsageError
from trainables.labels import BASELINE
from trainables.registry import Scalar

RAY_SECONDS = 8.0
"""To start Ray, and to end it."""
END_SECONDS = 4.0
"""From the last trial's end on: Ray ends, models are published."""
REPORT_SECONDS = 10.0
"""Of the report on val beside what grows with labels and images: a process that loads its libraries, tables, page."""
IMAGE_SECONDS, PIXEL_SECONDS = 0.02, 1.2e-7
"""Of the report for each image of a label and each pixel of it, beside the model: regions, pictures, files. Estimates:
`benchmarks/on_time.py` shows whether they are long enough."""
EPOCHS = (3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100)
"""Lengths of a full trial that a time budget chooses from."""
SIMULATIONS = 8
MOST_TRIALS = 400


@dataclass(frozen=True)
class Prediction:
    """What a search is expected to come to.

    Attributes:
        search_epochs: Over all its trials.
        finish_epochs: Of labels that are trained to the end afterwards.
        seconds: From the first trial's start to the last one's end.
        busy_seconds: Sum over the places.
    """

    search_epochs: float
    finish_epochs: float
    seconds: float
    busy_seconds: float


@dataclass(frozen=True)
class Asked:
    """What a command says of its budget; None where it says nothing.

    Attributes:
        trials: `--trials`.
        max_epochs: `--max-epochs`.
        time_budget: `--time-budget`, in seconds.
    """

    trials: int | None
    max_epochs: int | None
    time_budget: float | None


@dataclass(frozen=True)
class Setting:
    """What a plan depends on beside the budget.

    Attributes:
        space: What varies.
        base: Keys common to all trials.
        costs: Of every model and size; empty where they could not be measured.
        scheduler: Name of the stop rule.
        slots: Trials at once.
        gpus_per_trial: For GPU hours.
        spent: Seconds since the start of the command.
        report: Whether a report on val is written.
        val_images: Of the val split.
        val_pixels: Of its masks, in the mean.
    """

    space: SearchSpace
    base: Mapping[str, Scalar]
    costs: tuple[MeasuredCost, ...]
    scheduler: str
    slots: int
    gpus_per_trial: float
    spent: float
    report: bool
    val_images: int
    val_pixels: float

    @property
    def prepare_seconds(self) -> float:
        """From the start of the command to the first trial."""
        return self.spent + RAY_SECONDS

    def labels(self, trials: int) -> int:
        """The most labels that a sweep with so many trials can have, beside the winner."""
        by = self.space.parameter(self.space.label_by)
        most = 1 if by is None else len(by.choices) if by.kind == "choice" else len(self.space.start)
        return min(most, trials)

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


def make_plan(setting: Setting, asked: Asked) -> Plan:
    """What a budget buys.

    With a time budget, the number of trials and their length follow from it where they are not given: the longest
    trials of which there is room for every starting point, and for at least three quarters as many trials as they have
    epochs. A budget without room for that is spent on the starting points.

    Args:
        setting: Of the sweep.
        asked: By the command; without a time budget, both numbers.

    Raises:
        UsageError: If the time budget is too short for one trial and the report, or the length of trials cannot follow
            from it because nothing could be measured.
    """
    epochs, trials = asked.max_epochs, asked.trials
    if asked.time_budget is not None and (epochs is None or trials is None):
        epochs, trials = _fit(setting, asked, asked.time_budget)
    if epochs is None or trials is None:
        raise ValueError("without a time budget both numbers are needed")
    predicted = predict(setting, trials, epochs)
    return Plan(
        trials=trials,
        max_epochs=epochs,
        starting_points=len(setting.space.start),
        compared=SCHEDULERS.get(setting.scheduler)(epochs).epochs(),
        search_epochs=round(predicted.search_epochs, 1),
        finish_epochs=round(predicted.finish_epochs, 1),
        prepare_seconds=round(setting.prepare_seconds, 1),
        trials_seconds=round(predicted.seconds, 1),
        report_seconds=round(setting.report_seconds(trials), 1),
        labels=setting.labels(trials),
        label_seconds=round(setting.label_seconds, 2),
        gpu_hours=round(predicted.busy_seconds * setting.gpus_per_trial / 3600, 3),
        memory_bytes=max((one.cost.memory_bytes for one in setting.costs), default=0) * setting.slots,
        disk_bytes=max((one.cost.checkpoint_bytes for one in setting.costs), default=0)
        * (trials + setting.labels(trials)),
        costs=setting.costs,
    )


def propose(setting: Setting) -> float:
    """A time budget, in seconds, in which every starting point is tried at length and the sampler is asked as often."""
    trials = 2 * len(setting.space.start)
    wanted = _command_seconds(setting, trials, 15) * 1.1
    steps = [60 * m for m in (5, 10, 15, 20, 30, 45)] + [3600 * h for h in (1, 1.5, 2, 3, 4, 6, 8, 12, 18, 24, 36, 48)]
    return next((step for step in steps if step >= wanted), math.ceil(wanted / 86400) * 86400.0)


def _fit(setting: Setting, asked: Asked, budget: float) -> tuple[int, int]:
    """Epochs and trials for a time budget."""
    least = len(setting.space.start) if asked.trials is None else asked.trials
    if not setting.costs:
        if asked.max_epochs is None:
            raise UsageError(
                "what an epoch costs cannot be measured on this machine, since the trials will run on others: give "
                "--max-epochs beside --time-budget; the number of trials follows from what they report"
            )
        return asked.max_epochs, least

    def room(epochs: int) -> int:
        """Trials of a length that fit: a guess that is put right by what is predicted for it."""
        available = budget - setting.prepare_seconds - setting.report_seconds(least)
        trials, fitting = max(least, 4), 0
        for _ in range(6):
            seconds = predict(setting, trials, epochs, simulations=2).seconds
            if seconds <= available:
                fitting = max(fitting, trials)
            closer = int(trials * available / seconds) if seconds > 0 else MOST_TRIALS
            closer = min(MOST_TRIALS, max(1, closer))
            if closer == trials:
                break
            trials = closer
        return fitting

    lengths = EPOCHS if asked.max_epochs is None else (asked.max_epochs,)
    fitting = {epochs: room(epochs) for epochs in lengths}
    wanted = [e for e, n in fitting.items() if n >= max(least, math.ceil(0.75 * e) if asked.trials is None else 0)]
    epochs = max(wanted, default=lengths[0])
    trials = fitting[epochs] if asked.trials is None else asked.trials
    while asked.trials is None and trials > 1 and _command_seconds(setting, trials, epochs) > budget:
        trials -= max(1, trials // 20)
    shortest = _first_trial_seconds(setting, epochs)
    if shortest > budget:
        raise UsageError(
            f"--time-budget of {budget:.0f} s is too short: starting, one trial of {epochs} epochs and the report take "
            f"about {shortest:.0f} s here; give --time-budget {math.ceil(1.2 * shortest / 60)}m or more"
        )
    return epochs, max(1, trials)


def _command_seconds(setting: Setting, trials: int, epochs: int) -> float:
    return setting.prepare_seconds + predict(setting, trials, epochs).seconds + setting.report_seconds(trials)


def _first_trial_seconds(setting: Setting, epochs: int) -> float:
    """Of a command that trains nothing but the baseline."""
    seconds = _seconds_of(setting, setting.points()[0]) * epochs
    return setting.prepare_seconds + WORKER_SECONDS + TRIAL_SECONDS + seconds + setting.report_seconds(1)


def _seconds_of(setting: Setting, config: Mapping[str, Scalar]) -> float:
    """Of an epoch of a configuration, as measured."""
    cost = cost_of(setting.costs, config)
    return cost.epoch_seconds if cost is not None else 0.0


def predict(setting: Setting, trials: int, epochs: int, *, simulations: int = SIMULATIONS) -> Prediction:
    """Simulates a search; the mean of several.

    Args:
        setting: Of the sweep.
        trials: Of the search.
        epochs: Of a full trial.
        simulations: How many.
    """
    told = []
    for seed in range(simulations):
        told.append(_simulate(setting, trials, epochs, np.random.default_rng([seed, trials, epochs])))
    return Prediction(*(statistics.fmean(getattr(one, name) for one in told) for name in Prediction.__annotations__))


def _simulate(setting: Setting, trials: int, epochs: int, rng: np.random.Generator) -> Prediction:
    """One search: the rule sees scores of drawn quality that rise towards it, with noise from epoch to epoch."""
    rule = SCHEDULERS.get(setting.scheduler)(epochs)
    configs = list(_configs(setting, trials, rng))
    seconds = [_seconds_of(setting, config) for config in configs]
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
            heapq.heappush(events, (at + TRIAL_SECONDS + seconds[next_trial], next_trial, place))
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
    search = sum(e * s + TRIAL_SECONDS for e, s in zip(reached, seconds, strict=True))
    return Prediction(
        search_epochs=float(sum(reached)),
        finish_epochs=float(sum(epochs - reached[trial] for trial in stopped_early)),
        seconds=now + max(sum(finish) / setting.slots, max(finish, default=0.0)),
        busy_seconds=search + sum(finish) + setting.slots * WORKER_SECONDS,
    )


def _configs(setting: Setting, trials: int, rng: np.random.Generator) -> Iterable[Mapping[str, Scalar]]:
    """What decides cost and label of each trial: the starting points, then draws from the choices of the space."""
    points = setting.points()
    yield from points[:trials]
    keys = {*(key for one in setting.costs for key in one.settings()), setting.space.label_by}
    varied = {p.key: p.ends() for p in setting.space.parameters if p.key in keys and p.kind == "choice"}
    held = {**setting.base, **setting.space.fixed}
    for _ in range(trials - len(points)):
        yield {**held, **{key: values[int(rng.integers(len(values)))] for key, values in varied.items()}}
