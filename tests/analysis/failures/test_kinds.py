"""Which classes are background, stuff and things."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.failures.kinds import Kind, class_kinds, kinds_by_name, kinds_text
from trainables.data.scenes.spec import CLASSES as SCENES
from trainables.data.voc2012 import NAMES as VOC
from trainables.errors import UsageError

NAMES = ("lesion", "skin", "hair")


def test_known_names_decide_whatever_their_spelling():
    names = ("Background", "SKY", "traffic-sign", "low_vegetation", "car", "_background_")
    assert kinds_by_name(names).tolist() == [0, 1, 2, 1, 2, 0]


def test_classes_of_our_data_sets_are_what_they_should_be():
    assert [name for name, kind in zip(VOC, kinds_by_name(VOC), strict=True) if kind < 2] == ["background"]
    scenes = {info.name: int(kind) for info, kind in zip(SCENES, kinds_by_name([i.name for i in SCENES]), strict=True)}
    assert [name for name, kind in scenes.items() if kind == 1] == ["sky", "building", "road", "pavement", "vegetation"]
    assert 0 not in scenes.values()


def test_where_no_name_is_known_the_class_of_most_pixels_is_the_background():
    assert class_kinds(NAMES, np.array([10, 80, 10])).tolist() == [2, 0, 2]
    assert class_kinds(NAMES, np.array([10, 50, 40])).tolist() == [2, 0, 2]
    assert class_kinds(NAMES, np.array([10, 49, 41])).tolist() == [2, 2, 2]
    assert class_kinds(("lesion", "background"), np.array([80, 20])).tolist() == [2, 0]
    assert class_kinds(NAMES, np.zeros(3, np.int64)).tolist() == [2, 2, 2]


def test_what_the_user_says_counts():
    pixels = np.array([10, 80, 10])
    assert class_kinds(NAMES, pixels, background=["hair"], stuff=["skin"]).tolist() == [2, 1, 0]
    assert class_kinds(NAMES, pixels, background=[]).tolist() == [2, 2, 2]
    assert class_kinds(("background", "car"), background=["car"]).tolist() == [2, 0]
    assert class_kinds(("sky", "background"), stuff=[]).tolist() == [2, 0]
    with pytest.raises(UsageError, match="no class is called nose"):
        class_kinds(NAMES, background=["nose"])
    with pytest.raises(UsageError, match="skin cannot be both"):
        class_kinds(NAMES, background=["skin"], stuff=["skin"])


def test_kinds_are_told():
    assert kinds_text(NAMES, np.array([2, 0, 1])) == "background: skin; stuff: hair; all other classes are things"
    assert kinds_text(NAMES, np.array([2, 2, 2])) == "all classes are things"
    assert Kind.BACKGROUND < Kind.STUFF < Kind.THING
