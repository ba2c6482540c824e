"""Folders of images with other bands than red, green and blue: what is read, told, and asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
import tifffile

from trainables.data import init
from trainables.data.cache.scan import band_statistics, scan
from trainables.data.find import find
from trainables.data.folder import Folder
from trainables.data.layouts.finding import Said, UndecidedError
from trainables.data.near_duplicates import likeness
from trainables.errors import DataError

SIZE = (12, 16)
IDS = ("a", "b", "c", "d")


def values(seed: int, bands: int = 4, most: int = 4096) -> npt.NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(0, most, (*SIZE, bands), np.uint16)


def folder(root: Path, images: dict[str, npt.NDArray[Any]] | None = None, **options: Any) -> Path:
    """Images of four bands of 12 bits in 16, and masks of two classes."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    how = {"photometric": "minisblack", "planarconfig": "contig", **options}
    for number, image_id in enumerate(IDS):
        pixels = values(number) if images is None else images[image_id]
        tifffile.imwrite(root / "images" / f"{image_id}.tif", pixels, **how)
        mask = np.zeros(SIZE, np.uint8)
        mask[4:, : 6 + number] = 1
        PIL.Image.fromarray(mask).save(root / "masks" / f"{image_id}.png")
    return root


def asked(root: Path, said: Said | None = None) -> UndecidedError:
    with pytest.raises(UndecidedError) as error:
        find(root, said)
    assert "\n" not in str(error.value)
    return error.value


