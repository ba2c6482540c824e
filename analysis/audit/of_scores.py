"""The tables of scores: comparison, per_class, iou_thresholds, standings, strengths, confirmation, pareto."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.audit.cells import Audit
from analysis.audit.intervals import METRICS, OF_CLASSES, Rests, family, outcome_of, size_rests, why_none
from analysis.audit.kept_scores import pixel_precision
from analysis.audit.looked import Looked
from analysis.audit.pixels import STEPS, Flags, mean
from trainables.labels import BASELINE, BEST, MAJORITY

MIN_UNITS = 10
"""Images or groups in which a class, or a region of a size, occurs if it is compared (docs/METRICS.md)."""
SIZES = {"small": (0.0, 0.01), "medium": (0.01, 0.1), "large": (0.1, 1.01)}
DEAD_MARGIN = 0.001


@dataclass(frozen=True)
class Ranked:
    """What a sweep ranked by, and what is known of its labels.

    Attributes:
        metric: The metric of the first objective, `iou[3]` where it is of one class.
        is_min: Whether less is better.
        split: `test` or `val`.
        trials: Trial id of each label.
        losses: Training loss of each epoch, by label.
        learnt: Whether each class occurs in train, shape (C,).
        seeds: Trials of each configuration with fresh seeds, by its trial of the search.
        sources: The trial of the search that each trial is, or continues.
        winner: The configuration, by its trial of the search, that fresh seeds put first; empty without any.
    """

    metric: str
    is_min: bool
    split: str
    trials: Mapping[str, str]
    losses: Mapping[str, Sequence[float]]
    learnt: Flags
    seeds: Mapping[str, Sequence[str]]
    sources: Mapping[str, str]
    winner: str


def metric_of(column: str, names: Sequence[str]) -> str | None:
    """The metric of a column, `iou[3]` for `iou[person]`; None if it is none that is known here."""
    found = re.fullmatch(r"(\w+)\[(.*)\]", column, re.DOTALL)
    if found and found[1] in OF_CLASSES and found[2] in names:
        return f"{found[1]}[{list(names).index(found[2])}]"
    return column if column in METRICS else None


def metric_of_key(key: str, names: Sequence[str]) -> str | None:
    """The metric of an objective such as `val/miou`."""
    column = key.removeprefix("val/")
    return metric_of("iou" if column == "miou" else column, names)


def dead_labels(looked: Looked, ranked: Ranked) -> set[str]:
    """The labels that learnt nothing: one class everywhere, no better than the floor, or a loss that never fell."""
    floor = looked.trials[MAJORITY].pixels.scores()["iou"]
    found = set()
    for label, trial_id in ranked.trials.items():
        pixels, losses = looked.trials[trial_id].pixels, ranked.losses.get(label, ())
        flat = len(losses) >= 3 and losses[0] - min(losses[1:]) < 0.01 * abs(losses[0])
        one_class = (pixels.predicted.sum(axis=0) > 0).sum() == 1
        if label != MAJORITY and (one_class or flat or pixels.scores()["iou"] - floor <= DEAD_MARGIN):
            found.add(label)
    return found


def audit_scores(audit: Audit, tables: Mapping[str, pd.DataFrame], looked: Looked, ranked: Ranked) -> None:
    """Compares the tables of scores."""
    _comparison(audit, tables["comparison"], looked, ranked)
    _per_class(audit, tables["per_class"], looked, ranked)
    _expect(
        audit,
        tables["iou_thresholds"],
        "iou_thresholds",
        "threshold",
        [step / STEPS for step in range(STEPS + 1)],
        ranked,
    )
    trials = {trial_id: looked.trials[trial_id] for trial_id in ranked.trials.values()}
    at_steps = {trial_id: one.pixels.thresholds(one.scores.confidence) for trial_id, one in trials.items()}
    for row in tables["iou_thresholds"].to_dict("records"):
        step = round(row["threshold"] * STEPS)
        values = {name: at[step] for name, at in at_steps[ranked.trials[row["label"]]].items()}
        audit.compare_row("iou_thresholds", f"{row['label']} at {row['threshold']}", row, values)
    _standings(audit, tables["standings"], looked, ranked)
    _strengths(audit, tables["strengths"], looked, ranked)
    _confirmation(audit, tables["confirmation"], looked, ranked)
    for row in tables["pareto"].to_dict("records"):
        if row["trial_id"] in looked.rests:
            _scores_of_row(audit, "pareto", row["label"], row, looked, row["trial_id"])


def _expect(
    audit: Audit, frame: pd.DataFrame, table: str, column: str, values: Sequence[object], ranked: Ranked
) -> None:
    """That a table has a row for each label and each of some values, and no other."""
    written = [f"{row['label']}, {row[column]}" for row in frame.to_dict("records")]
    audit.compare_rows(
        table, written, [f"{one}, {value}" for one in ranked.trials if one != MAJORITY for value in values]
    )


def _scores_of_row(audit: Audit, table: str, told: str, row: Mapping[Any, Any], looked: Looked, trial_id: str) -> None:
    """Every column that is the value of a metric."""
    for column in map(str, row):
        metric = metric_of(column, looked.sought.names)
        if metric is not None:
            audit.compare(table, told, column, row[column], looked.rests[trial_id][metric].value)


def _comparison(audit: Audit, frame: pd.DataFrame, looked: Looked, ranked: Ranked) -> None:
    names = looked.sought.names
    fixed = ranked.trials.get(BASELINE)
    for row in frame.to_dict("records"):
        label, trial_id = row["label"], ranked.trials[row["label"]]
        rests, pixels = looked.rests[trial_id], looked.trials[trial_id].pixels
        truth = pixels.truth
        audit.compare("comparison", label, "images", row["images"], len(truth))
        _scores_of_row(audit, "comparison", label, row, looked, trial_id)
        is_picked = ranked.split == "val" and trial_id not in (fixed, MAJORITY)
        for column in (one.removesuffix("_low") for one in map(str, row) if one.endswith("_low")):
            metric = metric_of(column, names)
            if metric is None:
                audit.skip(f"{column} of comparison: no metric of this version, but one of a plugin's")
                continue
            low = high = math.nan
            if not is_picked and not why_none(metric, truth, looked.units, ranked.learnt, pixels.hit):
                low, high = (min(1.0, max(0.0, side)) for side in rests[metric].interval())
            audit.compare_row("comparison", label, row, {f"{column}_low": low, f"{column}_high": high})


def _per_class(audit: Audit, frame: pd.DataFrame, looked: Looked, ranked: Ranked) -> None:
    names = list(looked.sought.names)
    _expect(audit, frame, "per_class", "class", names, ranked)
    for row in frame.to_dict("records"):
        label, class_id = row["label"], names.index(row["class"])
        one = looked.trials[ranked.trials[label]]
        truth = one.pixels.truth
        counts = one.scores.totals(class_id)
        pixels = int(truth[:, class_id].sum())
        told = f"{label}, {row['class']}"
        values = {name: of_class[class_id] for name, of_class in one.pixels.class_values().items()}
        values |= {"ap": pixel_precision(counts), "images": (truth[:, class_id] > 0).sum(), "pixels": pixels}
        audit.compare_row("per_class", told, row, values)
        # The scores that were kept count every known pixel once, as the class or as another.
        audit.compare("kept scores", told, "pixels of the class", counts[0].sum(), pixels)
        audit.compare("kept scores", told, "pixels of others", counts[1].sum(), truth.sum() - pixels)


def _standings(audit: Audit, frame: pd.DataFrame, looked: Looked, ranked: Ranked) -> None:
    dead = dead_labels(looked, ranked)
    references = {
        label: ranked.trials[label] for label in (BASELINE, BEST) if label in ranked.trials and label not in dead
    }
    rows = {row["trial_id"]: row for row in frame.to_dict("records")}
    of_trial: dict[str, set[str]] = {}
    for label, trial_id in ranked.trials.items():
        of_trial.setdefault(trial_id, set()).add(label)
    compared = [
        (trial_id, label)
        for trial_id, row in rows.items()
        for label, other in references.items()
        if row["evidence"] == "two checkpoints" and other != trial_id and not of_trial[trial_id] & dead
    ]
    told: dict[tuple[str, str], dict[str, float | str]] = {}
    differences = [_rests(looked, ranked, one) - _rests(looked, ranked, references[label]) for one, label in compared]
    for pair, one in zip(compared, differences, strict=True):
        told[pair] = {"difference": one.value}
    truth = looked.trials[MAJORITY].pixels.truth
    hits = [looked.trials[one].pixels.hit for pair in compared for one in (pair[0], references[pair[1]])]
    is_none = why_none(ranked.metric, truth, looked.units, ranked.learnt, *hits) if differences else True
    if differences and ranked.split != "val" and not is_none:
        found = family(differences)
        numbers = zip(compared, found.low, found.high, found.chance, found.above, strict=True)
        for pair, low, high, chance, above in numbers:
            improvement = 1 - above if ranked.is_min else above
            told[pair] |= {"low": low, "high": high, "chance": chance}
            told[pair] |= {"improvement": improvement, "outcome": outcome_of(low, high)}
    held = {ranked.sources.get(one, one) for label, one in ranked.trials.items() if label not in dead}
    expected = {one for one in of_trial if one != MAJORITY} | (set(ranked.seeds) - held)
    audit.compare_rows("standings", rows, expected)
    for trial_id, row in rows.items():
        if row["evidence"] != "two checkpoints":
            _of_seeds(audit, row, looked, ranked)
            continue
        score = _rests(looked, ranked, trial_id).value
        audit.compare_row("standings", row["name"], row, {"score": score, "seeds": 1})
        for label, difference, prefix in ((BASELINE, "difference", ""), (BEST, "to_winner", "to_winner_")):
            cells = told.get((trial_id, label), {})
            columns = {difference: cells.get("difference", math.nan)}
            columns |= {f"{difference}_{side}": cells.get(side, math.nan) for side in ("low", "high")}
            columns |= {f"{prefix}{name}": cells.get(name, math.nan) for name in ("chance", "improvement")}
            audit.compare_row("standings", row["name"], row, {**columns, f"{prefix}outcome": cells.get("outcome", "")})


def _rests(looked: Looked, ranked: Ranked, trial_id: str) -> Rests:
    return looked.rests[trial_id][ranked.metric]


def _of_seeds(audit: Audit, row: Mapping[Any, Any], looked: Looked, ranked: Ranked) -> None:
    """The means over fresh seeds and their differences, where the masks of all of them were kept: on test."""
    name, trial_id = str(row["name"]), str(row["trial_id"])
    own = _seed_scores(looked, ranked, trial_id)
    if own is None:
        audit.skip("standings of fresh seeds: their masks on this split were not kept")
        return
    audit.compare_row("standings", name, row, {"score": float(np.mean(own)), "seeds": len(own)})
    source, of_baseline = ranked.sources.get(trial_id, trial_id), ranked.trials.get(BASELINE, "")
    first, winner = (_seed_scores(looked, ranked, one) for one in (of_baseline, ranked.winner))
    if winner is not None and source != ranked.winner:
        cells = {
            "to_winner": float(np.mean(own) - np.mean(winner)),
            "to_winner_improvement": _gain(own, winner, ranked),
        }
        audit.compare_row("standings", name, row, cells)
    if first is not None and source != ranked.sources.get(of_baseline, of_baseline):
        cells = {"difference": float(np.mean(own) - np.mean(first)), "improvement": _gain(own, first, ranked)}
        audit.compare_row("standings", name, row, cells)


def _gain(own: Sequence[float], other: Sequence[float], ranked: Ranked) -> float:
    """Share of all pairs of a seed of each in which the first is the better; half of each tie."""
    pairs = np.subtract.outer(own, other) * (-1 if ranked.is_min else 1)
    return float(((pairs > 0) + (pairs == 0) / 2).mean())


def _seed_scores(looked: Looked, ranked: Ranked, trial_id: str) -> list[float] | None:
    """The scores of a configuration's fresh seeds; None where their masks were not kept."""
    trials = ranked.seeds.get(ranked.sources.get(trial_id, trial_id), ())
    if not trials or any(one not in looked.rests for one in trials):
        return None
    return [_rests(looked, ranked, one).value for one in trials]


