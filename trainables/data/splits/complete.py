"""Parts of splits that nobody gave, drawn from those that were given."""

from __future__ import annotations

from dataclasses import replace

from trainables.data.base import SegmentationData, Splits
from trainables.data.splits.stratified import draw, how_drawn

PARTS = ("train", "val", "test")

_SHARE = 0.2
"""Of val and of test, where they are drawn."""


def completed(data: SegmentationData, given: Splits, seed: int) -> Splits:
    """Draws the parts that were not given, and says so.

    A missing val or test is 20% of train, stratified by class, groups kept together, and leaves it. A missing train is
    every image that is in neither val nor test. Images in no part are left out, and a note says so.

    Args:
        data: The data set.
        given: The parts; those that are empty are missing.
        seed: Of what is drawn.
    """
    lists = {part: getattr(given, part) for part in PARTS}
    missing = [part for part in ("val", "test") if not lists[part]]
    taken = {*given.val, *given.test}
    said = [given.origin]
    if not given.train:
        lists["train"] = tuple(image_id for image_id in data.ids() if image_id not in taken)
        said.append("train is every image that it does not name")
    if missing:
        pool = lists["train"]
        fractions = (1 - _SHARE * len(missing), *(_SHARE for _ in missing))
        drawn = draw(data, pool, fractions, seed=seed, groups=[given.group(data, image_id) for image_id in pool])
        lists.update(zip(("train", *missing), drawn, strict=True))
        share = f"{_SHARE:.0%} of the {len(pool)} images of train" + (" each" if len(missing) > 1 else "")
        said.append(f"{' and '.join(missing)} drawn: {share}, {how_drawn(seed)}")
    left = len(data.ids()) - sum(map(len, lists.values()))
    notes = (f"{left} of {len(data.ids())} images are in no split and left out",) if left else ()
    return replace(given, **lists, origin="; ".join(said), warnings=notes)
