"""What the plan says of the size of images and of the model's input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from search_spaces.core.parameter import choice
from search_spaces.core.space import SearchSpace
from sweep.inputs_view import inputs_text, lost_text
from tests.mini import write
from trainables.data import DATASETS
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
    assert "resized to 0.5" in told(camvid, image_size="360x480", resize="tile@0.5")
    assert told(camvid, image_size="120x160", resize="letterbox") == (
        "all 360x480; resized to fit within 120x160 with their aspect kept"
    )


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ("256x256", ": what they show becomes 1.33 times as tall for their width (resize=crop keeps it)"),
        ("96x256", ": what they show becomes 2.00 times as wide for their height (resize=crop keeps it)"),
        ("192x256", ""),
    ],
)
def test_what_stretching_does_to_shapes_is_told(size: str, shape: str) -> None:
    assert told(VOC, image_size=size, resize="stretch") == f"median 375x500; stretched to {size}{shape}"
    assert told(VOC, image_size=size).startswith("median 375x500; stretched"), "as sweeps of earlier did"


def test_parts_of_images_are_told_with_how_many_there_are() -> None:
    # 187,500 pixels are 11.4 tiles of 16,384; windows that overlap by 32: 4 along 375 pixels, 5 along 500.
    assert told(VOC, image_size="128x128", resize="tile") == (
        "median 375x500; not resized: training sees random tiles of 128x128, 12 of an image in an epoch (as many as "
        "its pixels fill, at most 16); an evaluation slides 20 windows over an image, which overlap by 25% or more"
    )
    # At half the scale 47,000 pixels are 2.9 tiles; windows: 2 along 188 pixels, 3 along 250.
    assert told(VOC, image_size="128x128", resize="tile@0.5") == (
        "median 375x500; resized to 0.5 of their height and width, masks scored at full size: training sees random "
        "tiles of 128x128, 3 of an image in an epoch (as many as its pixels fill, at most 16); an evaluation slides 6 "
        "windows over an image, which overlap by 25% or more"
    )
    around = {"image_size": "96x96", "resize": "crop", "training.class_tiles": 0.3}
    assert told(VOC, **around).endswith("the whole image; 30% of training's parts are drawn around a class of the mask")
    assert told(VOC, image_size="96x96", resize="crop") == (
        "median 375x500; each resized to cover 96x96 with its aspect kept: training sees a random part of that size, "
        "an evaluation the whole image"
    )


def test_tiles_are_proposed_where_resizing_loses_what_masks_show(tmp_path: Path) -> None:
    data = DATASETS.get("folder")(root=write(tmp_path / "small", count=2, sizes=((60, 80),)))
    for number in range(2):
        path = data.paths(f"im{number:03d}")[1]
        mask = np.zeros((640, 960), np.uint8)
        mask[:, 500:] = 1
        for row in range(9):
            mask[row * 60 : row * 60 + 5, 100:105] = 2  # 25 pixels each: 25 / 225 of a pixel is left
        mask[600:603, 10:13] = 2  # a speck
        PIL.Image.fromarray(mask).save(path)
    nothing = SearchSpace("any", "", (), "model.name")

    def proposed(size: str, resize: str) -> str:
        return lost_text(nothing, {"image_size": size, "resize": resize}, data, data.ids())

    assert proposed("64x64", "letterbox") == (
        "with images resized to 64x64, 18 of 22 connected parts of classes (in 2 masks) would be smaller than a pixel: "
        "--tile 512 trains on parts of the images as they are"
    )
    assert proposed("320x480", "letterbox") == "" == proposed("64x64", "tile")
    assert "18 of 22" in proposed("64x64", "crop"), "a tenth of each side: a quarter of a pixel is left"


def test_sizes_that_are_searched_are_named() -> None:
    found = told(VOC, "256x336", "336x448", resize="letterbox")
    assert "fit within 256x336, 336x448" in found or "fit within 256x336 and 336x448" in found


def test_images_whose_size_cannot_be_read_are_no_fault() -> None:
    unknown = UsualSize((64, 64), (), (64, 64))
    assert unknown.median is None and unknown.void_share((64, 64)) == 0
    assert "not known" in told(unknown, image_size="64x64", resize="stretch")
