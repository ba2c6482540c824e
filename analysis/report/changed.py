"""What the gallery opens on: the connected components that a second prediction cures, fails anew, or fails as well."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, zip_longest
from typing import Any

import numpy as np
import pandas as pd

from analysis.failures.changes import CURED, NEW, SHARED
from analysis.failures.factors import FACTORS
from analysis.measured import Measured

KINDS = (CURED, NEW, SHARED)
OUTSIDE = -1
"""In place of a fifth: the factor could not be measured there."""


def changed_rows(measured: Measured) -> list[dict[str, Any]]:
    """One entry for each row of `component_changes`: the cured ones first, then new and shared, the largest first."""
    frame = measured.component_changes
    if frame.empty:
        return []
    rank = frame["change"].map({kind: place for place, kind in enumerate(KINDS)})
    frame = frame.iloc[np.lexsort((-frame["pixels"].to_numpy(), rank.to_numpy()))].reset_index(drop=True)
    told = [(measured.told(label), side) for label, side in zip(measured.pair, ("before", "after"), strict=True)]
    places = _places(frame, _fifths(measured))
    rows = []
    for place, record in enumerate(frame.to_dict("records")):
        is_new = record["change"] == NEW
        facts = [f"{int(record['pixels']):,} px in truth"]
        facts += [
            f"{label}: IoU {record[f'iou_{side}']:.3f}"
            + (f", mostly {kind}" if (kind := record[f"type_{side}"]) else "")
            for label, side in told
        ]
        rows.append(
            {
                "row": place,
                "image": str(record["image_id"]),
                "class": str(record["class"]),
                "kinds": [str(record["change"])],
                "type": str(record["type_after" if is_new else "type_before"]) or "none",
                "iou": float(min(record["iou_before"], record["iou_after"])),
                "pixels": int(record["pixels"]),
                "box": [int(record[side]) for side in ("top", "left", "bottom", "right")],
                "fifths": [int(own[place]) for own in places],
                "facts": facts,
            }
        )
    return rows


def factor_groups(measured: Measured) -> list[dict[str, Any]]:
    """The factors that a gallery can be grouped by, those called a reason first, with their fifths in words."""
    frame = measured.factors
    reasons = set(frame.loc[(frame["label"] == measured.chief) & frame["reason"].astype(bool), "factor"])
    by_name = {factor.name: factor for factor in FACTORS}
    groups = []
    for place, (name, edges) in enumerate(_fifths(measured).items()):
        words = [f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges)]
        words[0] += f", {by_name[name].low}"
        words[-1] += f", {by_name[name].high}"
        title = name.replace("_", " ") + (" (a reason)" if name in reasons else "")
        groups.append({"place": place, "title": title, "fifths": words, "reason": name in reasons})
    return sorted(groups, key=lambda group: not group["reason"])


def first_images(rows: Sequence[dict[str, Any]], limit: int) -> list[str]:
    """The images whose pictures matter most, at most so many: those of the largest components of each kind in turn.

    Args:
        rows: Of `changed_rows`.
        limit: How many images.
    """
    of_kind = [[row["image"] for row in rows if row["kinds"] == [kind]] for kind in KINDS]
    in_turn = (image for turn in zip_longest(*of_kind) for image in turn if image is not None)
    return list(dict.fromkeys(in_turn))[:limit]


def _fifths(measured: Measured) -> dict[str, list[float]]:
    """The ends of the fifths of each factor, as its curve has them; none where there are no curves."""
    frame = measured.factor_curves
    own = frame[frame["label"] == measured.pair[1]]
    return {
        str(name): [float(rows["low"].iloc[0]), *map(float, rows["high"])]
        for name, rows in own.groupby("factor", sort=False)
        if len(rows) > 1 and name in measured.component_changes
    }


def _places(frame: pd.DataFrame, fifths: dict[str, list[float]]) -> list[np.ndarray[Any, Any]]:
    """In which fifth of each factor each row is, counted as the curves count; `OUTSIDE` where it was not measured."""
    places = []
    for name, edges in fifths.items():
        values = frame[name].to_numpy(float)
        found = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
        places.append(np.where(np.isfinite(values), found, OUTSIDE))
    return places
