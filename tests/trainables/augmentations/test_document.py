"""The written page is the registries'."""

from __future__ import annotations

from trainables.augmentations import MAGNITUDES, POLICIES, TRANSFORMS
from trainables.augmentations.__main__ import augmentation_markdown
from trainables.augmentations.transforms import only_rgb


def test_every_family_transformation_and_magnitude_stands_in_it() -> None:
    rows = [line for line in augmentation_markdown().splitlines() if line.startswith("| `")]
    named = [line.split("`")[1] for line in rows]
    every = ["augment.policy", *POLICIES, *TRANSFORMS]
    assert named[: len(every)] == every
    assert set(named[len(every) :]) == {name for name in TRANSFORMS if only_rgb(name)}
    columns = {line.count("|") for line in rows}
    assert columns == {3, 4, 8}
    rotation = next(line for line in rows if line.startswith("| `rotate`"))
    assert "| angle | ±0° | ±30° | 0.33: ±9.9° |" in rotation
    assert all(MAGNITUDES[name].reason for name in MAGNITUDES)
