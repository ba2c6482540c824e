"""Annotations in other formats, drawn as masks: compared with the pixels of other readers, or worked out by hand."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import matplotlib.path
import numpy as np
import PIL.Image
import pytest

from trainables.data import DATASETS, init
from trainables.data.check import check
from trainables.errors import DataError

HEIGHT, WIDTH = 40, 60


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    PIL.Image.fromarray(noise).save(path)


def polygon(seed: int) -> list[list[float]]:
    """A star of nine corners."""
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
    radius = rng.uniform(4, 16, 9)
    x, y = rng.uniform(15, 45), rng.uniform(12, 28)
    return [[float(x + r * np.cos(a)), float(y + r * np.sin(a))] for a, r in zip(angles, radius, strict=True)]


def flat(points: list[list[float]]) -> list[float]:
    return [value for point in points for value in point]


def folder(root: Path) -> Any:
    return DATASETS.get("folder")(root=root)


def initialised(root: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    assert init.main([str(root), *flags]) == 0
    return capsys.readouterr().out


# COCO


def coco(root: Path, parts: dict[str, int], where: str, file_name: str, *, extra: Callable[[int], list[Any]]) -> None:
    first = 0
    for part, count in parts.items():
        content: dict[str, Any] = {
            "images": [],
            "annotations": [],
            "categories": [{"id": 90, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 7, "name": "unused"}],
        }
        for number in range(first, first + count):
            picture(root / file_name.format(part=part, name=f"{number:03d}"), number)
            content["images"].append(
                {"id": 1000 + number, "file_name": f"{number:03d}.jpg", "height": HEIGHT, "width": WIDTH}
            )
            for place, annotation in enumerate(extra(number)):
                content["annotations"].append({"id": 10 * number + place, "image_id": 1000 + number, **annotation})
        path = root / where.format(part=part)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        first += count


def objects(number: int) -> list[Any]:
    """A polygon of two parts, one with run lengths, and in every third image a crowd; none in every seventh."""
    if number % 7 == 6:
        return []
    runs = {"size": [HEIGHT, WIDTH], "counts": [40 * 20 + 5, 30, 10, 30, 10, 30, 40 * 60 - 40 * 20 - 5 - 110]}
    shapes = [
        {"category_id": 90, "segmentation": [flat(polygon(number)), flat(polygon(500 + number))], "iscrowd": 0},
        {"category_id": 3, "segmentation": runs, "iscrowd": 0},
        {"category_id": 3, "segmentation": [], "bbox": [1, 2, 3, 4], "iscrowd": 0},
    ]
    if number % 3 == 0:
        shapes.append({"category_id": 90, "segmentation": {**runs, "counts": [0, 80, 40 * 60 - 80]}, "iscrowd": 1})
    return shapes


def test_coco_is_drawn_as_pycocotools_draws_each_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco_module = pytest.importorskip("pycocotools.coco")
    root = tmp_path / "root"
    parts = {"train": 12, "valid": 4, "test": 4}
    coco(root, parts, "{part}/_annotations.coco.json", "{part}/{name}.jpg", extra=objects)
    with pytest.raises(
        DataError, match=r"no masks, but annotations in COCO JSON \(3 files\); say which: .*init .* \(draws"
    ):
        folder(root)
    shown = initialised(root, capsys)
    assert "drawn from COCO JSON" in shown and "from large to small, crowds are void" in shown
    data = folder(root)
    assert [info.name for info in data.classes] == ["background", "dog", "cat"]
    splits = data.splits()
    assert (len(splits.train), len(splits.val), len(splits.test)) == (12, 4, 4)
    assert not check(data, splits).errors
    for part in parts:
        oracle = coco_module.COCO(str(root / part / "_annotations.coco.json"))
        for image_id, image in oracle.imgs.items():
            expected = np.zeros((HEIGHT, WIDTH), np.uint8)
            shapes = [a for a in oracle.imgToAnns[image_id] if a["segmentation"]]
            for shape in sorted(shapes, key=lambda a: -int(oracle.annToMask(a).sum())):
                value = 255 if shape["iscrowd"] else {3: 1, 90: 2}[shape["category_id"]]
                expected[oracle.annToMask(shape) == 1] = value
            name = f"{part.replace('valid', 'val')}/{image['file_name'][:-4]}"
            np.testing.assert_array_equal(data.mask(name), expected, err_msg=name)
    assert "left out: they are boxes" in shown


def test_coco_files_of_splits_over_one_folder_of_images_are_the_splits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pycocotools")
    root = tmp_path / "root"
    coco(root, {"train": 6, "val": 3}, "annotations/instances_{part}.json", "images/{name}.jpg", extra=objects)
    initialised(root, capsys)
    splits = folder(root).splits()
    assert splits.val == ("006", "007", "008") and len(splits.train) + len(splits.test) == 6


def test_annotations_that_changed_are_drawn_again_and_never_read_stale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pycocotools")
    root = tmp_path / "root"
    coco(root, {"all": 8}, "{part}.json", "images/{name}.jpg", extra=objects)
    initialised(root, capsys)
    before = folder(root).mask("000")
    coco(root, {"all": 8}, "{part}.json", "images/{name}.jpg", extra=lambda number: objects(number + 1))
    with pytest.raises(DataError, match="have changed since masks were drawn"):
        folder(root)
    initialised(root, capsys)
    assert (folder(root).mask("000") != before).any()
    initialised(root, capsys, "--classes", "ground,hound,tiger")
    assert [info.name for info in folder(root).classes] == ["ground", "hound", "tiger"]


def test_coco_of_boxes_and_files_that_disagree_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root"
    coco(root, {"a": 3}, "{part}.json", "images/{name}.jpg", extra=lambda number: [objects(0)[2]])
    with pytest.raises(DataError, match="no annotation has a segmentation: they are boxes, not masks"):
        folder(root)
    content = json.loads((root / "a.json").read_text())
    content["categories"][0]["name"] = "horse"
    (root / "b.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="category 90 is horse, and cat elsewhere"):
        folder(root)
    (root / "b.json").write_text(json.dumps({**content, "categories": [[]]}))
    with pytest.raises(DataError, match=r"b\.json: annotations are not as their format has them"):
        folder(root)


def test_without_pycocotools_one_line_says_how_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    coco(root, {"a": 3}, "{part}.json", "images/{name}.jpg", extra=objects)
    monkeypatch.setitem(__import__("sys").modules, "pycocotools", None)
    assert init.main([str(root)]) == 1
    assert "which is not installed: pip install '.[coco]'" in capsys.readouterr().err
    assert not (root / "dataset.yaml").exists()


# Labelme


def labelme(root: Path, number: int, shapes: list[Any]) -> None:
    picture(root / f"{number}.jpg", number)
    content = {"version": "5.4.1", "imagePath": f"..\\data\\{number}.jpg", "imageHeight": HEIGHT, "imageWidth": WIDTH}
    (root / f"{number}.json").write_text(json.dumps({**content, "shapes": shapes}))


def stamp(pixels: np.ndarray) -> str:
    out = io.BytesIO()
    PIL.Image.fromarray(pixels).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def test_labelme_shapes_are_drawn_over_each_other_in_their_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, expected = tmp_path / "root", np.zeros((HEIGHT, WIDTH), np.uint8)
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
    shapes = [
        {"label": "wall", "shape_type": "rectangle", "points": [[30, 20], [10, 5]]},
        {"label": "door", "shape_type": "polygon", "points": [[12, 6], [12, 15], [20, 15], [20, 6]]},
        {"label": "knob", "shape_type": "mask", "points": [[40, 30], [42, 32]], "mask": stamp(cross * 255)},
        {"label": "door", "shape_type": "line", "points": [[0, 0], [9, 9]]},
        {"label": "__ignore__", "shape_type": "rectangle", "points": [[50, 0], [55, 3]]},
    ]
    # Outlines belong to the shapes: the corners are inside.
    expected[5:21, 10:31] = 3
    expected[6:16, 12:21] = 1
    expected[30:33, 40:43][cross == 1] = 2
    expected[0:4, 50:56] = 255
    for number in range(6):
        labelme(root, number, shapes)
    labelme(root, 6, [])
    shown = initialised(root, capsys)
    assert "later ones over earlier ones" in shown and "1 shape" not in shown
    data = folder(root)
    assert [info.name for info in data.classes] == ["background", "door", "knob", "wall"]
    np.testing.assert_array_equal(data.mask("0"), expected)
    assert not data.mask("6").any()


def distances(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """From each point, shape (N, 2), to the outline of a polygon."""
    found = np.full(len(points), np.inf)
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        along = np.clip((points - start) @ (end - start) / ((end - start) @ (end - start)), 0, 1)
        found = np.minimum(found, np.hypot(*(points - start - along[:, None] * (end - start)).T))
    return found


def test_labelme_polygons_and_circles_hold_the_pixels_within_and_none_outside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within a pixel and a half of the outline either is right, as corners are rounded."""
    root = tmp_path / "root"
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    centres = np.column_stack([columns.ravel(), rows.ravel()])
    for number in range(8):
        labelme(root, number, [{"label": "a", "shape_type": "polygon", "points": polygon(number)}])
    labelme(root, 8, [{"label": "b", "shape_type": "circle", "points": [[30, 20], [33.3, 24.8]]}])
    initialised(root, capsys)
    data = folder(root)
    for number in range(8):
        path = matplotlib.path.Path([*polygon(number), polygon(number)[0]], closed=True)
        inside = path.contains_points(centres).reshape(HEIGHT, WIDTH).astype(np.uint8)
        outline = distances(centres, np.array(polygon(number))).reshape(HEIGHT, WIDTH)
        drawn = data.mask(str(number)) == 1
        assert inside.sum() > 20 and drawn[(inside == 1) & (outline > 1.5)].all()
        assert not drawn[(inside == 0) & (outline > 1.5)].any()
    distance = np.hypot(columns - 30, rows - 20)
    drawn, radius = data.mask("8"), np.hypot(3.3, 4.8)
    assert (drawn[distance < radius - 1] == 2).all() and not drawn[distance > radius + 1].any()


