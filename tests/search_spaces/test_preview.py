"""The contact sheet shows the space's policies on images, in their classes' colours."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import optuna
import pytest
from PIL import Image

from search_spaces import SPACES, SearchSpace
from search_spaces.preview import RandomSuggester, contact_sheet, main, overlay, policies, rows
from trainables.augmentations import PolicySpec
from trainables.data import VOID, ClassInfo
from trainables.errors import UsageError

CLASSES = (ClassInfo("background", (0, 0, 0)), ClassInfo("cat", (200, 40, 0)), ClassInfo("dog", (0, 60, 220)))
AUGMENT: SearchSpace = SPACES.get("augment")(["lraspp_mobilenet_v3_large"], "none")


def samples(count: int = 3) -> list[tuple[np.ndarray, np.ndarray]]:
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (count, 60, 80, 3), dtype=np.uint8)
    masks = np.zeros((count, 60, 80), np.uint8)
    masks[:, 10:40, 10:30], masks[:, 20:50, 40:70], masks[:, 50:] = 1, 2, VOID
    return list(zip(image, masks, strict=True))


def test_known_points_come_first_and_nothing_comes_twice() -> None:
    chosen = policies(AUGMENT, 12, seed=0)
    assert [origin for origin, _ in chosen] == ["known point"] * 4 + ["drawn"] * 8
    assert [spec.family for _, spec in chosen[:4]] == ["geometric", "photometric", "all", "trivial"]
    assert len({spec.describe() for _, spec in chosen}) == 12
    assert all(spec.transforms for _, spec in chosen), "the first row shows the images as they are already"
    assert chosen == policies(AUGMENT, 12, seed=0)
    assert chosen[4:] != policies(AUGMENT, 12, seed=1)[4:]


def test_small_space_gives_what_it_holds() -> None:
    space = AUGMENT.fix({"augment.policy": "flip"})
    assert {spec.transforms[0].p for _, spec in policies(space, 9, seed=0)} == {0.25, 0.5, 0.75, 1.0}


@pytest.mark.parametrize("name", ["lr", "loss", "baseline"])
def test_space_without_augmentation_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"space '{name}' varies no augmentation.*choose --space augment"):
        policies(SPACES.get(name)(["lraspp_mobilenet_v3_large"], "none"), 3, seed=0)


def test_random_suggestions_are_distributed_as_optunas() -> None:
    generator, study = np.random.default_rng(0), optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    asks = {
        "plain": lambda s: s.suggest_float("plain", 2.0, 5.0),
        "log": lambda s: s.suggest_float("log", 1e-4, 1e-1, log=True),
        "grid": lambda s: s.suggest_float("grid", 0.0, 1.0, step=0.25),
        "whole": lambda s: s.suggest_int("whole", 3, 9, step=2),
        "log whole": lambda s: s.suggest_int("log whole", 1, 100, log=True),
        "choice": lambda s: s.suggest_categorical("choice", [1, 2, 5]),
    }
    trials = [study.ask() for _ in range(600)]
    for ask in asks.values():
        ours = np.array([ask(RandomSuggester(generator)) for _ in range(600)])
        theirs = np.array([ask(trial) for trial in trials])
        assert np.quantile(ours, [0, 1]) == pytest.approx(np.quantile(theirs, [0, 1]), rel=0.1, abs=0.01)
        assert ours.mean() == pytest.approx(theirs.mean(), rel=0.2)


def test_first_row_is_the_images_and_rows_are_drawn_again_from_the_seed() -> None:
    chosen = [
        ("drawn", PolicySpec.from_flat({"policy": "geometric"})),
        ("drawn", PolicySpec.from_flat({"policy": "mix"})),
    ]
    table = rows(chosen, samples(), (60, 80), seed=0)
    assert [row.title for row in table] == ["no policy", "geometric · drawn", "mix · drawn"]
    assert table[1].lines[1] == "hflip p=0.50"
    for index, (image, mask) in enumerate(samples()):
        assert np.array_equal(table[0].images[index], image) and np.array_equal(table[0].masks[index], mask)
    again = rows(chosen, samples(), (60, 80), seed=0)
    assert all(np.array_equal(a.images, b.images) for a, b in zip(table, again, strict=True))
    other = rows(chosen, samples(), (60, 80), seed=1)
    assert not np.array_equal(table[1].images, other[1].images)
    flipped = {image.tobytes() for sample in samples() for image in (sample[0], sample[0][:, ::-1])}
    assert any(np.ascontiguousarray(image).tobytes() not in flipped for image in table[2].images), "mixed"


def test_tiles_show_images_at_the_scale_that_was_asked_for() -> None:
    table = rows([], samples(), (30, 40), seed=0, resize="tile@0.5")
    for index, (image, mask) in enumerate(samples()):
        # A whole image at half its sides: each pixel is the mean of four.
        means = image.reshape(30, 2, 40, 2, 3).mean(axis=(1, 3))
        assert np.abs(table[0].images[index] - means).max() <= 0.51
        np.testing.assert_array_equal(table[0].masks[index], mask[::2, ::2])


@pytest.mark.parametrize("way", ["tile@2", "tiles", "tile@"])
def test_other_ways_to_the_input_are_refused(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--resize", way])
    assert "or tile@SCALE with a scale of 0.05 to 1" in capsys.readouterr().err


def test_overlay_tints_classes_leaves_black_ones_and_stripes_void() -> None:
    image, mask = samples(1)[0]
    shown = overlay(image, mask, CLASSES)
    assert np.array_equal(shown[:8, :8], image[:8, :8])
    assert np.abs(shown[15:35, 15:25] - (0.55 * image + 0.45 * np.array([200, 40, 0]))[15:35, 15:25]).max() <= 0.5
    void = shown[52:].astype(float) - 0.25 * image[52:]
    assert void.max() <= 0.75 * 150 + 0.5 and void.min() >= 0.75 * 45 - 0.5
    assert np.ptp(void.mean(axis=2)) > 50


def test_sheet_names_every_policy_class_and_void() -> None:
    chosen = policies(AUGMENT, 3, seed=0)
    figure = contact_sheet(rows(chosen, samples(), (60, 80), seed=0), CLASSES, title="A title")
    written = "\n".join(text.get_text() for text in figure.texts)
    for _, spec in chosen:
        for item in spec.transforms:
            assert item.describe() in written
    assert "A title" in written
    assert len(figure.axes) == 4 * 3
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["background", "cat", "dog", "void: no loss is taken there"]


def test_texts_stay_in_the_margin_and_apart() -> None:
    figure = contact_sheet(rows(policies(AUGMENT, 4, seed=0), samples(), (60, 80), seed=0), CLASSES, title="T")
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.texts[:-1]]
    left = min(axes.get_window_extent().x0 for axes in figure.axes)
    assert max(box.x1 for box in boxes) < left
    assert all(upper.y0 >= lower.y1 - 1 for upper, lower in itertools.pairwise(boxes))
    assert min(box.y0 for box in boxes) > figure.legends[0].get_window_extent().y1 - 12


def test_command_writes_a_png_of_any_data_set(
    mini_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "sheet.png"
    asked = ["--data", "folder", "--data-root", str(mini_root), "--policies", "2", "--images", "2", "--out", str(out)]
    assert main([*asked, "--image-size", "32x48"]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    with Image.open(out) as sheet:
        assert sheet.width > 900 and sheet.height > 300


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--space", "lr"], "varies no augmentation"),
        (["--space", "agment"], "did you mean augment"),
        (["--image-size", "32"], "--image-size must be HEIGHTxWIDTH"),
        (["--policies", "0"], "--policies must be at least 1"),
        (["--data", "scnes"], "did you mean scenes"),
    ],
)
def test_bad_usage_is_told_before_anything_is_read(
    flags: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["--out", str(tmp_path / "x.png"), *flags]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()


def test_file_that_cannot_be_written_is_told(
    mini_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--data", "folder", "--data-root", str(mini_root), "--policies", "1", "--images", "1"]
    assert main([*asked, "--image-size", "32x32", "--out", str(tmp_path / "sheet.xyz")]) == 2
    assert "sheet.xyz: previews are PNG files" in capsys.readouterr().err
    (tmp_path / "file").write_text("mine")
    assert main([*asked, "--image-size", "32x32", "--out", str(tmp_path / "file" / "sheet.png")]) == 2
    assert "sheet.png cannot be written" in capsys.readouterr().err


def test_preview_replaces_previews_and_nothing_else(
    mini_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--data", "folder", "--data-root", str(mini_root), "--policies", "1", "--images", "1"]
    out, own, link = (tmp_path / name for name in ("sheet.png", "own.png", "link.png"))
    own.write_text("mine")
    link.symlink_to(own)
    for _ in range(2):
        assert main([*asked, "--image-size", "32x32", "--out", str(out)]) == 0
    for path in (own, link):
        assert main([*asked, "--image-size", "32x32", "--out", str(path)]) == 2
        assert "is not a preview" in capsys.readouterr().err
    assert own.read_text() == "mine"
