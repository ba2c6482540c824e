"""Folders of any layout, any kind of file and any damage: read as they are, or one error; no traceback, no warning.

Few examples run each time; SEGSWEEP_FOLDERS=2000 looks longer.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import unicodedata
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainables.data import DATASETS, check, init
from trainables.errors import SegsweepError

EXAMPLES = int(os.environ.get("SEGSWEEP_FOLDERS", "40"))
COUNT = 6
COLORS = np.array([(0, 0, 0), (120, 40, 200), (30, 160, 60)], np.uint8)


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGSWEEP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def _grey(mask: np.ndarray, path: Path) -> None:
    PIL.Image.fromarray(mask).save(path)


def _palette(mask: np.ndarray, path: Path) -> None:
    image = PIL.Image.fromarray(mask)
    image.putpalette(COLORS.ravel().tolist())
    image.save(path)


def _colors(mask: np.ndarray, path: Path) -> None:
    PIL.Image.fromarray(COLORS[mask]).save(path)


def _opaque(mask: np.ndarray, path: Path) -> None:
    PIL.Image.fromarray(COLORS[mask]).convert("RGBA").save(path)


def _clear(mask: np.ndarray, path: Path) -> None:
    alpha = np.where(mask == 0, 0, 255).astype(np.uint8)
    PIL.Image.fromarray(np.dstack([COLORS[mask], alpha])).save(path)


def _wide(mask: np.ndarray, path: Path) -> None:
    PIL.Image.fromarray(mask.astype(np.uint16)).save(path)


def _deep(mask: np.ndarray, path: Path) -> None:
    PIL.Image.fromarray(mask.astype(np.int32)).save(path.with_suffix(".tif"))


def _bits(mask: np.ndarray, path: Path) -> None:
    PIL.Image.fromarray(mask > 0).save(path)


def _white(mask: np.ndarray, path: Path) -> None:
    PIL.Image.fromarray(np.where(mask > 0, 255, 0).astype(np.uint8)).save(path)


def _array(mask: np.ndarray, path: Path) -> None:
    np.save(path.with_suffix(".npy"), mask)


def _lossy(mask: np.ndarray, path: Path) -> None:
    PIL.Image.fromarray(mask).save(path.with_suffix(".jpg"))


MASKS: dict[Callable[[np.ndarray, Path], None], int] = {
    _grey: 3, _palette: 3, _colors: 3, _opaque: 3, _clear: 0, _wide: 3, _deep: 3, _bits: 2, _white: 2, _array: 3,
    _lossy: 0,
}  # fmt: skip
"""How masks are written, and how many classes a folder of them has; 0 where reading it as it is would be a guess."""

IMAGE_MODES = ("RGB", "L", "CMYK", "P", "RGBA", "I;16", "1", "LA", "F")
SUFFIXES = (".png", ".jpg", ".JPG", ".tif", ".bmp", ".webp")


def _write_image(pixels: np.ndarray, mode: str, path: Path) -> Path:
    if mode in ("I;16", "F"):
        deep = pixels[..., 0].astype(np.uint16 if mode == "I;16" else np.float32) * 200
        PIL.Image.fromarray(deep).save(path := path.with_suffix(".tif"))
        return path
    image = PIL.Image.fromarray(pixels).convert(mode)
    with contextlib.suppress(OSError):
        image.save(path)
        return path
    image.save(path := path.with_suffix(".png" if mode != "CMYK" else ".tif"))
    return path


HARMS = (
    *("none", "none", "none", "cut", "empty", "text", "gone", "folder", "link", "small", "strange", "void", "noise"),
    *("hidden", "double", "unreadable text list", "list"),
)


@st.composite
def folders(draw: st.DrawFn) -> dict[str, object]:
    return {
        "images": draw(st.sampled_from(("images", "img", "JPEGImages", "Photos", "."))),
        "masks": draw(st.sampled_from(("masks", "labels", "annotations", "SegmentationClass", "gt"))),
        "splits": draw(st.sampled_from(("none", "none", "outside", "inside"))),
        "suffix": draw(st.sampled_from(("", "", "_mask", "_L", "-seg"))),
        "stem": draw(st.sampled_from(("a", "b c", "d.e", "Größe", "写真", "-f", "%s", "[x]", "a\u0301", "CON"))),
        "form": draw(st.sampled_from(("NFC", "NFC", "NFD"))),
        "image_suffix": draw(st.sampled_from(SUFFIXES)),
        "mode": draw(st.sampled_from(IMAGE_MODES)),
        "mask": draw(st.sampled_from(list(MASKS))),
        "size": draw(st.sampled_from(((9, 12), (16, 16), (1, 7), (3, 64)))),
        "harm": draw(st.sampled_from(HARMS)),
        "whom": draw(st.sampled_from(("image", "mask"))),
        "share": draw(st.floats(0.02, 0.98)),
        "seed": draw(st.integers(0, 999)),
    }


def write(root: Path, how: dict) -> dict[str, np.ndarray]:
    """The folder; what was drawn, by the name of the image's file."""
    rng = np.random.default_rng(how["seed"])
    truth: dict[str, np.ndarray] = {}
    first: dict[str, Path] = {}
    for place in range(COUNT):
        part = ("train", "val", "test")[place % 3]
        below = {"none": ("", ""), "outside": (f"{part}/", ""), "inside": ("", f"/{part}")}[how["splits"]]
        parts = [root / f"{below[0]}{how[what]}{below[1]}" for what in ("images", "masks")]
        for folder in parts:
            folder.mkdir(parents=True, exist_ok=True)
        mask = rng.integers(0, 3, how["size"]).astype(np.uint8)
        mask.flat[:3] = 0, 1, 2
        name = unicodedata.normalize("NFC", f"{how['stem']}{place}")
        pixels = rng.integers(0, 256, (*how["size"], 3)).astype(np.uint8)
        image = _write_image(pixels, how["mode"], parts[0] / f"{name}{how['image_suffix']}")
        of_mask = parts[1] / f"{unicodedata.normalize(how['form'], name)}{how['suffix']}.png"
        how["mask"](mask, of_mask)
        first.setdefault("image", image)
        first.setdefault("mask", next(iter(parts[1].glob("*"))))
        truth[name] = mask
    _harm(root, how, first[how["whom"]])
    return truth


