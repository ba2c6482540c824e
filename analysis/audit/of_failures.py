"""The tables of failures: regions, components, types of error, factors, changes, masks that may be wrong."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.audit.cells import SINGLE, Audit
from analysis.audit.effects import Cases, curves, effects, is_reason, type_changes
from analysis.audit.factors import NAMES
from analysis.audit.images import Component
from analysis.audit.looked import Looked
from analysis.audit.pixels import Floats, Integers, first_of_ties
from analysis.audit.suspects import suspects
from analysis.audit.types import TYPES
from trainables.labels import BASELINE, BEST, MAJORITY

SIDES = ("top", "left", "bottom", "right")

FITTED, STABLE = 1e-4, 0.01
"""Differences up to which effects of factors, and shares of draws, are the same.

Effects are fitted to ranks, and components whose factors differ in 64 bits may share a rank in the report's 32."""

Rows = Mapping[Any, Mapping[Any, Any]]
"""By their keys."""


def audit_failures(
    audit: Audit,
    tables: Mapping[str, pd.DataFrame],
    looked: Looked,
    trials: Mapping[str, str],
    *,
    voters: Collection[str],
    split: str,
    seed: int,
) -> None:
    """Compares the tables of failures.

    Args:
        audit: What was compared so far.
        tables: By name.
        looked: What was found in the masks.
        trials: Trial id of each label; the floor, whose failures are not told, is passed over.
        voters: Trials that have a say in which masks may be wrong.
        split: `test` or `val`.
        seed: Of the sweep.
    """
    labels = {label: trial_id for label, trial_id in trials.items() if label != MAJORITY}
    _regions(audit, tables["failures"], looked, labels)
    _components(audit, tables["component_failures"], looked, labels)
    for label, trial_id in labels.items():
        _types(audit, tables, looked, label, trial_id)
    _factors(audit, tables, looked, labels, seed)
    first, second = labels.get(BASELINE), labels.get(BEST)
    differ = first is not None and second is not None and first != second
    _component_changes(audit, tables["component_changes"], looked, (first, second) if differ else None)
    found = []
    if differ and first is not None and second is not None:
        before, after = looked.trials[first].wrong, looked.trials[second].wrong
        found = type_changes(before, after, None if split == "val" else looked.units)
    _all_rows(audit, "type_changes", tables["type_changes"], {(str(row["type"]),): row for row in found}, ("type",))
    _suspects(audit, tables["label_errors"], looked, voters, split)


def _all_rows(
    audit: Audit,
    table: str,
    frame: pd.DataFrame,
    expected: Rows,
    keys: tuple[str, ...],
    *,
    within: Mapping[str, float] | None = None,
) -> None:
    """Compares which rows a table has, by some columns, and every cell of those that are expected."""
    written = {tuple(str(row[key]) for key in keys): row for row in frame.to_dict("records")}
    audit.compare_rows(table, map(", ".join, written), map(", ".join, expected))
    for key, cells in expected.items():
        for column, value in cells.items():
            if key in written and column not in keys:
                tolerance = (within or {}).get(column)
                extra = {} if tolerance is None else {"within": tolerance}
                audit.compare(table, ", ".join(key), column, written[key].get(column, math.nan), value, **extra)


def _regions(audit: Audit, frame: pd.DataFrame, looked: Looked, labels: Mapping[str, str]) -> None:
    ids, names = looked.sought.image_ids, looked.sought.names
    expected = {
        (label, ids[place], names[class_id]): row
        for label, trial_id in labels.items()
        for (place, class_id), row in looked.trials[trial_id].regions.items()
    }
    _all_rows(audit, "failures", frame, expected, ("label", "image_id", "class"))


