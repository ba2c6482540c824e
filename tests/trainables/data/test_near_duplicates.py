"""Pictures that are nearly the same: found across splits, told once, kept together on request."""

from __future__ import annotations

import io
import json
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from trainables.data import DATASETS
from trainables.data import near_duplicates as module
from trainables.data.check import check, main
from trainables.data.near_duplicates import grouped, likeness, near_duplicates, thumbnail
from trainables.data.scenes import draw_scene, scene_spec
from trainables.data.splits.given import make_splits


def picture(seed: int, size: tuple[int, int] = (96, 128)) -> np.ndarray:
    """Soft patches of colour."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (7, 9, 3)).astype(np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)


def recompressed(image: np.ndarray) -> np.ndarray:
    packed = io.BytesIO()
    PIL.Image.fromarray(image).save(packed, "JPEG", quality=30)
    return np.array(PIL.Image.open(packed))


def test_copies_are_alike_and_different_pictures_are_not() -> None:
    first = picture(0)
    copies = [recompressed(first), cv2.resize(first, (64, 48)), np.clip(first * 0.8 + 20, 0, 255).astype(np.uint8)]
    others = [picture(1), first[:, ::-1].copy(), np.full_like(first, 90)]
    found = likeness([thumbnail(first)], [thumbnail(image) for image in (*copies, *others)])[0]
    assert (found[:3] > 0.95).all() and (found[3:] < 0.6).all()
    assert likeness([thumbnail(others[2])], [thumbnail(others[2])])[0, 0] == 0, "flat pictures have nothing to compare"


def test_correlation_is_that_of_the_formula() -> None:
    pictures = [picture(seed) for seed in (3, 4)]
    small = [cv2.resize(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), (16, 16), interpolation=cv2.INTER_AREA) for p in pictures]
    steps = []
    for grey in small:
        of_picture = [float(grey[y, x + 1]) - float(grey[y, x]) for y in range(15) for x in range(15)]
        of_picture += [float(grey[y + 1, x]) - float(grey[y, x]) for y in range(15) for x in range(15)]
        steps.append(np.array(of_picture))
    expected = steps[0] @ steps[1] / np.sqrt((steps[0] @ steps[0]) * (steps[1] @ steps[1]))
    assert likeness([thumbnail(pictures[0])], [thumbnail(pictures[1])])[0, 0] == pytest.approx(expected, abs=1e-5)


def test_drawn_scenes_are_all_different() -> None:
    drawn = {str(seed): thumbnail(draw_scene(scene_spec("test", seed)).image) for seed in range(60)}
    assert list(near_duplicates(drawn)) == []


def test_pairs_are_found_once_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [picture(seed) for seed in range(6)]
    small = {f"a{n}": thumbnail(image) for n, image in enumerate(images)}
    small |= {f"b{n}": thumbnail(recompressed(image)) for n, image in enumerate(images[:3])} | {"unreadable": ""}
    expected = {("a0", "b0"), ("a1", "b1"), ("a2", "b2")}
    for rows in (1, 2, 4, 2048):
        monkeypatch.setattr(module, "_ROWS", rows)
        assert [(one, other) for one, other, _ in near_duplicates(small)] == sorted(expected)


def test_chains_are_one_group_called_after_its_first_image() -> None:
    frames = [picture(1)]
    for _ in range(4):
        frames.append(np.roll(frames[-1], 2, axis=1))
    small = {f"f{n}": thumbnail(image) for n, image in enumerate(frames)} | {"x": thumbnail(picture(2))}
    assert likeness([small["f0"]], [small["f4"]])[0, 0] < module.ALIKE, "the ends are not alike themselves"
    assert grouped([*small], small) == {"f0": "f0", "f1": "f0", "f2": "f0", "f3": "f0", "f4": "f0", "x": "x"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of 24 pictures of 8 motifs, three of each."""
    for number in range(24):
        image = picture(number % 8)
        if number >= 8:
            image = recompressed(image) if number < 16 else np.clip(image * 0.9 + 8, 0, 255).astype(np.uint8)
        mask = np.zeros(image.shape[:2], np.uint8)
        mask[20:60, 30 : 60 + number % 5] = 1
        for folder, pixels in (("images", image), ("masks", mask)):
            (tmp_path / folder).mkdir(exist_ok=True)
            PIL.Image.fromarray(pixels).save(tmp_path / folder / f"{number:02d}.png")
    (tmp_path / "classes.json").write_text('["ground", "block"]')
    return tmp_path


def test_they_are_told_once_and_kept_together_on_request(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = DATASETS.get("folder")(root=root)
    (told,) = [w for w in check(data, make_splits(data)).warnings if w.kind.startswith("nearly the same picture")]
    assert "pairs" in told.image_id and "--group-by near-duplicates keeps them together" in told.detail
    assert told.detail.count(" in train and ") <= 5 and "and 9 more. Where splits are drawn" in told.detail
    together = make_splits(data, group_by="near-duplicates")
    assert "8 groups (near-duplicates) kept together" in together.origin
    for part in (together.train, together.val, together.test):
        assert (
            part
            and {int(image_id) % 8 for image_id in part}
            & {int(image_id) % 8 for image_id in data.ids() if image_id not in part}
            == set()
        )
    flags = ["--data", "folder", "--data-root", str(root), "--group-by", "near-duplicates", "--json"]
    main(flags)
    content = json.loads(capsys.readouterr().out)
    assert not [w for w in content["warnings"] if w["kind"].startswith("nearly")]