def _strengths(audit: Audit, frame: pd.DataFrame, looked: Looked, ranked: Ranked) -> None:
    names = list(looked.sought.names)
    dead = dead_labels(looked, ranked)
    labels: dict[str, list[str]] = {}
    for label, trial_id in ranked.trials.items():
        if label not in dead and label != MAJORITY:
            labels.setdefault(trial_id, []).append(label)
    fixed = ranked.trials.get(BASELINE)
    expected: dict[str, dict[str, float | str]] = {}
    if fixed in labels and len(labels) > 1 and ranked.split != "val" and looked.units.enough:
        expected = _strength_rows(looked, fixed, labels, names)
    written = {f"{row['name']}, {row['what']}": row for row in frame.to_dict("records")}
    audit.compare_rows("strengths", written, expected)
    for told, cells in expected.items():
        audit.compare_row("strengths", told, written.get(told, {}), cells)


def _strength_rows(
    looked: Looked, fixed: str, labels: Mapping[str, list[str]], names: Sequence[str]
) -> dict[str, dict[str, float | str]]:
    truth = looked.trials[fixed].pixels.truth
    of_sizes = {size: looked.trials[fixed].pixels.size_iou(*bounds) for size, bounds in SIZES.items()}
    units = dict(zip(names, looked.units.with_class(truth).tolist(), strict=True))
    in_sizes = np.stack([(~np.isnan(values)).sum(axis=1) for values in of_sizes.values()], axis=1)
    sizes = dict(zip(SIZES, looked.units.with_class(in_sizes).tolist(), strict=True))
    parts = [(name, "class", count) for name, count in units.items() if count >= MIN_UNITS]
    parts += [(size, "size", count) for size, count in sizes.items() if count >= MIN_UNITS]
    cells: dict[str, dict[str, float | str]] = {}
    differences = []
    for trial_id, own in labels.items():
        if trial_id == fixed:
            continue
        name = " = ".join([label for label in own if label != BEST] or own)
        for what, kind, count in parts:
            one, other = (_part(looked, each, what, kind, names) for each in (fixed, trial_id))
            differences.append(other - one)
            cells[f"{name}, {what}"] = {
                "kind": kind,
                "units": count,
                BASELINE: one.value,
                "score": other.value,
                "difference": other.value - one.value,
            }
    found = family(differences) if differences else None
    for place, told in enumerate(cells):
        assert found is not None
        low, high = float(found.low[place]), float(found.high[place])
        cells[told] |= {"difference_low": low, "difference_high": high, "chance": float(found.chance[place])}
        cells[told]["outcome"] = outcome_of(low, high)
    return cells


def _part(looked: Looked, trial_id: str, what: str, kind: str, names: Sequence[str]) -> Rests:
    if kind == "class":
        one = looked.rests[trial_id][f"iou[{list(names).index(what)}]"]
        return one
    return size_rests(looked.trials[trial_id].pixels.size_iou(*SIZES[what]), looked.units)


def _confirmation(audit: Audit, frame: pd.DataFrame, looked: Looked, ranked: Ranked) -> None:
    """What fresh seeds scored on this split, and their means' distance from the baseline's."""
    first: float | None = None
    audit.compare_rows("confirmation", frame["trial_id"], ranked.seeds)
    for row in frame.to_dict("records"):
        own = _seed_scores(looked, ranked, row["trial_id"])
        if own is None:
            audit.skip("confirmation: the masks of fresh seeds on this split were not kept")
            return
        values = {"mean": mean(np.array(own)), "lowest": min(own), "highest": max(own), "seeds": len(own)}
        if first is None:
            first = values["mean"]
        else:
            values["difference"] = values["mean"] - first
        audit.compare_row("confirmation", row["label"], row, values)
