"""Files of several bands: decoded as they were written, by writers other than the reader."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
import tifffile

from trainables.data.bands import Bands, grey_of, picture_of
from trainables.data.reading.rasters import Raster, raster_of, read_bands
from trainables.data.reading.read import exif_orientation, read_image, stored_size
from trainables.errors import DataError

SIZE = (7, 9)


def values(bands: int, most: int = 4096) -> npt.NDArray[np.uint16]:
    """Values (H, W, bands) of which no two bands are alike."""
    return np.random.default_rng(bands).integers(0, most, (*SIZE, bands), np.uint16)


def write_by_hand(path: Path, pixels: npt.NDArray[np.uint16], *, order: str, planes: bool) -> None:
    """A TIFF of 16 bits from the specification alone (TIFF 6.0): one strip for all bands, or one for each."""
    height, width, bands = pixels.shape
    little = pixels.astype(f"{order}u2")
    strips = [np.moveaxis(little, -1, 0)[band].tobytes() for band in range(bands)] if planes else [little.tobytes()]
    count = 10
    after = 8 + 2 + 12 * count + 4
    offsets_at, lengths_at, bits_at, extra_at = after, after + 4 * bands, after + 8 * bands, after + 10 * bands
    first = after + 12 * bands
    starts = [first + sum(map(len, strips[:place])) for place in range(len(strips))]

    def entry(tag: int, kind: int, number: int, value: int) -> bytes:
        packed = struct.pack(
            order + ("HH" if kind == 3 and number == 1 else "I"),
            *([value, 0] if kind == 3 and number == 1 else [value]),
        )
        return struct.pack(order + "HHI", tag, kind, number) + packed

    many = len(strips) > 1
    entries = [
        entry(256, 3, 1, width), entry(257, 3, 1, height), entry(258, 3, bands, bits_at), entry(259, 3, 1, 1),
        entry(262, 3, 1, 1), entry(273, 4, len(strips), offsets_at if many else starts[0]), entry(277, 3, 1, bands),
        entry(279, 4, len(strips), lengths_at if many else len(strips[0])), entry(284, 3, 1, 2 if planes else 1),
        entry(338, 3, bands - 1, extra_at),
    ]  # fmt: skip
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    directory = struct.pack(order + "H", count) + b"".join(entries) + struct.pack(order + "I", 0)
    tables = (
        struct.pack(f"{order}{bands}I", *(starts + [0] * bands)[:bands])
        + struct.pack(f"{order}{bands}I", *([len(strip) for strip in strips] + [0] * bands)[:bands])
        + struct.pack(f"{order}{bands}H", *[16] * bands)
        + struct.pack(f"{order}{bands}H", *[0] * bands)
    )
    path.write_bytes(head + directory + tables + b"".join(strips))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planes", [False, True])
def test_bands_of_a_file_written_by_hand_come_in_the_order_asked_for(tmp_path: Path, order: str, planes: bool) -> None:
    path, pixels = tmp_path / "a.tif", values(5)
    write_by_hand(path, pixels, order=order, planes=planes)
    found = read_bands(path, Bands((4, 3, 1), 5), bits=12)
    assert np.array_equal(found, pixels[..., [3, 2, 0]] // 16)
    assert not np.array_equal(found, found[..., ::-1])  # a swapped order would be seen
    assert stored_size(path) == SIZE


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "lzw", "predictor": True},
        {"compression": "deflate", "tile": (16, 16)},
        {"compression": "zstd", "planarconfig": "separate"},
    ],
)
def test_compressed_files_give_what_was_written(tmp_path: Path, options: dict[str, object]) -> None:
    path, pixels = tmp_path / "a.tif", values(6)
    planes = options.get("planarconfig") == "separate"
    written = np.moveaxis(pixels, -1, 0) if planes else pixels
    tifffile.imwrite(path, written, photometric="minisblack", **{"planarconfig": "contig", **options})
    raster = raster_of(path)
    assert raster is not None
    assert (raster.bands, raster.size, raster.dtype) == (6, SIZE, "uint16")
    assert (raster.low, raster.high) == (pixels.min(), pixels.max())
    assert np.array_equal(read_bands(path, Bands((1, 2, 3, 4, 5, 6), 6), bits=12), pixels // 16)


def test_sixteen_bits_are_not_cut_off(tmp_path: Path) -> None:
    """The low bytes of 16 bits, or the high ones of 12, would be wrong in silence."""
    path, pixels = tmp_path / "a.tif", np.full((*SIZE, 4), 0x0ABC, np.uint16)
    tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="contig")
    assert set(np.unique(read_bands(path, Bands((1, 2, 3, 4), 4), bits=12))) == {0xAB}
    with pytest.raises(DataError, match=r"values outside 0\.\.255"):
        read_bands(path, Bands((1,), 4), bits=8)


def test_what_pil_reads_as_something_else_is_a_raster(tmp_path: Path) -> None:
    planes, two, fourth = (tmp_path / f"{name}.tif" for name in ("planes", "two", "fourth"))
    tifffile.imwrite(planes, np.moveaxis(values(4), -1, 0), photometric="minisblack", planarconfig="separate")
    tifffile.imwrite(two, values(2).astype(np.uint8), photometric="minisblack", planarconfig="contig")
    tifffile.imwrite(fourth, values(4).astype(np.uint8), photometric="rgb", extrasamples=["unspecified"])
    for path, mode, bands in ((planes, "I;16", 4), (two, "L", 2), (fourth, "RGB", 4)):
        with PIL.Image.open(path) as image:
            assert image.mode == mode  # it drops bands without a word
        raster = raster_of(path)
        assert raster is not None
        assert raster.bands == bands


def test_pil_says_nothing_of_bands_that_it_cannot_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It logs an error for more than six bands, which stood on the screen once for each image."""
    path = tmp_path / "eight.tif"
    tifffile.imwrite(path, np.zeros((8, 9, 8), np.uint16), photometric="minisblack", planarconfig="contig")
    assert exif_orientation(path) == 1 and stored_size(path) == (8, 9)
    assert not caplog.records


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_transparency_is_told_from_infrared_by_its_values(tmp_path: Path, dtype: type[np.unsignedinteger]) -> None:
    path, pixels = tmp_path / "a.tif", values(4).astype(dtype)
    pixels[..., 3] = np.iinfo(dtype).max
    pixels[0, :2, 3] = 0
    tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=["unassalpha"])
    assert raster_of(path) is None  # an ordinary picture
    tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=["unspecified"])
    assert raster_of(path) == Raster(
        4, SIZE, np.dtype(dtype).name, rgb=True, alike=True, low=pixels.min(), high=pixels.max()
    )
    pixels[..., 3] = values(5)[..., 4]
    tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=["unassalpha"])
    raster = raster_of(path)
    assert raster is not None
    assert (raster.alpha, raster.alike) == (4, False)


