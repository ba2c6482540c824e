"""The trials of a run as its journal tells them: a view that can be rebuilt at any time."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sweep.candidate import Candidates
from sweep.floor import LOSS
from sweep.journal import Event
from sweep.objectives import Objective
from sweep.pareto import LABEL as PARETO
from sweep.pareto import Point, TradeOff, pareto_set, spread_out
from sweep.phase_kinds import CONFIRM, kind_of
from sweep.ranking import Configuration, Standings, by_configuration, configuration, mean_goodness
from sweep.records import Record, Records
from trainables.config import EARLIER
from trainables.labels import BASELINE, BEST, in_order
from trainables.paths import check_name

GpusOf = Callable[[Mapping[str, Any]], float]
"""The GPUs that a trial is given, by its flat configuration."""

OPEN_STATES = ("pending", "running")


@dataclass(slots=True)
class TrialView:
    """One trial so far.

    Attributes:
        trial_id: `t000` for search trials; `t000-finish` for the continuation of one.
        label: `baseline`, or the value of the key that names the space's labels.
        phase: Name of a `sweep.phase_kinds.PhaseKind`.
        config: Flat configuration.
        params: What the search chose.
        parent: The search trial that a `finish` trial continues.
        first_epoch: Epochs that the parent had trained.
        results: Reported results: `epoch`, `seconds`, `metrics`.
        state: `running` until it ends, then `completed`, `stopped`, `infeasible`, `failed`; `interrupted` in between.
        position: Of all trials of the run, from 0, as they were suggested.
    """

    trial_id: str
    number: int
    label: str
    phase: str
    config: Mapping[str, Any]
    params: Mapping[str, Any]
    parent: str | None = None
    first_epoch: int = 0
    results: list[Record] = field(default_factory=list)
    state: str = "running"
    reason: str = ""
    position: int = field(default=0, compare=False, repr=False)
    identity: Configuration | None = field(default=None, compare=False, repr=False)
    """What `configuration` found."""

    @property
    def epochs(self) -> int:
        """Epochs trained in all, the parent's included."""
        return int(self.results[-1]["epoch"]) if self.results else self.first_epoch

    @property
    def seconds(self) -> float:
        """Seconds of the epochs of this trial, not of its parent's."""
        return float(sum(result["seconds"] for result in self.results))

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the last reported epoch."""
        return dict(self.results[-1]["metrics"]) if self.results else {}

    @property
    def is_open(self) -> bool:
        """Whether there is more to come."""
        return self.state in OPEN_STATES or self.state == "interrupted"


class TrialTable:
    """All trials of a run; follows a journal.

    What is asked at every event is kept up to date with each of them, so that no answer costs more the more trials
    there are: who is open, which trials a phase has, who leads.
    """

    def __init__(self) -> None:
        self.trials: dict[str, TrialView] = {}
        self._records = Records()
        self.changes = 0
        """How often a trial has ended; what is derived from ended trials alone holds as long as it does not change."""
        self.order = 0
        """Another after an event that no sweep writes, such as a result of a trial that had ended."""
        self._index()

    def _index(self) -> None:
        """Makes what is kept of the trials anew."""
        self.changes += 1
        self.order += 1
        self._phases: dict[str, list[TrialView]] = {}
        self._explored: list[TrialView] = []
        self._labels: dict[str, list[TrialView]] = {}
        self._open: dict[str, TrialView] = {}
        self._standings: dict[tuple[str, str], Standings] = {}
        self._pareto: dict[tuple[tuple[str, str], ...], tuple[int, list[Point]]] = {}
        for position, trial in enumerate(self.trials.values()):
            trial.position = position
            self._enter(trial)

    def _enter(self, trial: TrialView) -> None:
        self._phases.setdefault(trial.phase, []).append(trial)
        if kind_of(trial.phase).explores:
            self._explored.append(trial)
            self._labels.setdefault(trial.label, []).append(trial)
        if trial.is_open:
            self._open[trial.trial_id] = trial

    @classmethod
    def of(cls, events: Iterable[Event]) -> TrialTable:
        """The table of a journal's events."""
        table = cls()
        for event in events:
            table.apply(event)
        return table

    def apply(self, event: Event) -> None:
        """Applies one event.

        Raises:
            UnsafePathError: If a trial id or a label, which become names of folders, are not safe as such.
        """
        kind = event["event"]
        if kind == "suggested":
            trial_id = check_name(event["trial_id"], "a trial id in the journal")
            is_new = trial_id not in self.trials
            self.trials[trial_id] = TrialView(
                trial_id=trial_id,
                number=event["number"],
                label=sys.intern(check_name(event["label"], f"the label of trial {trial_id} in the journal")),
                phase=sys.intern(event["phase"]),
                config=self._records.of(_whole(event["config"])),
                params=self._records.of(event["params"]),
                parent=event.get("parent"),
                first_epoch=event.get("first_epoch", 0),
                position=len(self.trials),
            )
            if is_new:
                self._enter(self.trials[trial_id])
            else:
                self._index()
        elif kind == "result":
            trial = self.trials[event["trial_id"]]
            had_ended = not trial.is_open
            told = {"epoch": event["epoch"], "seconds": event["seconds"], "metrics": Record.of(event["metrics"])}
            trial.results.append(Record.of(told))
            trial.state = "running"
            if had_ended:
                self._index()
        elif kind == "ended":
            trial = self.trials[event["trial_id"]]
            had_ended = not trial.is_open
            trial.state, trial.reason = sys.intern(event["state"]), event["reason"]
            if had_ended or trial.is_open:
                self._index()
            else:
                self._settle(trial)
        elif kind == "interrupted":
            for trial in self._open.values():
                if trial.state in OPEN_STATES:
                    trial.state, trial.reason = "interrupted", event["reason"]
        elif kind == "resumed":
            for trial in self._open.values():
                if trial.state == "interrupted":
                    trial.state, trial.reason = "running", ""

    def _settle(self, trial: TrialView) -> None:
        """Takes note of a trial's end."""
        self.changes += 1
        del self._open[trial.trial_id]
        for standings in self._standings.values():
            standings.add(trial)

    def standings(self, objective: Objective) -> Standings:
        """The rankings by an objective."""
        key = (objective.key, objective.metric.direction)
        if key not in self._standings:
            ended = (trial for trial in self.trials.values() if not trial.is_open)
            self._standings[key] = Standings(objective, ended)
        return self._standings[key]

    def of_phase(self, phase: str) -> Sequence[TrialView]:
        """The trials of a phase, in the order in which they were suggested."""
        return self._phases.get(phase, ())

    def explored(self) -> Sequence[TrialView]:
        """The trials that try configurations, in the order in which they were suggested."""
        return self._explored

    def explored_labels(self) -> Mapping[str, Sequence[TrialView]]:
        """The same by their labels."""
        return self._labels

    def open(self) -> list[TrialView]:
        """Trials that have not ended."""
        return list(self._open.values())

    def representatives(self, objective: Objective) -> dict[str, TrialView]:
        """The search trial that represents each label.

        A trial that was trained longer ranks before one that was stopped earlier, whatever their scores: scores at
        different epochs do not compare. Among equals the better score wins, then the earlier trial. Trials that differ
        in the seed alone are one configuration: they are ranked by their mean, and the first of them represents it.
        Trials without a result, infeasible and failed ones represent no label; only trial 0 is `baseline`.
        """
        return self.standings(objective).leaders()

    def final(self, trial: TrialView) -> TrialView:
        """The continuation of a search trial if it has a completed one, else the trial itself."""
        continued = self.trials.get(finish_id(trial.trial_id))
        return continued if continued is not None and continued.state == "completed" else trial

    def labels(self, objective: Objective, *further: Objective) -> dict[str, TrialView]:
        """The trial in `best/` for each label: only trials at full budget; `baseline` first, `best` the winner.

        Where configurations were trained again with fresh seeds, the best is the one with the best mean over them.
        No configuration is listed twice: a label whose trial differs from the baseline in the seed alone is left
        out, and where the best configuration is the baseline's own, `best` is the baseline's trial. Where there are
        further objectives, each configuration of the Pareto set that has no label gets one of its own.
        """
        finals = {label: self.final(trial) for label, trial in self.representatives(objective).items()}
        complete = {label: trial for label, trial in finals.items() if trial.state == "completed"}
        everyone = self.standings(objective).full
        baseline = configuration(complete[BASELINE]) if BASELINE in complete else None
        chosen = {
            label: trial for label, trial in complete.items() if label == BASELINE or configuration(trial) != baseline
        }
        if everyone:
            winner = self._confirmed_winner(objective)
            own = everyone.of(winner) if winner is not None else []
            chosen[BEST] = (own or next(iter(everyone)))[0]
        if further:
            held = {configuration(trial) for trial in chosen.values()}
            of_set = (self.trials[point.trial_id] for point in spread_out(self.pareto_set(objective, *further)))
            chosen |= {f"{PARETO}{t.trial_id}": self.final(t) for t in of_set if configuration(t) not in held}
        return {label: chosen[label] for label in in_order(chosen)}

    def pareto_set(self, *objectives: Objective) -> list[Point]:
        """The configurations at full budget that none of the others dominates, the best by the first one first."""
        key = tuple((one.key, one.metric.direction) for one in objectives)
        known = self._pareto.get(key)
        if known is None or known[0] != self.changes:
            known = self._pareto[key] = self.changes, pareto_set(self._points(objectives), objectives)
        return known[1]

    def trade_off(self, *objectives: Objective) -> TradeOff | None:
        """The Pareto set, and beside it the best by the first objective and the baseline; None without a best."""
        labels = self.labels(*objectives)
        if BEST not in labels:
            return None
        points = [self._published(point, labels) for point in self._points(objectives)]
        in_set = {point.trial_id for point in pareto_set(points, objectives)}
        chief = {configuration(labels[label]) for label in (BASELINE, BEST) if label in labels}
        told = [
            replace(point, is_in_set=point.trial_id in in_set)
            for point in points
            if point.trial_id in in_set or self._key(point) in chief
        ]
        told.sort(key=lambda point: -objectives[0].goodness(point.shown[objectives[0].key]))
        best = next(point.trial_id for point in told if self._key(point) == configuration(labels[BEST]))
        return TradeOff(tuple(one.key for one in objectives), tuple(told), best, len(points))

    def _published(self, point: Point, labels: Mapping[str, TrialView]) -> Point:
        """A point with the label that holds it: its own, if that one does."""
        holders = [label for label, trial in labels.items() if configuration(trial) == self._key(point)]
        return replace(point, published=point.label if point.label in holders else next(iter(holders), ""))

    def _key(self, point: Point) -> Configuration:
        return configuration(self.trials[point.trial_id])

    def _points(self, objectives: Sequence[Objective]) -> list[Point]:
        """Every configuration at full budget by all objectives, in the order of the first trials."""
        first = objectives[0]
        fresh = {configuration(group[0]): group for group in self.confirmed(first)}
        points = []
        whole = (t for t in self.completed(first) if all(one.value(t.metrics) is not None for one in objectives))
        for group in by_configuration(whole).values():
            seeds = fresh.get(configuration(group[0]), [])
            points.append(
                Point(
                    trial_id=group[0].parent or group[0].trial_id,
                    label=group[0].label,
                    published="",
                    values=_means(group, objectives),
                    fresh=_means(seeds, objectives) if seeds else {},
                    seeds=len(seeds) or len(group),
                )
            )
        return points

    def completed(self, objective: Objective) -> list[TrialView]:
        """The trials at full budget that have a score and may become `best`."""
        return [
            trial
            for trial in self.trials.values()
            if trial.state == "completed"
            and kind_of(trial.phase).may_be_best
            and objective.value(trial.metrics) is not None
        ]

    def candidates(self, objective: Objective) -> Candidates:
        """Of how many trials and configurations the best on val is the best."""
        tried = [
            trial
            for trial in self.explored()
            if trial.state in ("completed", "stopped") and objective.value(trial.metrics) is not None
        ]
        return Candidates(len(tried), len({configuration(trial) for trial in tried}))

    def confirmed(self, objective: Objective) -> list[list[TrialView]]:
        """The trials with fresh seeds that came to their end, by configuration; the baseline's first.

        Nothing where there are not at least two seeds of the baseline and of another configuration; configurations with
        one seed are left out.
        """
        complete = (trial for trial in self.of_phase(CONFIRM.name) if trial.state == "completed")
        return _with_several(trial for trial in complete if objective.value(trial.metrics) is not None)

    def repeated(self, objective: Objective) -> list[list[TrialView]]:
        """As `confirmed`, of configurations that the search itself trained with several seeds."""
        return _with_several(self.completed(objective))

    def _confirmed_winner(self, objective: Objective) -> Configuration | None:
        groups = self.confirmed(objective)
        whole = [group for group in groups if not self.lost(group[0])] or groups
        return configuration(max(whole, key=lambda group: mean_goodness(group, objective))[0]) if whole else None

    def losses(self, trial: TrialView) -> list[float]:
        """Training loss of each epoch of a trial, from the first one of the trial that it continued."""
        parent = self.trials.get(trial.parent or "")
        results = [*(parent.results if parent else []), *trial.results]
        by_epoch = {int(one["epoch"]): one["metrics"].get(LOSS) for one in results}
        return [float(by_epoch[epoch]) for epoch in sorted(by_epoch) if by_epoch[epoch] is not None]

    def lost(self, trial: TrialView) -> int:
        """With how many fresh seeds a trial's configuration diverged or ran out of memory."""
        of_phase = [one for one in self.of_phase(trial.phase) if one.state == "infeasible"]
        return sum(configuration(one) == configuration(trial) for one in of_phase)

    def seeds(self, trial: TrialView, objective: Objective) -> list[TrialView]:
        """All trials at full budget of a trial's configuration, whatever their seeds."""
        return [t for t in self.completed(objective) if configuration(t) == configuration(trial)]


def finish_id(trial_id: str) -> str:
    """The id of the trial that continues a search trial to full budget."""
    return f"{trial_id}-finish"


def _means(trials: Sequence[TrialView], objectives: Iterable[Objective]) -> dict[str, float]:
    """Mean value of each objective, by its key."""
    return {one.key: statistics.fmean(trial.metrics[one.key] for trial in trials) for one in objectives}


def _with_several(trials: Iterable[TrialView]) -> list[list[TrialView]]:
    """Trials by configuration where there are several, the baseline's first; nothing without it and another."""
    groups = by_configuration(trials).values()
    several = sorted((group for group in groups if len(group) > 1), key=lambda group: group[0].label != BASELINE)
    return several if len(several) > 1 and several[0][0].label == BASELINE else []


def _whole(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A configuration with the keys that have been added since it was written; mostly it is as it was."""
    return config if EARLIER.keys() <= config.keys() else {**EARLIER, **config}
