"""What the plan says of the size of images and of the model's input."""

from __future__ import annotations

import pytest

from search_spaces.core.parameter import choice
from search_spaces.core.space import SearchSpace
from sweep.inputs_view import inputs_text
from trainables.data.usual_size import UsualSize

VOC = UsualSize((336, 448), ((375, 500), (375, 500), (500, 375)), (384, 384))


def told(usual: UsualSize, *searched: str, **held: str) -> str:
    parameters = (choice("image_size", searched, role="scientific", reason="some"),) if searched else ()
    return inputs_text(SearchSpace("any", "", parameters, "model.name"), held, usual)


def test_a_size_that_nobody_chose_is_told_with_where_it_comes_from_and_what_is_void() -> None:
    assert told(VOC, image_size="336x448", resize="letterbox") == (
        "median 375x500; resized to fit within 336x448 with their aspect kept; 15% of an input of 336x448 is void on "
        "average (336x448: the median's aspect, about as many pixels as 384x384)"
    ), "3:4 takes 9/16 of 4:3, which is a third of (1 - 9/16)"


def test_a_size_of_the_users_or_of_the_data_set_needs_no_reason() -> None:
    assert told(VOC, image_size="96x96", resize="letterbox") == (
        "median 375x500; resized to fit within 96x96 with their aspect kept; 25% of an input of 96x96 is void on "
        "average"
    )
    camvid = UsualSize((360, 480), ((360, 480),) * 3, (360, 480))
    assert told(camvid, image_size="360x480", resize="letterbox") == "all 360x480, as large as the model's input"
    assert told(camvid, image_size="120x160", resize="letterbox") == (
        "all 360x480; resized to fit within 120x160 with their aspect kept"
    )


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ("256x256", ": what they show becomes 1.33 times as tall for their width (resize=letterbox keeps it)"),
        ("96x256", ": what they show becomes 2.00 times as wide for their height (resize=letterbox keeps it)"),
        ("192x256", ""),
    ],
)
def test_what_stretching_does_to_shapes_is_told(size: str, shape: str) -> None:
    assert told(VOC, image_size=size, resize="stretch") == f"median 375x500; stretched to {size}{shape}"
    assert told(VOC, image_size=size).startswith("median 375x500; stretched"), "as sweeps of earlier did"


def test_sizes_that_are_searched_are_named() -> None:
    found = told(VOC, "256x336", "336x448", resize="letterbox")
    assert "fit within 256x336, 336x448" in found or "fit within 256x336 and 336x448" in found


def test_images_whose_size_cannot_be_read_are_no_fault() -> None:
    unknown = UsualSize((64, 64), (), (64, 64))
    assert unknown.median is None and unknown.void_share((64, 64)) == 0
    assert "not known" in told(unknown, image_size="64x64", resize="stretch")