def test_pictures_give_their_channels_as_pil_has_them(tmp_path: Path) -> None:
    """A picture's own channels, transparency too, where somebody asks for bands of it."""
    rgba = values(4, 256).astype(np.uint8)
    path = tmp_path / "a.png"
    PIL.Image.fromarray(rgba).save(path)
    assert np.array_equal(read_image(path, bands=Bands((4, 1), 4)), rgba[..., [3, 0]])
    tif = tmp_path / "a.tif"
    PIL.Image.fromarray(rgba[..., :3].copy()).save(tif, compression="tiff_lzw")
    with PIL.Image.open(tif) as image:
        assert np.array_equal(read_image(tif, bands=Bands((3, 2, 1), 3)), np.asarray(image)[..., ::-1])


def test_no_data_and_no_numbers_become_0(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pixels = np.linspace(0, 1, SIZE[0] * SIZE[1] * 3, dtype=np.float32).reshape(*SIZE, 3)
    pixels[0, 0] = -9999
    pixels[1, 1, 2] = -9999  # in one band alone
    pixels[2, 2, 1] = np.nan
    options = {"photometric": "minisblack", "planarconfig": "contig", "compression": "deflate", "predictor": 3}
    tag = (42113, "s", 0, "-9999", True)
    tifffile.imwrite(path, pixels, extratags=[tag], **options)
    raster = raster_of(path)
    assert raster is not None
    assert (raster.nodata, raster.high) == (True, 1)
    assert raster.low == pixels[pixels > -1].min()
    wanted = np.rint(np.where(np.isfinite(pixels) & (pixels >= 0), pixels, 0) * 255)
    assert np.array_equal(read_bands(path, Bands((1, 2, 3), 3), bits=0), wanted)


def test_a_range_becomes_0_to_255_and_what_lies_beyond_is_clipped(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.array([[[-20, 0], [10, 90]]] * 3, np.int16))
    bands = Bands((1, 2), 2, scale=(-10, 41))
    assert read_bands(path, bands).tolist() == [[[0, 50], [100, 255]]] * 3


@pytest.mark.parametrize("first", [False, True])
def test_arrays_have_their_bands_in_the_shortest_axis(tmp_path: Path, first: bool) -> None:
    path, pixels = tmp_path / "a.npy", values(5, 256).astype(np.uint8)
    np.save(path, np.moveaxis(pixels, -1, 0) if first else pixels)
    assert np.array_equal(read_bands(path, Bands((5, 1), 5)), pixels[..., [4, 0]])
    assert stored_size(path) == SIZE


def test_an_array_of_objects_is_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.array([[print]], object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be decoded"):
        read_bands(path, Bands((1,), 1))


def test_a_band_that_is_not_there_and_a_torn_file_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values(4), photometric="minisblack", planarconfig="contig", compression="lzw")
    with pytest.raises(DataError, match=r"image has 4 bands, and band 7 is wanted"):
        read_bands(path, Bands((1, 7), 7), bits=12)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="cannot be decoded"):
        read_bands(path, Bands((1,), 4), bits=12)


def test_a_picture_shows_three_bands_from_percentile_to_percentile() -> None:
    image = np.zeros((10, 10, 4), np.uint8)
    image[..., 3] = np.arange(100).reshape(10, 10) + 50
    image[..., 1] = 7
    shown = picture_of(image, Bands((5, 3, 2, 8), 8, colours=(8, 3, 5)))
    low, high = np.percentile(image[..., 3], (2, 98))
    assert np.array_equal(shown[..., 0], ((image[..., 3] - low) * 255 / (high - low)).round().clip(0, 255))
    assert set(np.unique(shown[..., 1])) == {7}  # without contrast: as it is
    assert picture_of(image[..., :1], Bands((3,), 8)).shape == (10, 10, 3)
    assert picture_of(image[..., :3], None) is not None
    assert np.array_equal(grey_of(image, Bands((1, 2, 3, 4), 4)), np.rint(image.mean(axis=-1)))


@pytest.mark.parametrize(
    "wrong",
    [{"numbers": []}, {"numbers": [1, 1]}, {"numbers": [5]}, {"numbers": [True]}, {"colours": [1, 2, 3]},
     {"scale": [3, 1]}, {"of": "4"}],
)  # fmt: skip
def test_bands_of_a_stranger_are_checked(wrong: dict[str, object]) -> None:
    bands = Bands((4, 2), 4, scale=(0, 1.5), pages=True)
    assert Bands.from_json(bands.to_json()) == bands
    with pytest.raises(DataError, match="not a choice of bands"):
        Bands.from_json({**bands.to_json(), **wrong})
