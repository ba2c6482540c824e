"""Which bands of image files a model sees, and from which range their values are scaled: said, found, or asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainables.data.bands import Bands
from trainables.data.layouts.finding import Question, Said, UndecidedError
from trainables.data.layouts.heads import Head
from trainables.data.reading.rasters import Raster, fitting_bits
from trainables.errors import DataError
from trainables.words import counted, some_of


def bands_of(root: Path, known: Mapping[Path, Head], said: Said, notes: list[str]) -> Bands | None:
    """Which bands of the images a model sees; None: the red, green and blue of ordinary pictures.

    Where nothing is said, it sees all bands of files that are no ordinary pictures, in their order, but for a band
    that the file says is transparency and that looks like it.

    Args:
        root: The data root, for questions.
        known: The images.
        said: What somebody said of it.
        notes: What has to be told is added.

    Raises:
        UndecidedError: If that cannot be known.
        DataError: If a band was named that an image does not have.
    """
    heads = {path: head for path, head in known.items() if head.bands}
    rasters = [head.raster for head in heads.values() if head.raster is not None]
    if not heads or not (rasters or said.channels is not None or said.scale is not None):
        return None
    counts = Counter(head.bands for head in heads.values())
    numbers = said.channels or None
    if said.channels is None:
        _check_alike(root, rasters)
    if numbers is None:
        numbers = _all(root, heads, rasters, counts, said)
    elif lacking := [path.name for path, head in heads.items() if head.bands < max(numbers)]:
        raise DataError(
            f"{root}: band {max(numbers)} is asked for, and {counted(len(lacking), 'image')} do not have it "
            f"({some_of(lacking)}); files have {_counts(counts)}: name bands that all of them have"
        )
    fewest = min(counts)
    colours = said.rgb or ((1, 2, 3) if all(_says_rgb(head) for head in heads.values()) else None)
    if colours is not None and max(colours) > fewest:
        raise DataError(f"{root}: --rgb names band {max(colours)}, and files have {_counts(counts)}")
    inside = colours if colours is not None and {*colours} <= {*numbers} else None
    bands = Bands(numbers, fewest, inside, said.scale, said.pages == "bands")
    _tell(bands, said, rasters, len(heads), notes)
    return bands


def depth_of(root: Path, known: Mapping[Path, Head], bands: Bands | None, said: Said, notes: list[str]) -> int | None:
    """From how many bits images deeper than 8 are scaled: the least that hold all values; None where none is deeper.

    Raises:
        UndecidedError: If there are values which no depth holds, and nobody said a range.
    """
    if said.image_bits is not None:
        return said.image_bits
    rasters = {path: head.raster for path, head in known.items() if head.raster is not None}
    deep = [head.bits for head in known.values() if head.bits is not None]
    if bands is not None and bands.scale is not None:
        low, high = bands.scale
        notes.append(f"values of images from {low:g} to {high:g} become 0 to 255; those beyond are clipped")
        return max(deep, default=None)
    for path, raster in rasters.items():
        if raster.dtype == "uint8":
            continue
        bits = fitting_bits(raster.low, raster.high, raster.dtype)
        if bits is None:
            raise UndecidedError(root, _range(path, rasters))
        deep.append(bits)
    if not deep:
        return None
    bits = max(deep)
    rule = "times 255" if bits == 0 else f"divided by {2 ** (bits - 8)}" if bits > 8 else "as they are"
    reach = "0 to 1" if bits == 0 else f"up to {bits} bits"
    notes.append(f"{counted(len(deep), 'image')} deeper than 8 bits, with values {reach}: read {rule}")
    return bits


def _all(
    root: Path, heads: Mapping[Path, Head], rasters: Sequence[Raster], counts: Counter[int], said: Said
) -> tuple[int, ...]:
    """All bands but transparency.

    Raises:
        UndecidedError: If files have different numbers of them.
    """
    common = list(range(1, min(counts) + 1))
    if len(counts) > 1:
        flag = ",".join(map(str, common))
        text = f"images have different numbers of bands ({_counts(counts)}), and a model sees the same of all"
        raise UndecidedError(root, Question(text, ((("--channels", flag), "those that all of them have"),)))
    clear = {raster.alpha for raster in rasters if raster.alpha and raster.alike}
    kept = common if said.channels is not None else [number for number in common if number not in clear]
    return tuple(kept)


def _check_alike(root: Path, rasters: Sequence[Raster]) -> None:
    """Asks where the last band is said to be transparency and does not look like it, or looks like it unsaid.

    Raises:
        UndecidedError: With the two readings.
    """
    for strange, why in (
        ([r for r in rasters if r.alpha and not r.alike], "is marked as transparency, but holds many values, as a band "
         "of measurements such as infrared does"),
        ([r for r in rasters if not r.alpha and r.alike and r.bands in (2, 4)], "holds nothing but its least and its "
         "greatest value, as transparency does, and is not marked as such"),
    ):  # fmt: skip
        if strange:
            last = strange[0].alpha or strange[0].bands
            others = ",".join(str(number) for number in range(1, strange[0].bands + 1) if number != last)
            text = f"band {last} of {counted(len(strange), 'image')} {why}"
            answers = (("--channels", "all"), "it is a band like the others"), (("--channels", others), "leave it out")
            raise UndecidedError(root, Question(text, answers))


def _says_rgb(head: Head) -> bool:
    return head.raster.rgb if head.raster is not None else head.channels >= 3


def _tell(bands: Bands, said: Said, rasters: Sequence[Raster], images: int, notes: list[str]) -> None:
    kinds = sorted({_kind(raster.dtype) for raster in rasters})
    which = f" of {some_of(kinds, 3)}" if kinds else ""
    what = f"{counted(images, 'image')} of {counted(bands.of, 'band')}{which}"
    clear = sorted({raster.alpha for raster in rasters if raster.alpha and raster.alpha not in bands.numbers})
    if said.channels:
        notes.append(f"{what}: the model sees {_named(bands.numbers)}, in this order")
    else:
        left = f" but {_named(clear)}, which is transparency" if clear else ""
        notes.append(f"{what}: the model sees all{left}, in their order; segsweep init chooses with --channels 3,2,1")
    if bands.colours is not None:
        red, green, blue = bands.colours
        notes.append(f"band {red} is red, {green} green and {blue} blue; {bands.caption()}")
    elif said.rgb is not None:
        notes.append(f"red, green and blue are not all among them; {bands.caption()}")
    else:
        notes.append(f"which bands are red, green and blue is not known (--rgb 3,2,1 says it); {bands.caption()}")
    if empty := sum(raster.nodata for raster in rasters):
        notes.append(f"{counted(empty, 'image')} with pixels that the file marks as no data: they are 0 in all bands")


def _range(path: Path, rasters: Mapping[Path, Raster]) -> Question:
    low, high = min(r.low for r in rasters.values()), max(r.high for r in rasters.values())
    text = (
        f"images have values from {low:g} to {high:g} ({path.name} of type {rasters[path].dtype}), which fit neither "
        "0..1 nor 16 bits, and are to be scaled to 8 bits"
    )
    return Question(text, (((f"--range={low:g},{high:g}",), "these become 0 and 255, or give a range of your own"),))


def _kind(dtype: str) -> str:
    bits = "".join(letter for letter in dtype if letter.isdigit())
    return f"{bits} bits" if dtype.startswith("uint") else f"{bits}-bit floats" if dtype.startswith("f") else dtype


def _named(numbers: Sequence[int]) -> str:
    return f"band {numbers[0]}" if len(numbers) == 1 else f"bands {','.join(map(str, numbers))}"


def _counts(counts: Mapping[int, int]) -> str:
    return some_of([f"{number} bands ({counted(images, 'image')})" for number, images in sorted(counts.items())], 4)
