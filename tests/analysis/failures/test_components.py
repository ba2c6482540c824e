"""Components of every class at once are those that scipy finds class by class."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from analysis.failures.components import find_components

MASKS = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.sampled_from([0, 1, 2, 255]))


@settings(max_examples=200, deadline=None)
@given(MASKS, st.sampled_from([4, 8]))
def test_components_are_those_that_scipy_finds_for_each_class(mask, connectivity):
    found = find_components(mask, connectivity=connectivity)
    structure = np.ones((3, 3)) if connectivity == 8 else None
    count = 0
    for value in np.unique(mask):
        labels, number = ndimage.label(mask == value, structure)
        count += number
        for place, box in enumerate(ndimage.find_objects(labels), start=1):
            own = np.unique(found.labels[labels == place])
            assert len(own) == 1
            assert (found.labels == own[0]).sum() == (labels == place).sum() == found.pixels[own[0]]
            assert found.values[own[0]] == value
            assert found.boxes[own[0]].tolist() == [box[0].start, box[1].start, box[0].stop, box[1].stop]
    assert len(found) == count
    firsts = [int(np.argmax(found.labels.ravel() == number)) for number in range(count)]
    assert firsts == sorted(firsts)


def test_corners_connect_where_asked():
    mask = np.array([[1, 0], [0, 1]], np.uint8)
    assert len(find_components(mask, connectivity=8)) == 2
    assert len(find_components(mask, connectivity=4)) == 4
    with pytest.raises(ValueError, match="4 or 8"):
        find_components(mask, connectivity=6)