def test_labelme_polygons_and_circles_are_those_of_labelme_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    utils = pytest.importorskip("labelme.utils")
    root = tmp_path / "root"
    for number in range(8):
        shapes = [
            {"label": "a", "shape_type": "polygon", "points": polygon(number)},
            {"label": "b", "shape_type": "circle", "points": [[30, 20], [33.3, 24.8]]},
        ]
        labelme(root, number, shapes)
    initialised(root, capsys)
    data = folder(root)
    for number in range(8):
        shapes = json.loads((root / f"{number}.json").read_text())["shapes"]
        drawn, _ = utils.shapes_to_label((HEIGHT, WIDTH), shapes, {"a": 1, "b": 2})
        np.testing.assert_array_equal(data.mask(str(number)), drawn)


# YOLO


def yolo(root: Path, part: str, number: int, lines: list[str]) -> None:
    picture(root / "images" / part / f"{number}.jpg", number)
    path = root / "labels" / part / f"{number}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))


def outline(seed: int, class_id: int) -> str:
    points = np.clip(np.array(polygon(seed)) / (WIDTH, HEIGHT), 0, 1)
    return f"{class_id} " + " ".join(f"{value:.6f}" for value in points.ravel())


def test_yolo_outlines_are_drawn_as_ultralytics_and_supervision_draw_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    for number in range(12):
        part = "train" if number < 8 else "val"
        yolo(root, part, number, [outline(number, 1), outline(50 + number, 0)] if number != 5 else [])
    (root / "data.yaml").write_text("path: .\nnames:\n  0: cup\n  1: plate\n")
    (root / "readme.txt").write_text("a data set")
    initialised(root, capsys)
    data = folder(root)
    assert [info.name for info in data.classes] == ["background", "cup", "plate"]
    assert len(data.splits().val) == 4
    for number in (0, 3, 11):
        expected = np.zeros((HEIGHT, WIDTH), np.uint8)
        for line in (root / "labels" / ("train" if number < 8 else "val") / f"{number}.txt").read_text().splitlines():
            class_id, *values = line.split()
            corners = np.array(values, float).reshape(-1, 2) * (WIDTH, HEIGHT)
            cv2.fillPoly(expected, [corners.astype(np.int32)], int(class_id) + 1)
        np.testing.assert_array_equal(data.mask(f"{'train' if number < 8 else 'val'}/{number}"), expected)
    assert not data.mask("train/5").any()


def test_yolo_boxes_are_refused(tmp_path: Path) -> None:
    for number in range(4):
        yolo(tmp_path / "root", "train", number, ["0 0.5 0.5 0.2 0.2"])
    with pytest.raises(DataError, match="the lines are boxes, not outlines"):
        folder(tmp_path / "root")


def test_folder_of_drawn_masks_that_is_somebody_elses_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    for number in range(4):
        yolo(root, "train", number, [outline(number, 0)])
    (root / "segsweep_masks").mkdir()
    (root / "segsweep_masks" / "thesis.txt").write_text("years of work")
    assert init.main([str(root)]) == 1
    assert "was not written by this command, and is left alone" in capsys.readouterr().err
    assert [path.name for path in (root / "segsweep_masks").iterdir()] == ["thesis.txt"]
