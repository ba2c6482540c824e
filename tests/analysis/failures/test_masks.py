"""Masks of any program: which files belong together, what their values mean, and one error for all that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis.failures import __main__ as command
from analysis.failures.mask_faults import CURES
from analysis.failures.masks import open_masks, read_classes
from trainables.data.base import VOID
from trainables.errors import DataError, UsageError

IDS = np.array([0, 7, 9], np.uint8)
COLORS = np.array([(90, 90, 90), (220, 40, 40), (40, 60, 220)], np.uint8)
SHAPE = (24, 32)


def mask_of(number):
    """Places of the classes: a ground with a disc and a bar."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    mask = np.zeros(SHAPE, np.uint8)
    mask[(rows - 12) ** 2 + (columns - 6 - number) ** 2 <= 25] = 1
    mask[:, 24:28] = 2
    return mask


@pytest.fixture
def root(tmp_path):
    classes = [
        {"id": int(stored), "name": name, "color": color.tolist()}
        for stored, name, color in zip(IDS, ("ground", "disc", "bar"), COLORS, strict=True)
    ]
    (tmp_path / "classes.json").write_text(json.dumps({"classes": classes}))
    write(tmp_path / "truth", lambda number: IDS[mask_of(number)])
    return tmp_path


def write(folder, content, name="s{}.png", numbers=range(3)):
    folder.mkdir(exist_ok=True)
    for number in numbers:
        Image.fromarray(content(number)).save(folder / name.format(number))


def shifted(number):
    return np.roll(mask_of(number), 3, axis=1)


def opened(root, predictions="model", **options):
    return open_masks(root / "truth", {"model": root / predictions}, read_classes(root / "classes.json"), **options)


FORMS = {
    "the truth's ids": (lambda number: IDS[shifted(number)], "s{}.png", ""),
    "places of the classes": (shifted, "s{}.png", "places 0..2"),
    "colours": (lambda number: COLORS[shifted(number)], "s{}.png", "colours"),
    "a GIF of ids": (lambda number: IDS[shifted(number)], "s{}.gif", "colours"),
    "a GIF of colours": (lambda number: COLORS[shifted(number)], "s{}.gif", "colours"),
    "ids in three equal channels": (lambda number: np.repeat(IDS[shifted(number)][..., None], 3, 2), "s{}.png", "grey"),
    "a suffix": (lambda number: IDS[shifted(number)], "s{}_pred.png", "without the suffix _pred"),
    "a prefix and a suffix": (lambda number: IDS[shifted(number)], "out-s{}.x.png", "prefix out- and the suffix .x"),
}


@pytest.mark.parametrize("form", FORMS)
def test_predictions_in_every_form_are_the_same_masks(root, form):
    content, name, note = FORMS[form]
    write(root / "model", content, name)
    masks = opened(root)
    assert masks.image_ids == ("s0", "s1", "s2")
    for number, image_id in enumerate(masks.image_ids):
        assert (masks.truth.mask(image_id) == mask_of(number)).all()
        assert (masks.predictions["model"].mask(image_id) == shifted(number)).all()
    assert masks.truth_pixels.tolist() == np.bincount(np.concatenate([mask_of(i).ravel() for i in range(3)])).tolist()
    assert [note in told for told in masks.notes] == ([True] if note else [])


def with_alpha(colors):
    return np.dstack([colors, np.full(SHAPE, 255, np.uint8)])


WIDE_IDS = np.array([0, 700, 900], np.uint16)


@pytest.mark.parametrize("form", ["RGBA", "16 bits", "names alone", "names alone, grey in three channels"])
def test_masks_that_data_sets_may_have_are_read_here_too(root, form):
    contents = {
        "RGBA": lambda places: with_alpha(COLORS[places]),
        "16 bits": lambda places: WIDE_IDS[places],
        "names alone": lambda places: places,
        "names alone, grey in three channels": lambda places: np.repeat(places[..., None], 3, 2),
    }
    if form == "16 bits":
        classes = [{"id": int(stored), "name": f"c{stored}"} for stored in WIDE_IDS]
        (root / "classes.json").write_text(json.dumps({"classes": classes}))
    if form.startswith("names alone"):
        (root / "classes.json").write_text(json.dumps(["ground", "disc", "bar"]))
    write(root / "truth", lambda number: contents[form](mask_of(number)))
    write(root / "model", lambda number: contents[form](shifted(number)))
    masks = opened(root)
    for number in range(3):
        assert (masks.truth.mask(f"s{number}") == mask_of(number)).all()
        assert (masks.predictions["model"].mask(f"s{number}") == shifted(number)).all()
    assert masks.truth_pixels.sum() == 3 * SHAPE[0] * SHAPE[1]