def _components(audit: Audit, frame: pd.DataFrame, looked: Looked, labels: Mapping[str, str]) -> None:
    keys = ("label", "image_id", "source", "component")
    written = {tuple(str(row[key]) for key in keys): row for row in frame.to_dict("records")}
    expected: dict[tuple[str, ...], Mapping[str, float | str]] = {}
    sizes: dict[str, int] = {}
    for label, trial_id in labels.items():
        for image_id, components in zip(looked.sought.image_ids, looked.trials[trial_id].components, strict=True):
            failing = [one for one in components if one.fails(looked.sought.iou_limit)]
            if failing and image_id not in sizes:
                sizes[image_id] = looked.sought.data.mask(image_id).size
            for one in failing:
                key = (label, image_id, "truth" if one.is_true else "prediction", str(one.number))
                expected[key] = _component_row(one, looked, sizes[image_id], written.get(key, {}))
    _all_rows(audit, "component_failures", frame, expected, keys)


def _component_row(
    one: Component, looked: Looked, image_pixels: int, written: Mapping[Any, Any]
) -> dict[str, float | str]:
    names = looked.sought.names
    taken = {names[class_id]: pixels for class_id, pixels in one.taken.items()}
    return {
        "class": names[one.class_id],
        "iou": one.iou,
        "recall": one.recall,
        "type": one.type(str(written.get("type", ""))),
        "type_share": one.types.max() / one.types.sum(),
        "taken_for": first_of_ties(taken, str(written.get("taken_for", ""))),
        "taken_share": max(taken.values(), default=0) / one.pixels,
        "pixels": one.pixels,
        "area_fraction": one.pixels / image_pixels,
        **dict(zip(SIDES, one.box, strict=True)),
    }


def _types(audit: Audit, tables: Mapping[str, pd.DataFrame], looked: Looked, label: str, trial_id: str) -> None:
    """What each type takes from the mIoU of a label, from the IoU of its classes, and of which images."""
    one, names = looked.trials[trial_id], looked.sought.names
    unions = one.wrong.unions.sum(axis=0)
    there = int((unions > 0).sum())
    by_image = np.zeros((len(one.types), len(TYPES)), np.int64)
    lost_of_image = np.zeros(by_image.shape)
    missing, extra = np.zeros((2, len(names), len(TYPES)), np.int64)
    for image, rows in enumerate(one.types):
        for kind, true, predicted, pixels in rows.tolist():
            by_image[image, kind] += pixels
            lost_of_image[image, kind] += pixels * (1 / unions[true] + 1 / unions[predicted]) / there
            missing[true, kind] += pixels
            extra[predicted, kind] += pixels

    def row_of(pixels: Integers, lost: Floats, kind: int) -> dict[str, float]:
        share = lost[kind] / (lost.sum() or 1.0)
        return {"pixels": int(pixels[kind]), "lost_iou": float(lost[kind]), "share": float(share)}

    whole = {
        (label, name): row_of(by_image.sum(axis=0), lost_of_image.sum(axis=0), kind) for kind, name in enumerate(TYPES)
    }
    images = {
        (label, image_id, name): row_of(by_image[image], lost_of_image[image], kind)
        for image, image_id in enumerate(looked.sought.image_ids)
        for kind, name in enumerate(TYPES)
        if by_image[image, kind]
    }
    classes = {
        (label, names[class_id], TYPES[kind]): {
            "missing": int(missing[class_id, kind]),
            "extra": int(extra[class_id, kind]),
            "lost_iou": wrong / unions[class_id],
            "share": wrong / (missing + extra)[class_id].sum(),
        }
        for class_id, kind in np.argwhere(missing + extra).tolist()
        for wrong in [int((missing + extra)[class_id, kind])]
    }
    for table, expected, keys in (
        ("error_types", whole, ("label", "type")),
        ("error_types_per_class", classes, ("label", "class", "type")),
        ("error_types_per_image", images, ("label", "image_id", "type")),
    ):
        frame = tables[table]
        _all_rows(audit, table, frame[frame["label"] == label], expected, keys)