def test_all_bands_are_seen_unless_some_are_named(tmp_path: Path) -> None:
    root = folder(tmp_path / "data")
    data = Folder(root)
    assert data.bands is not None
    assert (data.bands.numbers, data.bands.of, data.channels, data.image_bits) == ((1, 2, 3, 4), 4, 4, 12)
    assert np.array_equal(data.image("b"), values(1) // 16)
    assert data.picture("b").shape == (*SIZE, 3)
    text = "\n".join(data.notes())
    assert "4 images of 4 bands of 16 bits: the model sees all, in their order" in text
    assert "4 images deeper than 8 bits, with values up to 12 bits: read divided by 16" in text
    some = Folder(root, find(root, Said(channels=(4, 3, 2), rgb=(4, 3, 2))))
    assert np.array_equal(some.image("b"), values(1)[..., [3, 2, 1]] // 16)
    assert some.bands is not None
    assert some.bands.places == (0, 1, 2)
    assert len({data.decoding(), some.decoding(), Folder(root, find(root, Said(channels=(2, 3, 4)))).decoding()}) == 3


def test_init_says_how_many_bands_there_are_and_writes_down_what_it_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder(tmp_path / "data")
    assert init.main([str(root), "--channels", "4,3,2", "--rgb", "3,2,1"]) == 0
    told = capsys.readouterr().out
    assert "bands      4 images of 4 bands of 16 bits: the model sees bands 4,3,2, in this order" in told
    assert "bands      red, green and blue are not all among them; pictures show bands 4,3,2 as RGB" in told
    data = Folder(root)
    assert data.bands is not None
    assert (data.bands.numbers, data.image_bits) == ((4, 3, 2), 12)
    for flags in (["--channels", "4,4"], ["--channels", "0"], ["--rgb", "1,2"], ["--range", "3,1"]):
        assert init.main([str(root), *flags]) == 2
    assert init.main([str(root), "--channels", "5"]) == 1
    assert "band 5 is asked for, and 4 images do not have it" in capsys.readouterr().err


@pytest.mark.parametrize(("marked", "opaque"), [("unassalpha", False), ("unspecified", True)])
def test_a_fourth_band_that_may_be_transparency_is_asked_about(tmp_path: Path, marked: str, opaque: bool) -> None:
    """Infrared marked as transparency, as GDAL does with four bands of 8 bits, and transparency not marked as such."""
    images = {image_id: values(number, 4, 250).astype(np.uint8) for number, image_id in enumerate(IDS)}
    for pixels in images.values():
        pixels[..., 3] = 255 if opaque else pixels[..., 3]
    root = folder(tmp_path / "data", images, photometric="rgb", extrasamples=[marked])
    error = asked(root)
    assert "band 4 of 4 images " in str(error)
    assert error.question.answers[0][0] == ("--channels", "all")
    everything = Folder(root, find(root, Said(channels=())))
    assert np.array_equal(everything.image("c"), images["c"])
    assert everything.bands is not None
    assert everything.bands.places == (0, 1, 2)  # the file says RGB
    assert np.array_equal(Folder(root, find(root, Said(channels=(1, 2, 3)))).image("c"), images["c"][..., :3])


def test_red_green_blue_and_real_transparency_are_an_ordinary_picture(tmp_path: Path) -> None:
    images = {image_id: values(number, 4, 250).astype(np.uint8) for number, image_id in enumerate(IDS)}
    for pixels in images.values():
        pixels[..., 3] = 255
    root = folder(tmp_path / "data", images, photometric="rgb", extrasamples=["unassalpha"])
    data = Folder(root)
    assert data.bands is None
    with PIL.Image.open(root / "images" / "a.tif") as image:
        assert np.array_equal(data.image("a"), np.asarray(image.convert("RGB")))


def test_images_of_different_numbers_of_bands_are_asked_about(tmp_path: Path) -> None:
    root = folder(tmp_path / "data")
    PIL.Image.fromarray(values(9, 3, 250).astype(np.uint8)).save(root / "images" / "a.tif")
    error = asked(root)
    assert "3 bands (1 image), 4 bands (3 images)" in str(error)
    assert error.question.answers[0][0] == ("--channels", "1,2,3")
    data = Folder(root, find(root, Said(channels=(1, 2, 3))))
    assert np.array_equal(data.image("a"), values(9, 3, 250))
    assert np.array_equal(data.image("b"), values(1)[..., :3] // 16)


@pytest.mark.parametrize("told_nothing", [False, True])
def test_pages_of_an_image_with_one_mask_may_be_its_bands(tmp_path: Path, told_nothing: bool) -> None:
    """A writer that was not told of bands makes pages: of size (H, W), or (W, bands) of an array (H, W, bands)."""
    root = folder(tmp_path / "data")
    tall = {image_id: np.repeat(values(number), 2, axis=0) for number, image_id in enumerate(IDS)}
    for image_id, pixels in tall.items():
        written = pixels if told_nothing else np.moveaxis(pixels, -1, 0)
        tifffile.imwrite(root / "images" / f"{image_id}.tif", written, photometric="minisblack")
        mask = np.repeat(np.asarray(PIL.Image.open(root / "masks" / f"{image_id}.png")), 2, axis=0)
        PIL.Image.fromarray(mask).save(root / "masks" / f"{image_id}.png")
    assert asked(root).question.answers[0][0] == ("--pages", "bands")
    data = Folder(root, find(root, Said(pages="bands")))
    assert list(data.ids()) == list(IDS)
    assert np.array_equal(data.image("b"), tall["b"] // 16)


def test_values_beyond_16_bits_are_asked_about_with_their_range(tmp_path: Path) -> None:
    images = {image_id: values(number).astype(np.int32) - 50 for number, image_id in enumerate(IDS)}
    root = folder(tmp_path / "data", images)
    everything = np.stack(list(images.values()))
    low, high = int(everything.min()), int(everything.max())
    error = asked(root)
    assert error.question.answers[0][0] == (f"--range={low},{high}",)
    data = Folder(root, find(root, Said(scale=(low, high))))
    wanted = np.rint((images["d"] - low) * 255 / (high - low))
    assert np.array_equal(data.image("d"), wanted)


def test_statistics_are_those_of_the_images_asked_for(tmp_path: Path) -> None:
    """Against NumPy on the pixels; the border, 0 in all bands, is left out, and so is every image not asked for."""
    images = {image_id: values(number) for number, image_id in enumerate(IDS)}
    images["a"][:3] = 0
    images["d"][...] = 4095
    data = Folder(folder(tmp_path / "data", images))
    seen = np.concatenate([data.image("a")[3:].reshape(-1, 4), data.image("b").reshape(-1, 4)]) / 255
    found = np.array(band_statistics(data, ["a", "b"]))
    assert np.allclose(found[:, 0], seen.mean(axis=0), atol=1e-12)
    assert np.allclose(found[:, 1], seen.std(axis=0), atol=1e-12)
    assert band_statistics(data, ["a", "b"]) == band_statistics(data, ["b", "a"])
    small = {image_id: record.thumbnail for image_id, record in scan(data).items()}
    assert likeness([small["a"]], [small["a"]])[0, 0] == pytest.approx(1, abs=1e-3)


def test_a_description_is_checked(tmp_path: Path) -> None:
    root = folder(tmp_path / "data")
    (root / "classes.json").write_text(
        '{"classes": ["x", "y"], "channels": [1, 1], "rgb": [0, 1, 2], "range": [2, 1], "pages": "images"}'
    )
    with pytest.raises(DataError) as error:
        find(root)
    for key in ("channels: must be", "rgb: must be", "range: must be", "pages: must be"):
        assert key in str(error.value)