def test_transparent_pixels_over_no_class_are_void(root):
    colors = with_alpha(COLORS[mask_of(0)])
    colors[:3] = 0
    Image.fromarray(colors).save(root / "truth" / "s0.png")
    write(root / "model", lambda number: COLORS[shifted(number)])
    truth = opened(root).truth.mask("s0")
    assert (truth[:3] == VOID).all()
    assert (truth[3:] == mask_of(0)[3:]).all()
    Image.fromarray(colors).save(root / "model" / "s0.png")
    with pytest.raises(DataError, match="void in a prediction: s0"):
        opened(root)


@pytest.mark.parametrize("form", ["colours", "a GIF of ids"])
def test_the_truth_may_be_in_colours_or_a_gif_too(root, form):
    write(root / "model", lambda number: IDS[shifted(number)])
    for path in (root / "truth").iterdir():
        path.unlink()
    content = {"colours": lambda number: COLORS[mask_of(number)], "a GIF of ids": lambda number: IDS[mask_of(number)]}
    write(root / "truth", content[form], "s{}.gif" if "GIF" in form else "s{}.png")
    assert (opened(root).truth.mask("s1") == mask_of(1)).all()


def test_truth_and_images_may_have_names_of_their_own(root):
    for number in range(3):
        (root / "truth" / f"s{number}.png").rename(root / "truth" / f"s{number}_gt.png")
    write(root / "model", lambda number: IDS[shifted(number)], "s{}_pred.png")
    write(root / "photos", lambda number: COLORS[mask_of(number)], "s{}.jpg")
    masks = opened(root, images=root / "photos")
    assert masks.image_ids == ("s0", "s1", "s2")
    assert masks.image("s0").shape == (*SHAPE, 3)
    assert len(masks.notes) == 2


def test_what_the_places_of_a_single_file_could_mean_is_decided_for_the_folder(root):
    write(root / "model", lambda number: shifted(number) if number else np.zeros(SHAPE, np.uint8))
    masks = opened(root)
    assert (masks.predictions["model"].mask("s2") == shifted(2)).all()
    with pytest.raises(DataError, match=r"holds 1 \(81 pixels\)"):
        opened(root, ids="stored")


def test_ids_that_fit_both_ways_are_the_truths_unless_told(tmp_path):
    classes = [{"id": i + 1, "name": f"c{i}", "color": [i, 0, 0]} for i in range(3)]
    (tmp_path / "classes.json").write_text(json.dumps({"classes": classes, "void": []}))
    write(tmp_path / "truth", lambda number: mask_of(number) + np.uint8(1))
    write(tmp_path / "model", lambda number: np.full(SHAPE, 1 + number % 2, np.uint8))
    assert opened(tmp_path).predictions["model"].mask("s1").max() == 1
    assert opened(tmp_path, ids="positions").predictions["model"].mask("s1").max() == 2


def test_void_in_the_truth_is_void_and_in_a_prediction_an_error(root):
    truth = IDS[mask_of(0)]
    truth[:3] = 255
    Image.fromarray(truth).save(root / "truth" / "s0.png")
    write(root / "model", lambda number: IDS[shifted(number)])
    assert (opened(root).truth.mask("s0")[:3] == VOID).all()
    Image.fromarray(truth).save(root / "model" / "s0.png")
    with pytest.raises(DataError, match=r"(?s)void in a prediction: s0 .*--ids positions"):
        opened(root)


