from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from trainables.data.read import read_image, read_mask
from trainables.errors import DataError

IDS = np.array([[0, 1, 2], [20, 254, 255]], np.uint8)


def test_mask_gives_the_stored_ids_with_and_without_palette(tmp_path: Path) -> None:
    grey = PIL.Image.fromarray(IDS)
    grey.save(tmp_path / "grey.png")
    palette = grey.copy()
    palette.putpalette(list(np.random.default_rng(0).integers(0, 256, 768, np.uint8)))
    palette.save(tmp_path / "palette.png")
    assert PIL.Image.open(tmp_path / "palette.png").mode == "P"
    for name in ("grey.png", "palette.png"):
        np.testing.assert_array_equal(read_mask(tmp_path / name), IDS)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "1", "I;16", "LA"])
def test_mask_of_another_mode_names_the_mode_and_the_cure(tmp_path: Path, mode: str) -> None:
    PIL.Image.new(mode, (4, 4)).save(tmp_path / "m.png")
    with pytest.raises(DataError, match=r"m\.png.*mode.*convert it to a PNG"):
        read_mask(tmp_path / "m.png")


def test_image_becomes_rgb_from_grey_palette_and_alpha(tmp_path: Path) -> None:
    for mode in ("L", "P", "RGBA", "RGB"):
        PIL.Image.new(mode, (5, 4)).save(tmp_path / "i.png")
        image = read_image(tmp_path / "i.png")
        assert (image.shape, image.dtype) == ((4, 5, 3), np.uint8)


def test_deep_image_is_refused_instead_of_clipped(tmp_path: Path) -> None:
    PIL.Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match="8-bit RGB"):
        read_image(tmp_path / "deep.png")


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_truncated_file_is_an_error_with_its_path(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut.{suffix}"
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"cut\.{suffix}: image cannot be decoded"):
        read_image(path)


def test_missing_empty_and_foreign_files_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match="mask is missing"):
        read_mask(tmp_path / "gone.png")
    for name in ("empty.png", "text.png"):
        with pytest.raises(DataError, match="cannot be decoded"):
            read_mask(tmp_path / name)
