"""The trade-off between several objectives: which configurations nothing dominates, as data and as a sentence.

A configuration dominates another if it is at least as good by every objective and better by one. What nothing dominates
is the Pareto set. Scores over fresh seeds are lower on average than the one score for which a configuration was picked;
so two configurations are compared over fresh seeds where both have them, and by the scores of the search where one has
not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweep.claims import Outcome
from sweep.journal import Event
from sweep.objectives import Objective
from trainables.errors import DataError
from trainables.labels import BEST
from trainables.metrics import LATENCY, PARAMS
from trainables.paths import check_name

if TYPE_CHECKING:
    from sweep.verdict import Verdict

LABEL = "pareto-"
"""Begins the label of a trial of the set that represents no other label; its id follows."""
MOST_LABELS = 10
"""Labels that the set may bring: each is evaluated, and gets a row in every table of the report."""


@dataclass(frozen=True)
class Point:
    """A configuration by all objectives.

    Attributes:
        trial_id: Of the search; a trial that finished it is meant as well.
        label: Of that trial.
        published: The label of the report and of `best/` that holds it; empty if none does.
        values: Of the search, by the objectives' keys: means over the seeds that it tried.
        fresh: Means over fresh seeds; empty where there are not at least two.
        seeds: How many fresh ones; without, how many the search tried.
        is_in_set: Whether nothing that was tried dominates it.
    """

    trial_id: str
    label: str
    published: str
    values: Mapping[str, float]
    fresh: Mapping[str, float]
    seeds: int
    is_in_set: bool = True

    @property
    def shown(self) -> Mapping[str, float]:
        """Over fresh seeds where there are any."""
        return self.fresh or self.values

    @property
    def name(self) -> str:
        """Its label and trial."""
        return f"{self.label} ({self.trial_id})"


@dataclass(frozen=True)
class TradeOff:
    """The Pareto set of a sweep, and beside it the best by the first objective and the baseline.

    Attributes:
        objectives: Keys; the first is the one that trials were stopped and confirmed by.
        points: The best by the first objective first.
        best: `trial_id` of the label `best`.
        chosen_from: Configurations at full budget, all of these included.
    """

    objectives: tuple[str, ...]
    points: tuple[Point, ...]
    best: str
    chosen_from: int

    @property
    def in_set(self) -> list[Point]:
        """What nothing dominates, the best by the first objective first."""
        return [point for point in self.points if point.is_in_set]

    def to_json(self) -> dict[str, Any]:
        """Primitives only."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TradeOff:
        """From `to_json`, or from the event that holds it.

        Raises:
            DataError: If it is no such thing.
            UnsafePathError: If the id or the label of a trial, which become names of folders, are not safe as such.
        """
        try:
            points = tuple(map(_point, content["points"]))
            keys = tuple(map(str, content["objectives"]))
            if any(set(keys) - set(values) for one in points for values in (one.values, one.shown)) or not points:
                raise ValueError("a value is missing")
            if content[BEST] not in [point.trial_id for point in points]:
                raise ValueError("it does not hold the best")
            return cls(keys, points, str(content[BEST]), int(content["chosen_from"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"the trade-off in the journal is damaged ({error}); restore it from a backup") from error


def _point(content: Mapping[str, Any]) -> Point:
    return Point(
        trial_id=check_name(content["trial_id"], "a trial id in the journal's trade-off"),
        label=check_name(content["label"], "a label in the journal's trade-off"),
        published=content["published"] and check_name(content["published"], "a label in the journal's trade-off"),
        values={str(key): float(value) for key, value in content["values"].items()},
        fresh={str(key): float(value) for key, value in content["fresh"].items()},
        seeds=int(content["seeds"]),
        is_in_set=bool(content["is_in_set"]),
    )


def last_trade_off(events: Iterable[Event], objectives: Sequence[Objective]) -> TradeOff | None:
    """The last trade-off of a journal; None if there is none.

    Raises:
        DataError: If it is damaged, or about others than the sweep's objectives.
    """
    found = [event for event in events if event["event"] == "trade_off"]
    told = TradeOff.from_json(found[-1]) if found else None
    if told is not None and told.objectives != tuple(objective.key for objective in objectives):
        raise DataError(
            f"the journal tells of a trade-off of {', '.join(told.objectives)}, which are not the objectives of the "
            "manifest; restore both from a backup of the run folder"
        )
    return told


def pareto_set(points: Sequence[Point], objectives: Sequence[Objective]) -> list[Point]:
    """The points that none of the others dominates, the best by the first objective first.

    Of points that are equal by every objective only the first is kept.
    """
    kept: list[Point] = []
    for place, point in enumerate(points):
        beaten = any(_dominates(other, point, objectives) for other in points)
        if not beaten and not any(_is_equal(other, point, objectives) for other in points[:place]):
            kept.append(point)
    first = objectives[0]
    return sorted(kept, key=lambda point: -first.goodness(point.shown[first.key]))


def _dominates(one: Point, other: Point, objectives: Sequence[Objective]) -> bool:
    gains = _gains(one, other, objectives)
    return min(gains) >= 0 and max(gains) > 0


def _is_equal(one: Point, other: Point, objectives: Sequence[Objective]) -> bool:
    return not any(_gains(one, other, objectives))


def _gains(one: Point, other: Point, objectives: Sequence[Objective]) -> list[float]:
    """By how much one is better than another by each objective, both measured alike."""
    mine, others = alike(one, other)
    return [
        objective.goodness(mine[objective.key]) - objective.goodness(others[objective.key]) for objective in objectives
    ]


def alike(one: Point, other: Point) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """The values of two points over fresh seeds if both have them, else those of the search."""
    return (one.fresh, other.fresh) if one.fresh and other.fresh else (one.values, other.values)


def spread_out(points: Sequence[Point], most: int = MOST_LABELS) -> list[Point]:
    """At most so many points, evenly from the first to the last."""
    if len(points) <= most:
        return list(points)
    return [points[round(place * (len(points) - 1) / (most - 1))] for place in range(most)]


def sentence(trade_off: TradeOff, objectives: Sequence[Objective], *, without: Iterable[str] = ()) -> str:
    """What the best by the first objective costs, beside the best by each of the others, without a full stop.

    Args:
        trade_off: Of a run.
        objectives: Of the sweep, in its order.
        without: Trials that learnt nothing: to be faster than they are is no trade-off.
    """
    best, rivals = _rivals(trade_off, objectives, without)
    *words, last = (objective.metric.words for objective in objectives)
    if not rivals:
        what = "tried and learnt something" if {one.trial_id for one in trade_off.in_set} & set(without) else "tried"
        return f"nothing that was {what} is better than {best.name} by {', '.join(words)} or {last}"
    told = "; ".join(f"{best.name} {beside(best, rival, objectives)}" for rival in rivals)
    named = {best.trial_id, *(rival.trial_id for rival in rivals)}
    between = [point for point in trade_off.in_set if point.trial_id not in {*named, *without}]
    more = f"; {len(between)} more {'lie' if len(between) > 1 else 'lies'} between" if between else ""
    return f"{told}{more}"


def evidence(
    trade_off: TradeOff,
    objectives: Sequence[Objective],
    verdict: Verdict | None = None,
    *,
    without: Iterable[str] = (),
) -> str:
    """What the sentence rests on, in a few words, and whether the difference by the first objective is shown.

    Args:
        trade_off: Of a run.
        objectives: Of the sweep, in its order.
        verdict: What fresh seeds showed, which compares with the baseline alone; None where there are none.
        without: See `sentence`.
    """
    best, rivals = _rivals(trade_off, objectives, without)
    points = [best, *rivals]
    fewest, words = min(point.seeds for point in points), objectives[0].metric.words
    if all(point.fresh for point in points):
        rest = f"means over {fewest} fresh seeds"
    elif fewest > 1 and not any(point.fresh for point in points):
        rest = f"means over {fewest} seeds"
    else:
        return "one seed each, which chose them: no claim"
    named = {point.trial_id for point in points}
    tested = (
        []
        if verdict is None
        else [
            {verdict.configurations[0].trial_id, one.name}
            for one in verdict.contrasts
            if verdict.outcome_of(one) is not Outcome.UNDECIDED
        ]
    )
    return rest if named in tested or len(named) == 1 else f"{rest}; that the {words} differs is not shown"


def _rivals(trade_off: TradeOff, objectives: Sequence[Objective], without: Iterable[str]) -> tuple[Point, list[Point]]:
    """The best by the first objective, and of the others in the set the best by each further objective, once each."""
    best = next(point for point in trade_off.points if point.trial_id == trade_off.best)
    others = [one for one in trade_off.in_set if one.trial_id not in {best.trial_id, *without}]
    found: dict[str, Point] = {}
    for objective in objectives[1:]:
        better = [one for one in others if _gains(one, best, [objective])[0] > 0]
        if better:
            rival = max(better, key=lambda one: objective.goodness(one.shown[objective.key]))
            found[rival.trial_id] = rival
    return best, list(found.values())


def beside(one: Point, other: Point, objectives: Sequence[Objective]) -> str:
    """How a point differs from another: `has 0.021 more mIoU than B (t002) and takes 2.3 times as long per image`."""
    mine, others = alike(one, other)
    first, *further = objectives
    told = [f"has {_difference(first, mine, others)} than {other.name}"]
    told += [_further(objective, mine[objective.key], others[objective.key]) for objective in further]
    return f"{', '.join(told[:-1])} and {told[-1]}"


def _difference(objective: Objective, mine: Mapping[str, float], others: Mapping[str, float]) -> str:
    difference = mine[objective.key] - others[objective.key]
    return f"{abs(difference):.3f} {'more' if difference >= 0 else 'less'} {objective.metric.words}"


def _further(objective: Objective, mine: float, other: float) -> str:
    """What else a point has or takes, beside another."""
    if objective.key not in _RATIOS:
        return f"has {_difference(objective, {objective.key: mine}, {objective.key: other})}"
    times, percent, equal = _RATIOS[objective.key]
    if mine == other:
        return equal
    ratio = mine / other if other else float("inf")
    if 0.8 < ratio < 1.25:
        share = max(0.01, abs(ratio - 1))
        return percent.format(f"{share:.0%}", *(("longer", "more") if ratio > 1 else ("shorter", "fewer")))
    return times.format(f"{ratio:.2g}")


_RATIOS = {
    LATENCY.name: ("takes {} times as long per image", "takes {0} {1} per image", "takes as long per image"),
    PARAMS.name: ("has {} times as many parameters", "has {0} {2} parameters", "has as many parameters"),
}
"""How measures of a model are compared: by a factor, by a small share, and when they are equal."""