def _factors(
    audit: Audit, tables: Mapping[str, pd.DataFrame], looked: Looked, labels: Mapping[str, str], seed: int
) -> None:
    found: dict[str, tuple[Cases, list[Any], list[Any]]] = {}
    chief = labels.get(BEST, next(iter(labels.values())))
    for trial_id in dict.fromkeys(labels.values()):
        cases = looked.cases(trial_id, with_distance=trial_id == chief)
        found[trial_id] = cases, effects(cases, seed), curves(cases, seed)
    written = {(row["label"], row["factor"]): row for row in tables["factors"].to_dict("records")}
    of_factors = {(label, str(row["factor"])): row for label, one in labels.items() for row in found[one][1]}
    # What a row calls a reason follows from its own numbers: recomputed ones may lie on the other side of a limit.
    judged = {key: {**row, "reason": str(is_reason(written[key]))} for key, row in of_factors.items() if key in written}
    of_factors |= judged
    tolerance = dict.fromkeys(("low", "high"), SINGLE)
    tolerance |= {**dict.fromkeys(("effect", "effect_low", "effect_high", "alone"), FITTED), "stable": STABLE}
    _all_rows(audit, "factors", tables["factors"], of_factors, ("label", "factor"), within=tolerance)
    for label, trial_id in labels.items():
        frame = tables["factor_curves"]
        own = frame[frame["label"] == label].to_dict("records")
        rows = found[trial_id][2]
        audit.compare("factor_curves", label, "(number of rows)", len(own), len(rows))
        for there, row in zip(own, rows, strict=False):
            told = f"{label}, {row['factor']} from {row['low']:.4g}"
            for column, value in row.items():
                within = SINGLE if column in ("low", "high") else FITTED
                audit.compare("factor_curves", told, column, there.get(column), value, within=within)


def _component_changes(
    audit: Audit, frame: pd.DataFrame, looked: Looked, pair: tuple[str | None, str | None] | None
) -> None:
    keys = ("image_id", "component")
    written = {tuple(str(row[key]) for key in keys): row for row in frame.to_dict("records")}
    expected: dict[tuple[str, ...], dict[str, float | str]] = {}
    limit, names = looked.sought.iou_limit, looked.sought.names
    images = (
        zip(looked.sought.image_ids, *(looked.trials[str(one)].components for one in pair), strict=True) if pair else ()
    )
    for place, (image_id, before, after) in enumerate(images):
        own = [one for one in before if one.is_true], [one for one in after if one.is_true]
        for number, (first, second) in enumerate(zip(*own, strict=True)):
            was, now = first.fails(limit), second.fails(limit)
            if not was and not now:
                continue
            key = (image_id, str(first.number))
            there = written.get(key, {})
            expected[key] = {
                "class": names[first.class_id],
                "change": "shared" if was and now else "cured" if was else "new",
                "iou_before": first.iou,
                "iou_after": second.iou,
                "type_before": first.type(str(there.get("type_before", ""))),
                "type_after": second.type(str(there.get("type_after", ""))),
                "pixels": first.pixels,
                **dict(zip(SIDES, first.box, strict=True)),
                **dict(zip(NAMES, looked.factors[place][number].tolist(), strict=True)),
            }
    _all_rows(audit, "component_changes", frame, expected, keys, within=dict.fromkeys(NAMES, SINGLE))


def _suspects(audit: Audit, frame: pd.DataFrame, looked: Looked, voters: Collection[str], split: str) -> None:
    own = [trial_id for trial_id in looked.trials if trial_id in voters]
    found = []
    if split == "test" and own:
        sought = looked.sought
        found = suspects(sought.image_ids, lambda place: sought.masks(own, place), sought.names)
    keys = ("image_id", "class", "models_say", *SIDES)
    expected = {tuple(str(row[key]) for key in keys): row for row in found}
    _all_rows(audit, "label_errors", frame, expected, keys)
