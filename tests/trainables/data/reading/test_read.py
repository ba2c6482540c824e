import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from trainables.data.reading.read import exif_orientation, read_image, read_mask, read_stored_mask
from trainables.data.reading.stored import (
    NOTHING,
    TRANSPARENT,
    as_declared,
    count_stored,
    is_color,
    is_transparent,
    pack_channels,
    pack_color,
    with_transparency,
)
from trainables.errors import DataError

IDS = np.array([[0, 1, 2], [20, 254, 255]], np.uint8)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def grey_png(bits: int, row: bytes, width: int) -> bytes:
    """A grey PNG of one row with less than 8 bits a pixel, put together by hand: PIL does not write them."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, 1, bits, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" + row)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_mask_gives_the_stored_ids_with_and_without_palette(tmp_path: Path) -> None:
    grey = PIL.Image.fromarray(IDS)
    grey.save(tmp_path / "grey.png")
    palette = grey.copy()
    palette.putpalette(list(np.random.default_rng(0).integers(0, 256, 768, np.uint8)))
    palette.save(tmp_path / "palette.png")
    assert PIL.Image.open(tmp_path / "palette.png").mode == "P"
    for name in ("grey.png", "palette.png"):
        for read in (read_mask, read_stored_mask):
            np.testing.assert_array_equal(read(tmp_path / name), IDS)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_where_ids_are_wanted_are_refused_with_the_cure(tmp_path: Path, mode: str) -> None:
    PIL.Image.new(mode, (4, 4)).save(tmp_path / "m.png")
    with pytest.raises(DataError, match=r"m\.png.*colours.*convert it to a PNG"):
        read_mask(tmp_path / "m.png")


@pytest.mark.parametrize("mode", ["CMYK", "LAB", "YCbCr"])
def test_mask_of_a_mode_without_ids_or_colours_names_the_mode_and_the_cure(tmp_path: Path, mode: str) -> None:
    PIL.Image.new(mode, (4, 4)).save(tmp_path / "m.tif")
    for read in (read_mask, read_stored_mask):
        with pytest.raises(DataError, match=rf"m\.tif.*mode ({mode}|RGB).*convert it to a PNG|colours"):
            read(tmp_path / "m.tif")


@pytest.mark.parametrize(("bits", "row"), [(2, bytes([0b00_01_10_11])), (4, bytes([0x01, 0x23]))])
def test_grey_mask_of_few_bits_gives_its_ids_although_decoders_stretch_them(
    tmp_path: Path, bits: int, row: bytes
) -> None:
    path = tmp_path / "m.png"
    path.write_bytes(grey_png(bits, row, 4))
    assert np.asarray(PIL.Image.open(path)).tolist() != [[0, 1, 2, 3]]
    assert read_mask(path).tolist() == [[0, 1, 2, 3]]


def test_tiff_that_keeps_black_as_the_largest_value_gives_the_stored_ids(tmp_path: Path) -> None:
    """PhotometricInterpretation 0 (WhiteIsZero), set by hand in a file that PIL wrote."""
    path = tmp_path / "m.tif"
    PIL.Image.fromarray(IDS).save(path)
    content = bytearray(path.read_bytes())
    entry = content.index(struct.pack("<HHIH", 262, 3, 1, 1))
    content[entry + 8] = 0
    path.write_bytes(content)
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(path)), 255 - IDS)
    np.testing.assert_array_equal(read_mask(path), IDS)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.int64, bool])
def test_ids_of_any_depth_are_the_same_ids(tmp_path: Path, dtype: type) -> None:
    ids = (IDS > 1) if dtype is bool else IDS.astype(dtype)
    np.save(tmp_path / "m.npy", ids[None])
    if dtype is not np.int64:
        PIL.Image.fromarray(ids).save(tmp_path / "m.tif")
    for path in tmp_path.iterdir():
        stored = read_stored_mask(path)
        assert stored.dtype == np.uint8
        np.testing.assert_array_equal(stored, ids.astype(np.uint8))


def test_values_that_are_no_ids_are_refused(tmp_path: Path) -> None:
    for values, why in (
        (np.array([[0.5, 1]]), "not whole numbers"),
        (np.array([[np.nan, 1]]), "not whole numbers"),
        (np.array([[1 << 24]]), "ids reach"),
        (np.zeros((3, 4, 5)), "shape"),
        (np.zeros(3), "shape"),
        (np.array([["a"]]), "shape"),
    ):
        np.save(tmp_path / "m.npy", values)
        with pytest.raises(DataError, match=rf"m\.npy: mask .*{why}"):
            read_stored_mask(tmp_path / "m.npy")
    np.save(tmp_path / "m.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"m\.npy: mask cannot be decoded"):
        read_stored_mask(tmp_path / "m.npy")


def test_large_and_negative_ids_stay_apart_from_colours(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.array([[-1, 300, 70000]]))
    stored = read_stored_mask(tmp_path / "m.npy")
    assert stored.tolist() == [[-1, 300, 70000]] and stored.dtype == np.int32
    assert not any(is_color(value) or is_transparent(value) for value in stored.ravel().tolist())


def test_gif_is_read_by_its_colours_as_its_palette_is_numbered_anew(tmp_path: Path) -> None:
    PIL.Image.fromarray(np.array([[0, 7, 9, 9]], np.uint8)).save(tmp_path / "m.gif")
    with PIL.Image.open(tmp_path / "m.gif") as image:
        assert np.asarray(image).tolist() == [[0, 1, 2, 2]], "PIL numbered them anew"
    stored = read_stored_mask(tmp_path / "m.gif")
    assert as_declared(stored, {0: 0, 7: 1, 9: 2}).tolist() == [[0, 7, 9, 9]]


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({0: 0, 7: 1}, [0, 7]),
        ({0: 0, 7: 1, pack_color((0, 0, 0)): 0}, [0, 7]),
        # (0, 0, 0) is the colour of class 1, 0 the id of class 0: which is meant is not known.
        ({0: 0, 7: 1, pack_color((0, 0, 0)): 1}, None),
        ({0: 0, 8: 1}, None),
        ({0: 0, 7: 1, pack_color((0, 0, 0)): 1, pack_color((7, 7, 7)): 0}, None),
    ],
)
def test_three_equal_channels_are_ids_only_where_nothing_else_can_be_meant(
    declared: dict[int, int], expected: list[int] | None
) -> None:
    stored = pack_channels(np.array([[[0, 0, 0], [7, 7, 7]]], np.uint8))
    assert as_declared(stored, declared).tolist() == ([expected] if expected else stored.tolist())


def test_transparent_pixels_keep_what_is_beneath_if_it_is_declared(tmp_path: Path) -> None:
    pixels = np.array([[[9, 0, 0, 255], [9, 0, 0, 0], [1, 2, 3, 0], [1, 2, 3, 255]]], np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "m.png")
    known, strange = pack_color((9, 0, 0)), pack_color((1, 2, 3))
    stored = as_declared(read_stored_mask(tmp_path / "m.png"), {known: 0})
    assert stored.tolist() == [[known, known | TRANSPARENT, NOTHING, strange]]
    assert [with_transparency({known: 0}, 255).get(value) for value in stored[0].tolist()] == [0, 0, 255, None]


def test_palette_mask_of_few_bits_gives_its_ids(tmp_path: Path) -> None:
    mask = PIL.Image.fromarray(np.array([[0, 1, 2, 3]], np.uint8))
    mask.putpalette([9, 9, 9, 8, 8, 8, 7, 7, 7, 6, 6, 6])
    mask.save(tmp_path / "m.png", bits=2)
    assert read_mask(tmp_path / "m.png").tolist() == [[0, 1, 2, 3]]


def test_colour_mask_gives_packed_colours_and_their_counts(tmp_path: Path) -> None:
    colors = [(0, 0, 5), (5, 0, 0), (255, 255, 255), (1, 2, 3)]
    pixels = np.array(colors, np.uint8)[noise(7, 9) % 4]
    PIL.Image.fromarray(pixels).save(tmp_path / "m.png")
    stored = read_stored_mask(tmp_path / "m.png")
    expected = {pack_color(c): int((pixels == c).all(axis=-1).sum()) for c in colors}
    assert count_stored(stored) == expected
    assert min(expected) > 255, "no colour is taken for an id"
    for color in colors:
        np.testing.assert_array_equal(stored == pack_color(color), (pixels == color).all(axis=-1))


def test_ids_are_counted_as_a_loop_counts_them() -> None:
    stored = noise(30, 40) % 7 * 40
    assert count_stored(stored) == {value: int((stored == value).sum()) for value in range(0, 256, 40)}


def test_lossy_masks_are_refused(tmp_path: Path) -> None:
    pixels = noise(32, 32, 3)
    PIL.Image.fromarray(pixels).save(tmp_path / "rgb.jpg")
    PIL.Image.fromarray(pixels).convert("L").save(tmp_path / "ids.jpg")
    PIL.Image.fromarray(pixels).save(tmp_path / "lossy.webp")
    PIL.Image.fromarray(pixels).save(tmp_path / "lossy.tif", compression="jpeg")
    for path in sorted(tmp_path.iterdir()):
        for read in (read_mask, read_stored_mask):
            with pytest.raises(DataError, match=rf"{path.name}: mask is a .*, which changes ids and colours"):
                read(path)
    exact = tmp_path / "exact.webp"
    PIL.Image.fromarray(pixels).save(exact, lossless=True)
    np.testing.assert_array_equal(read_stored_mask(exact), pack_channels(pixels))


@pytest.mark.parametrize("factor", [1, 256, 257])
def test_colours_of_16_bits_become_the_8_bits_they_were_made_from(tmp_path: Path, factor: int) -> None:
    pixels = noise(5, 6, 3)
    for suffix in ("png", "tif"):
        cv2.imwrite(str(tmp_path / f"m.{suffix}"), pixels[..., ::-1].astype(np.uint16) * factor)
        np.testing.assert_array_equal(read_stored_mask(tmp_path / f"m.{suffix}"), pack_channels(pixels))
    cv2.imwrite(str(tmp_path / "m.png"), np.full((4, 4, 3), 300, np.uint16))
    with pytest.raises(DataError, match="no colours of 8 bits"):
        read_stored_mask(tmp_path / "m.png")


def test_image_becomes_rgb_from_grey_palette_alpha_and_print(tmp_path: Path) -> None:
    for mode in ("1", "L", "LA", "P", "RGBA", "RGB"):
        PIL.Image.new(mode, (5, 4)).save(tmp_path / "i.png")
        image = read_image(tmp_path / "i.png")
        assert (image.shape, image.dtype) == ((4, 5, 3), np.uint8)
    PIL.Image.new("CMYK", (5, 4), (255, 0, 0, 0)).save(tmp_path / "i.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "i.jpg").astype(int) - (0, 255, 255)).max() <= 3
    PIL.Image.new("CMYK", (5, 4), (255, 0, 0, 0)).save(tmp_path / "i.tif")
    assert (read_image(tmp_path / "i.tif") == (0, 255, 255)).all()


def test_alpha_is_dropped_and_leaves_the_colour_beneath(tmp_path: Path) -> None:
    pixels = noise(6, 5, 4)
    PIL.Image.fromarray(pixels).save(tmp_path / "i.png")
    np.testing.assert_array_equal(read_image(tmp_path / "i.png"), pixels[..., :3])


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 3)])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_deep_image_is_refused_instead_of_clipped(tmp_path: Path, shape: tuple[int, ...], suffix: str) -> None:
    path = tmp_path / f"deep.{suffix}"
    cv2.imwrite(str(path), np.full(shape, 4000, np.uint16))
    with pytest.raises(DataError, match="8-bit RGB"):
        read_image(path)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_orientation_is_told_and_not_applied(tmp_path: Path, orientation: int) -> None:
    pixels = noise(6, 9, 3)
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.fromarray(pixels).save(tmp_path / "i.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "i.png"), pixels)
    assert exif_orientation(tmp_path / "i.png") == orientation


def test_orientation_of_what_has_none_is_upright(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (4, 4)).save(tmp_path / "i.png")
    (tmp_path / "text.png").write_text("no image")
    exif = PIL.Image.Exif()
    exif[0x0112] = 77
    PIL.Image.new("RGB", (4, 4)).save(tmp_path / "odd.jpg", exif=exif)
    for name in ("i.png", "text.png", "odd.jpg", "gone.png"):
        assert exif_orientation(tmp_path / name) == 1


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "bmp", "gif"])
def test_truncated_file_is_an_error_or_loses_no_pixel(tmp_path: Path, suffix: str) -> None:
    whole, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    PIL.Image.fromarray(noise(40, 50, 3)).save(whole)
    content, expected = whole.read_bytes(), read_image(whole)
    refused = 0
    for kept in {*range(0, len(content), 1 + len(content) // 40), *range(len(content) - 24, len(content))}:
        cut.write_bytes(content[:kept])
        try:
            np.testing.assert_array_equal(read_image(cut), expected)
        except DataError as error:
            assert str(error).startswith(f"{cut}: image cannot be decoded")
            refused += 1
    assert refused >= 38


def test_missing_empty_and_foreign_files_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match="mask is missing"):
        read_mask(tmp_path / "gone.png")
    for name in ("empty.png", "text.png"):
        with pytest.raises(DataError, match="cannot be decoded"):
            read_mask(tmp_path / name)
