"""Kinds of values that flags take."""

from __future__ import annotations

import argparse

import pytest

from trainables.flags import share, tile, whole


@pytest.mark.parametrize("text", ["-1", "1.5", "many", "", "\u00b2"])
def test_what_is_no_whole_number_is_named(text: str) -> None:
    assert whole("0") == 0
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' must be a whole number, 0 or more"):
        whole(text)


@pytest.mark.parametrize("text", ["-0.1", "1.1", "half", "nan"])
def test_what_is_no_share_is_named(text: str) -> None:
    assert (share("0"), share("0.5"), share("1")) == (0.0, 0.5, 1.0)
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' must be a number within 0 .. 1"):
        share(text)


@pytest.mark.parametrize("text", ["512@0", "512@2", "512@x"])
def test_a_scale_that_is_none_is_named(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"{text!r}: the scale must be within 0.05 to 1"):
        tile(text)


@pytest.mark.parametrize("text", ["", "x", "512x", "-3", "5.5", "big", "1x2x3"])
def test_what_is_no_tile_is_named(text: str) -> None:
    assert (tile("512"), tile(" 300X8000 "), tile("64@.5")) == ("512x512", "300x8000", "64x64@0.5")
    with pytest.raises(argparse.ArgumentTypeError, match=f"{text!r} must be pixels, such as 512, or HEIGHTxWIDTH"):
        tile(text)