def test_every_fault_is_told_at_once(root):
    write(root / "model", lambda number: IDS[shifted(number)])
    Image.fromarray(np.zeros((5, 6), np.uint8)).save(root / "model" / "s0.png")
    Image.fromarray(np.full(SHAPE, 77, np.uint8)).save(root / "model" / "s1.png")
    (root / "truth" / "s2.png").write_bytes(b"no image")
    write(root / "photos", lambda number: np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(DataError) as told:
        opened(root, images=root / "photos")
    kinds = [line.strip().split(":")[0] for line in str(told.value).splitlines()[1:] if line[2] != " "]
    assert kinds == [
        "unreadable mask",
        "size mismatch",
        "ids that are no class in a prediction",
        "image of another size, 2 images",
    ]
    assert "5x6, its truth 24x32 (HEIGHTxWIDTH)" in str(told.value), "the unreadable truth has no follower"


def test_faults_of_one_kind_are_one_paragraph_and_all_are_kept(root):
    write(root / "model", lambda number: IDS[shifted(number)])
    for number in range(30):
        Image.fromarray(IDS[mask_of(0)]).save(root / "model" / f"more{number}.png")
    with pytest.raises(DataError) as told:
        opened(root)
    head, kind, *files, hidden, cure, place = str(told.value).splitlines()
    assert (head, kind) == (
        "these masks cannot be compared, 30 faults:",
        "  prediction without truth, 30 images:",
    )
    assert files == [f"    more{number} (model/more{number}.png)" for number in (0, 1, 10, 11, 12)]
    assert hidden.strip() == "and 25 more" and "take it out of the folder" in cure
    kept = json.loads(Path(place.strip().removeprefix("all are in ")).read_text())
    assert len(kept["errors"]) == 30


def spoil(root, name, content):
    Image.fromarray(content).save(root / name)


FAULTS = {
    "prediction without truth": lambda root: spoil(root, "model/more.png", IDS[mask_of(0)]),
    "truth without prediction": lambda root: (root / "model" / "s1.png").unlink(),
    "image without truth": lambda root: spoil(root, "photos/more.png", COLORS[mask_of(0)]),
    "truth without image": lambda root: (root / "photos" / "s1.png").unlink(),
    "two files of one name": lambda root: spoil(root, "model/s1.bmp", IDS[mask_of(0)]),
    "size mismatch": lambda root: spoil(root, "model/s1.png", IDS[mask_of(0)][:12, :16]),
    "image of another size": lambda root: spoil(root, "photos/s1.png", COLORS[mask_of(0)][:12, :16]),
    "unreadable image": lambda root: (root / "photos" / "s1.png").write_bytes(b"no image"),
    "ids outside the class list": lambda root: spoil(root, "truth/s1.png", np.full(SHAPE, 77, np.uint8)),
    "colours outside the class list": lambda root: spoil(
        root, "model/s1.png", np.full((*SHAPE, 3), (1, 2, 3), np.uint8)
    ),
    "ids that are no class in a prediction": lambda root: spoil(root, "model/s1.png", np.full(SHAPE, 77, np.uint8)),
    "void in a prediction": lambda root: spoil(root, "model/s1.png", np.full(SHAPE, 255, np.uint8)),
    "unreadable mask": lambda root: Image.fromarray(COLORS[mask_of(1)]).save(root / "model" / "s1.png", "JPEG"),
}


def again(root, name):
    content = {"photos": COLORS, "model": IDS, "truth": IDS}[name.split("/")[0]][mask_of(1)]
    return lambda: spoil(root, name, content)


def mended(root, kind):
    """What each cure asks for, done: every alternative of it."""
    classes = json.loads((root / "classes.json").read_text())

    def describe(**more):
        (root / "classes.json").write_text(json.dumps({**classes, **more}))

    def declare(**more):
        describe(classes=[*classes["classes"], {"name": "more", "color": [9, 9, 9], "id": 77} | more])

    def enlarge():
        small = Image.open(root / "model" / "s1.png")
        small.resize(SHAPE[::-1], Image.Resampling.NEAREST).save(root / "model" / "s1.png")

    return {
        "prediction without truth": [
            lambda: (again(root, "truth/more.png")(), again(root, "photos/more.png")()),
            (root / "model" / "more.png").unlink,
        ],
        "truth without prediction": [again(root, "model/s1.png"), lambda: (root / "truth/s1.png").unlink()],
        "image without truth": [(root / "photos" / "more.png").unlink],
        "truth without image": [again(root, "photos/s1.png"), None],
        "two files of one name": [(root / "model" / "s1.bmp").unlink],
        "size mismatch": [again(root, "model/s1.png"), enlarge],
        "image of another size": [again(root, "photos/s1.png"), None],
        "unreadable image": [again(root, "photos/s1.png"), None],
        "ids outside the class list": [declare, lambda: describe(void=[77])],
        "colours outside the class list": [lambda: declare(color=[1, 2, 3])],
        "ids that are no class in a prediction": [declare],
        "void in a prediction": [again(root, "model/s1.png")],
        "unreadable mask": [again(root, "model/s1.png")],
    }[kind]


@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault_is_told_by_its_kind_and_its_cure_mends_it(root, kind):
    write(root / "model", lambda number: IDS[shifted(number)])
    write(root / "photos", lambda number: COLORS[mask_of(number)])
    FAULTS[kind](root)
    for cure in mended(root, kind):
        kept = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
        with pytest.raises(DataError) as told:
            opened(root, images=root / "photos")
        assert f"\n  {kind}: " in str(told.value)
        assert CURES.get(kind, "export it from its source as PNG") in str(told.value)
        if cure is not None:
            cure()
        if kind == "truth without prediction" and not (root / "truth/s1.png").exists():
            (root / "photos" / "s1.png").unlink()
        opened(root, images=None if cure is None else root / "photos")
        for path in root.rglob("*"):
            if path.is_file() and path not in kept:
                path.unlink()
        for path, content in kept.items():
            path.write_bytes(content)


def test_every_cure_is_tried() -> None:
    assert {*CURES} <= {*FAULTS}


def test_folders_that_cannot_be_used_are_refused(root):
    with pytest.raises(UsageError, match="no such folder"):
        opened(root, "nowhere")
    (root / "empty").mkdir()
    with pytest.raises(DataError, match="is empty"):
        open_masks(root / "empty", {"model": root / "truth"}, read_classes(root / "classes.json"))
    write(root / "model", lambda number: IDS[shifted(number)])
    Image.fromarray(IDS[mask_of(0)]).save(root / "model" / "s0.bmp")
    with pytest.raises(DataError, match=r"two files of one name: s0 .*beside s0\.bmp"):
        opened(root)


def test_the_command_gives_the_same_tables_for_every_form(root, capsys):
    tables = {}
    for place, (content, name, _) in enumerate(FORMS.values()):
        folder = root / str(place) / "model"
        folder.parent.mkdir()
        write(folder, content, name)
        arguments = ["--truth", root / "truth", "--predictions", folder, "--classes", root / "classes.json"]
        assert command.main([*map(str, arguments), "--out", str(root / f"out{place}")]) == 0
        tables[place] = {path.name: path.read_text() for path in sorted((root / f"out{place}").glob("*.csv"))}
    assert len(tables[0]) == 6
    assert all(found == tables[0] for found in tables.values())
    told = capsys.readouterr().out
    assert "note: background: ground; all other classes are things" in told
    types = pd.read_csv(root / "out0" / "error_types.csv")
    assert types["share"].sum() == pytest.approx(1)
    assert f"{types['lost_iou'].sum():.4f} of a perfect mIoU is lost" in told


def test_the_command_takes_what_the_user_says_of_classes(root, capsys):
    write(root / "model", lambda number: IDS[np.zeros_like(shifted(number))])
    arguments = [*("--truth", str(root / "truth")), *("--predictions", str(root / "model"))]
    arguments += ["--classes", str(root / "classes.json"), "--out", str(root / "out")]
    assert command.main(arguments) == 0
    assert set(pd.read_csv(root / "out" / "component_failures.csv")["type"]) == {"missed component"}
    assert command.main([*arguments, "--background", "", "--stuff", ""]) == 0
    assert set(pd.read_csv(root / "out" / "component_failures.csv")["type"]) == {"wrong class, whole"}
    assert command.main([*arguments, "--stuff", "nose"]) == 2
    assert "no class is called nose" in capsys.readouterr().err