def _harm(root: Path, how: dict, victim: Path) -> None:
    content, harm = victim.read_bytes(), how["harm"]
    if harm == "cut":
        victim.write_bytes(content[: int(len(content) * how["share"])])
    elif harm == "empty":
        victim.write_bytes(b"")
    elif harm == "text":
        victim.write_text("<html>no image</html>")
    elif harm == "noise":
        place = int(len(content) * how["share"])
        victim.write_bytes(content[:place] + bytes(7) + content[place + 7 :])
    elif harm in ("gone", "folder", "link"):
        victim.unlink()
        if harm == "folder":
            victim.mkdir()
        if harm == "link":
            victim.symlink_to("nowhere")
    elif harm in ("small", "strange", "void") and victim.suffix != ".npy":
        shape = (2, 2) if harm == "small" else how["size"]
        PIL.Image.fromarray(np.full(shape, 77 if harm == "strange" else 255, np.uint8)).save(victim)
    elif harm == "hidden":
        (victim.parent / "._a.png").write_bytes(b"resource fork")
        (root / ".DS_Store").write_bytes(b"\x00")
        (root / "Thumbs.db").write_bytes(b"\x00")
    elif harm == "double":
        (victim.parent / f"{victim.stem}.gif").write_bytes(content)
    elif harm.endswith("list"):
        (root / "train.txt").write_bytes(b"\xff\xfe\x00z" if harm != "list" else b"nobody\n\n../x\n")


def run(capfd: pytest.CaptureFixture[str], command: Callable[[list[str]], int], *arguments: str) -> tuple[int, str]:
    """The exit code of a command, and all that it and the libraries below it wrote."""
    capfd.readouterr()
    code = command(list(arguments))
    return code, "".join(capfd.readouterr())


LIBRARIES = ("Traceback", "Warning:", "libpng", "TIFF", "OpenCV", "imread", "cv::")


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(how=folders())
def test_a_folder_is_read_as_it_is_or_told_in_one_error(capfd: pytest.CaptureFixture[str], how: dict) -> None:
    with tempfile.TemporaryDirectory() as made, warnings.catch_warnings(record=True) as warned:
        # As the package says for itself; pytest takes back what was said while tests were collected.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        root = Path(made) / "data"
        root.mkdir()
        truth = write(root, how)
        code, told = run(capfd, check.main, "--data", "folder", "--data-root", str(root))
        assert code in (0, 1)
        assert ("fit to train on" in told) if code == 0 else bool(re.search(r"^error\b", told, re.MULTILINE))
        again, sheet = run(capfd, init.main, str(root))
        assert again in (0, 1) and bool(sheet.strip())
        assert not [line for line in f"{told}{sheet}".splitlines() if any(word in line for word in LIBRARIES)]
        classes = MASKS[how["mask"]]
        if how["harm"] == "none" and code == 0 and classes:
            data = DATASETS.get("folder")(root=root)
            assert sorted(data.ids()) and len(data.ids()) == COUNT
            for image_id in data.ids():
                name = unicodedata.normalize("NFC", Path(image_id).name)
                mask = data.mask(image_id)
                right = truth[name] if classes == 3 else truth[name] > 0
                # Which class has which id is the folder's own: equal pixels must stay equal, others different.
                assert len(set(zip(mask.ravel().tolist(), right.ravel().tolist(), strict=True))) == classes
                with contextlib.suppress(SegsweepError):
                    assert data.image(image_id).shape == (*how["size"], 3)
    assert not [str(one.message) for one in warned if "Hypothesis" not in one.category.__name__]
