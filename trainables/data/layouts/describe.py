"""The description of a folder in a file: `classes.json` as users write it, `dataset.yaml` as `segsweep init` does."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from trainables.data.bands import Bands
from trainables.data.base import Color
from trainables.data.layouts.finding import Finding, Said, SaidClass
from trainables.data.reading.names import path_fault
from trainables.data.reading.read import DEEP_BITS
from trainables.data.reading.stored import LARGEST_ID, color_of
from trainables.data.void import MOST_CLASSES, void_id
from trainables.errors import DataError

CLASSES_FILE, DATASET_FILE = "classes.json", "dataset.yaml"

CURE = 'write classes.json as {"classes": [{"id": 0, "name": "road", "color": [128, 64, 128]}, ...], "void": 255}'

HEAD = "# written by segsweep init"
"""The first line of a `dataset.yaml` that may be replaced."""

_KEYS = (
    *("classes", "void", "void_colors", "images", "masks", "groups"),
    *("reduce_zero_label", "first_id", "exif", "palette", "image_bits", "values"),
    *("channels", "rgb", "range", "pages", "pairs"),
)
_CLASS_KEYS = ("id", "name", "color")
_CHOICES = {"exif": ("turned", "stored"), "palette": ("ids", "colours"), "values": ("ids",), "pages": ("bands",)}


def description_file(root: Path) -> Path | None:
    """The file in a folder that describes it; what `segsweep init` wrote counts before `classes.json`."""
    ours, theirs = root / DATASET_FILE, root / CLASSES_FILE
    if ours.is_file() and (is_ours(ours) or (not theirs.is_file() and _says_classes(ours))):
        return ours
    return theirs if theirs.exists() else None


def is_ours(path: Path) -> bool:
    """Whether `segsweep init` wrote a file."""
    try:
        with path.open("rb") as file:
            return file.readline().decode("utf-8", "replace").startswith(HEAD)
    except OSError:
        return False


def read_said(path: Path) -> Said:
    """Reads and checks a description.

    Besides objects with id, name and colour, classes may be a list of names, or pairs of id and name.

    Raises:
        DataError: Lists every fault of the file.
    """
    try:
        # Bytes, as json finds out about UTF-8 with a mark and UTF-16 by itself.
        content = yaml.safe_load(path.read_text("utf-8-sig")) if _is_yaml(path) else json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path} is missing; {CURE}") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise DataError(f"{path} cannot be read ({_one_line(error)}); {CURE}") from None
    content = _with_classes(content)
    faults = _faults(content)
    if faults:
        raise DataError(f"{path} is not valid:\n  " + "\n  ".join(faults) + f"\n{CURE}")
    first = 1 if content.get("reduce_zero_label") else content.get("first_id")
    void = content.get("void")
    return Said(
        classes=tuple(_entry(entry) for entry in content["classes"]),
        void=None if "void" not in content else tuple(void if isinstance(void, list) else [void]),
        void_colors=tuple(_as_color(color) for color in content.get("void_colors", [])),
        first_id=first,
        images=content.get("images"),
        masks=content.get("masks"),
        pairs=None if "pairs" not in content else tuple(content["pairs"]),
        groups=content.get("groups"),
        exif=content.get("exif"),
        palette=content.get("palette"),
        image_bits=content.get("image_bits"),
        values=content.get("values"),
        channels=_channels(content.get("channels")),
        rgb=None if "rgb" not in content else tuple(content["rgb"]),
        scale=None if "range" not in content else (float(content["range"][0]), float(content["range"][1])),
        pages=content.get("pages"),
        source=path.name,
    )


def with_ids(said: Said) -> Said:
    """Classes that are only named get the ids from `first_id`, or 0, in their order."""
    if said.classes is None or said.complete:
        return said
    first = said.first_id or 0
    classes = tuple(SaidClass(entry.name, first + place, entry.color) for place, entry in enumerate(said.classes))
    return Said(classes=classes, void=said.void, void_colors=said.void_colors, source=said.source)


def as_yaml(finding: Finding) -> str:
    """What was found, as a description that leaves nothing open."""
    said, meaning = finding.said, finding.meaning
    void = void_id(len(meaning.classes))
    smallest = {place: number for number, place in sorted(meaning.ids.items(), reverse=True)}
    declared = {place: color for color, place in meaning.colors.items()}
    lines = [
        f"{HEAD}; edit names and colours as you like, docs/DATA.md has the keys",
        "classes:",
    ]
    for place, info in enumerate(meaning.classes):
        color = f", color: {list(info.color)}" if not meaning.colors or place in declared else ""
        lines.append(f"  - {{id: {smallest[place]}, name: {json.dumps(info.name, ensure_ascii=False)}{color}}}")
    lines.append(f"void: {sorted(number for number, place in meaning.ids.items() if place == void)}")
    void_colors = [list(color_of(color)) for color, place in meaning.colors.items() if place == void]
    extra: dict[str, Any] = {
        "void_colors": void_colors or None,
        "values": None if meaning.colors else "ids",
        "images": said.images,
        "masks": said.masks,
        "pairs": None if said.pairs is None else list(said.pairs),
        "groups": said.groups,
        "exif": finding.exif,
        "palette": said.palette,
        "image_bits": finding.image_bits,
        **_bands(finding.bands),
    }
    lines += [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in extra.items() if value is not None]
    return "\n".join(lines) + "\n"


def _bands(bands: Bands | None) -> dict[str, Any]:
    if bands is None:
        return {}
    return {
        "channels": list(bands.numbers),
        "rgb": None if bands.colours is None else list(bands.colours),
        "range": None if bands.scale is None else list(bands.scale),
        "pages": "bands" if bands.pages else None,
    }


def _channels(value: Any) -> tuple[int, ...] | None:
    return None if value is None else () if value == "all" else tuple(value)


def _band_faults(content: Mapping[str, Any]) -> list[str]:
    faults = []
    channels, rgb, scale = content.get("channels", "all"), content.get("rgb", [1, 2, 3]), content.get("range", [0, 1])
    if channels != "all" and not (_are_bands(channels) and channels):
        faults.append('channels: must be "all", or a list of bands, each once, such as [4, 3, 2]; the first band is 1')
    if not (_are_bands(rgb) and len(rgb) == 3):
        faults.append("rgb: must be the bands that are red, green and blue, such as [3, 2, 1]; the first band is 1")
    if not _is_range(scale):
        faults.append("range: must be two numbers, the less one first, such as [0, 3000]")
    return faults


def _are_bands(value: Any) -> bool:
    return isinstance(value, list) and all(_is_id(v) and v >= 1 for v in value) and len(set(value)) == len(value)


def _is_range(value: Any) -> bool:
    if not (isinstance(value, list) and len(value) == 2):
        return False
    numbers = [v for v in value if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)]
    return len(numbers) == 2 and numbers[0] < numbers[1]


def _is_yaml(path: Path) -> bool:
    return path.suffix.lower() in (".yaml", ".yml")


def _says_classes(path: Path) -> bool:
    try:
        content = yaml.safe_load(path.read_text("utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    return isinstance(content, dict) and "classes" in content


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _with_classes(content: Any) -> Any:
    """The content as an object with a list `classes`, whatever form the names have."""
    if isinstance(content, list):
        return {"classes": content}
    if not isinstance(content, dict):
        return content
    if "classes" not in content and "names" in content:
        content = {("classes" if key == "names" else key): value for key, value in content.items()}
    elif content and "classes" not in content and not set(content) & set(_KEYS):
        content = {"classes": content}
    classes = content.get("classes")
    if isinstance(classes, dict):
        pairs = [_pair(key, value) for key, value in classes.items()]
        content = {**content, "classes": [pair for pair in pairs if pair] if all(pairs) else classes}
    return content


def _pair(key: Any, value: Any) -> dict[str, Any] | None:
    """`"0": "road"`, or `"road": 0`."""
    if isinstance(value, str) and re.fullmatch(r"-?\d+", str(key)):
        return {"id": int(key), "name": value}
    if isinstance(key, str) and isinstance(value, int) and not isinstance(value, bool):
        return {"id": value, "name": key}
    return None


def _entry(entry: Any) -> SaidClass:
    if isinstance(entry, str):
        return SaidClass(entry)
    color = entry.get("color")
    return SaidClass(entry["name"], entry.get("id"), None if color is None else _as_color(color))


def _as_color(value: Any) -> Color:
    if isinstance(value, str):
        return int(value[1:3], 16), int(value[3:5], 16), int(value[5:7], 16)
    return value[0], value[1], value[2]


def _faults(content: Any) -> list[str]:
    if not isinstance(content, dict):
        return ["it must be one object { ... }, or a list of names"]
    faults = []
    unknown = sorted(str(key) for key in set(content) - set(_KEYS))
    if unknown:
        faults.append(f"unknown keys: {', '.join(unknown)} (known: {', '.join(_KEYS)})")
    for key in ("images", "masks", "groups"):
        if key in content and not (isinstance(content[key], str) and content[key]):
            faults.append(f"{key}: must be text")
    faults += [
        f"{key}: {content[key]!r} {fault}; name a folder below the data root (it may be a link), or give --data-root "
        "the folder above both"
        for key in ("images", "masks")
        if isinstance(content.get(key), str) and (fault := path_fault(content[key]))
    ]
    pairs = content.get("pairs", [])
    if not (isinstance(pairs, list) and all(isinstance(name, str) and not path_fault(name) for name in pairs)):
        faults.append('pairs: must be a list of CSV files below the data root, such as ["pairs.csv"]; [] for none')
    faults += [
        f"{key}: must be one of {', '.join(choices)}"
        for key, choices in _CHOICES.items()
        if key in content and content[key] not in choices
    ]
    if "image_bits" in content and content["image_bits"] not in (0, *DEEP_BITS):
        faults.append(f"image_bits: must be one of {', '.join(map(str, (0, *DEEP_BITS)))} (0: floats of 0..1)")
    if "first_id" in content and not _is_id(content["first_id"]):
        faults.append("first_id: must be an integer")
    if "reduce_zero_label" in content and not isinstance(content["reduce_zero_label"], bool):
        faults.append("reduce_zero_label: must be true or false")
    return [*faults, *_band_faults(content), *_class_list_faults(content)]


def _class_list_faults(content: Mapping[str, Any]) -> list[str]:
    entries = content.get("classes")
    if not isinstance(entries, list) or not 1 <= len(entries) <= MOST_CLASSES:
        return [f"classes: must be a list of 1 to {MOST_CLASSES} classes"]
    faults = []
    for index, entry in enumerate(entries):
        faults += [f"classes[{index}]: {fault}" for fault in _class_faults(entry)]
    objects = [entry for entry in entries if isinstance(entry, dict)]
    with_id = [entry for entry in objects if "id" in entry]
    if with_id and len(with_id) < len(entries):
        faults.append("classes: either all or none of them have an id")
    ids = [entry["id"] for entry in with_id if _is_id(entry["id"])]
    named = [entry.get("name") if isinstance(entry, dict) else entry for entry in entries]
    names = [name for name in named if isinstance(name, str)]
    faults += [f"id {number} is given to more than one class" for number in sorted(set(ids)) if ids.count(number) > 1]
    faults += [f"name {name!r} is given to more than one class" for name in sorted(set(names)) if names.count(name) > 1]
    colors = [_as_color(entry["color"]) for entry in objects if _is_color(entry.get("color"))]
    faults += [f"color {c} is given to more than one class" for c in sorted(set(colors)) if colors.count(c) > 1]
    void_colors = content.get("void_colors", [])
    if not isinstance(void_colors, list) or not all(map(_is_color, void_colors)):
        faults.append("void_colors: must be a list of colours, such as [[0, 0, 0]]")
    else:
        faults += [f"void_colors: {c} is the color of a class, too" for c in map(_as_color, void_colors) if c in colors]
    return [*faults, *_void_faults(content, ids)]


def _void_faults(content: Mapping[str, Any], ids: Collection[int]) -> list[str]:
    if "void" not in content:
        return []
    void = content["void"]
    faults = []
    for number in void if isinstance(void, list) else [void]:
        if not _is_id(number):
            faults.append(f"void: {number!r} must be an integer, such as 255, or a list of them ([] for none)")
        elif number in ids:
            faults.append(f"void: {number} is the id of a class, too")
    return faults


def _class_faults(entry: Any) -> list[str]:
    if isinstance(entry, str):
        return [] if entry.strip() else ["name must be text"]
    if not isinstance(entry, dict):
        return ["must be a name, or an object with name, and perhaps id and color"]
    faults = []
    unknown = sorted(str(key) for key in set(entry) - set(_CLASS_KEYS))
    if unknown:
        faults.append(f"unknown keys: {', '.join(unknown)} (known: {', '.join(_CLASS_KEYS)})")
    if "id" in entry and not _is_id(entry["id"]):
        faults.append(f"id must be an integer up to {LARGEST_ID}, the value in the masks")
    if not isinstance(entry.get("name"), str) or not entry.get("name"):
        faults.append("name must be text")
    if "color" in entry and not _is_color(entry["color"]):
        faults.append("color must be three integers 0..255, or #rrggbb")
    return faults


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -LARGEST_ID <= value <= LARGEST_ID


def _is_color(value: Any) -> bool:
    if isinstance(value, str):
        return re.fullmatch(r"#[0-9a-fA-F]{6}", value) is not None
    return isinstance(value, list) and len(value) == 3 and all(_is_id(v) and 0 <= v <= 255 for v in value)
