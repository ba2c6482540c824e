"""Exports of annotation tools, drawn as masks: compared with other readers and writers, or worked out by hand."""

from __future__ import annotations

import base64
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from trainables.data import init
from trainables.data.check import check
from trainables.data.imports import shapes
from trainables.errors import DataError

from .test_imports import HEIGHT, WIDTH, distances, folder, initialised, picture, polygon

Bits = np.ndarray[Any, np.dtype[np.bool_]]


def blob(seed: int) -> Bits:
    """A few rectangles with ragged rows, shape (HEIGHT, WIDTH)."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((HEIGHT, WIDTH), bool)
    for _ in range(3):
        top, left = rng.integers(0, HEIGHT - 8), rng.integers(0, WIDTH - 12)
        for row in range(top, top + 7):
            pixels[row, left : left + rng.integers(2, 12)] = True
    return pixels


def even_odd(rings: list[list[list[float]]]) -> Bits:
    """A ray to the right from the middle of each pixel crosses the rings an odd number of times."""
    pixels = np.zeros((HEIGHT, WIDTH), bool)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            crossed = 0
            for ring in rings:
                for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
                    if (y0 > row) != (y1 > row):
                        crossed += column < x0 + (row - y0) * (x1 - x0) / (y1 - y0)
            pixels[row, column] = crossed % 2 == 1
    return pixels


def test_polygons_hold_the_pixels_whose_middle_is_inside_also_beyond_the_image() -> None:
    star = polygon(4)
    hole = [[x * 0.3 + 0.7 * star[0][0], y * 0.3 + 0.7 * star[0][1]] for x, y in star]
    for moved in (0, -25, 38):
        rings = [[[x + moved + 0.01, y + 0.01] for x, y in ring] for ring in (star, hole)]
        drawn = shapes.polygon((HEIGHT, WIDTH), [[(x, y) for x, y in ring] for ring in rings])
        np.testing.assert_array_equal(drawn, even_odd(rings))
    coco = pytest.importorskip("pycocotools.mask")
    flat = [value + 0.5 for point in star for value in point]  # its corners count from the corner of the first pixel
    other = coco.decode(coco.frPyObjects([flat], HEIGHT, WIDTH))[..., 0].astype(bool)
    rows, columns = np.nonzero(shapes.polygon((HEIGHT, WIDTH), [[(x, y) for x, y in star]]) != other)
    assert (distances(np.column_stack([columns, rows]), np.array(star)) < 1.0).all()
    with pytest.raises(ValueError, match="2 points make no polygon"):
        shapes.polygon((9, 9), [[(0, 0), (4, 4)]])


# CVAT


def cvat(root: Path, images: list[str], kind: str = "<version>1.1</version>") -> None:
    (root / "annotations.xml").write_text(
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>{kind}{"".join(images)}</annotations>'
    )


def image(root: Path, number: int, inside: str, subset: str = "") -> str:
    picture(root / "images" / f"{number}.jpg", number)
    named = f'name="{number}.jpg" width="{WIDTH}" height="{HEIGHT}"'
    return f'<image id="{number}" {named} subset="{subset}">{inside}</image>'


def runs_of(part: Bits) -> str:
    """Run lengths row by row, the first of them outside."""
    flat = np.concatenate([[False], part.ravel()])
    ends = np.flatnonzero(np.diff(flat))
    return ", ".join(str(run) for run in np.diff([0, *ends, part.size]))


def test_cvat_shapes_are_drawn_by_their_z_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root"
    blobs = [blob(number) for number in range(8)]
    found, expected = [], []
    for number, pixels in enumerate(blobs):
        rows, columns = np.nonzero(pixels)
        top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
        part = pixels[top:bottom, left:right]
        box = f'left="{left}" top="{top}" width="{part.shape[1]}" height="{part.shape[0]}"'
        points = ";".join(f"{x + 0.51},{y + 0.51}" for x, y in polygon(number))
        found.append(
            image(
                root,
                number,
                f'<mask label="dog" z_order="2" rle="{runs_of(part)}" {box}></mask>'
                f'<polygon label="cat" points="{points}" z_order="1"></polygon>'
                '<box label="ant" xtl="2.0" ytl="3.0" xbr="9.0" ybr="8.0" z_order="0"></box>'
                '<points label="eye" points="4,4" z_order="9"></points>',
                "Validation" if number > 5 else "Train",
            )
        )
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[3:8, 2:9] = 1
        mask[even_odd([[[x + 0.01, y + 0.01] for x, y in polygon(number)]])] = 2
        mask[pixels] = 3
        expected.append(mask)
    cvat(root, [*found, image(root, 8, ""), '<image id="9" name="gone.jpg" width="9" height="9"></image>'])
    shown = initialised(root, capsys)
    assert "drawn from CVAT XML" in shown and "by their z_order" in shown
    assert "1 annotated image not there: gone.jpg" in shown and "1 more in the check" in shown
    data = folder(root)
    assert [info.name for info in data.classes] == ["background", "ant", "cat", "dog"]
    for number, mask in enumerate(expected):
        np.testing.assert_array_equal(data.mask(str(number)), mask, err_msg=str(number))
    assert not data.mask("8").any()
    assert data.splits().val == ("6", "7") and not check(data, data.splits()).errors


def test_cvat_rectangles_and_ellipses_may_be_turned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root"
    box = '<box label="a" xtl="20" ytl="18" xbr="40" ybr="22" rotation="90"></box>'
    round_one = '<ellipse label="a" cx="30" cy="20" rx="12" ry="3" rotation="90"></ellipse>'
    cvat(root, [*(image(root, number, box) for number in range(3)), image(root, 3, round_one)])
    initialised(root, capsys)
    mask = folder(root).mask("0")
    assert mask[10:30, 28:32].all() and mask.sum() == 20 * 4
    rows, columns = np.nonzero(folder(root).mask("3"))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 31, 27, 32)


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (["<track id='0' label='a'></track>"], "tracks of a video; export the task"),
        (
            ['<image id="0" name="0.jpg" width="9" height="9"><points label="a" points="1,1"/></image>'],
            "no polygon, mask",
        ),
    ],
)
def test_cvat_without_areas_is_refused(tmp_path: Path, images: list[str], told: str) -> None:
    picture(tmp_path / "root" / "0.jpg", 0)
    cvat(tmp_path / "root", images)
    with pytest.raises(DataError, match=told):
        folder(tmp_path / "root")


def test_cvat_mask_that_is_torn_and_xml_with_entities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root"
    torn = '<mask label="a" rle="3, 5" left="0" top="0" width="3" height="3"></mask>'
    cvat(root, [image(root, number, torn) for number in range(3)])
    assert init.main([str(root)]) == 1
    errors = capsys.readouterr().err
    assert "a shape cannot be drawn (its run lengths are 8 pixels, its box 9)" in errors and "0.jpg" in errors
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa">]><annotations><version>1.1</version></annotations>'
    (root / "annotations.xml").write_text(bomb)
    with pytest.raises(DataError, match="no masks"):
        folder(root)


# Supervisely


def packed(pixels: Bits, mode: str) -> str:
    """A bitmap as the SDK packs it: a palette PNG whose colour 0 is transparent; older ones are grey."""
    picture_of = PIL.Image.fromarray(pixels.astype(np.uint8) * (1 if mode == "P" else 255))
    out = io.BytesIO()
    if mode == "P":
        picture_of.putpalette([0, 0, 0, 255, 255, 255])
        picture_of.save(out, "PNG", transparency=0)
    else:
        picture_of.save(out, "PNG")
    return base64.b64encode(zlib.compress(out.getvalue())).decode()


def test_supervisely_objects_are_drawn_in_their_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root"
    expected = {}
    for number in range(9):
        part = "train" if number < 6 else "val"
        picture(root / part / "img" / f"{number}.jpg", number)
        star, pixels = polygon(number), blob(number)
        hole = [[x * 0.3 + 0.7 * star[0][0], y * 0.3 + 0.7 * star[0][1]] for x, y in star]
        points = {
            "exterior": [[x + 0.01, y + 0.01] for x, y in star],
            "interior": [[[x + 0.01, y + 0.01] for x, y in hole]],
        }
        objects = [
            {"classTitle": "sky", "geometryType": "polygon", "points": points},
            {"classTitle": "car", "geometryType": "bitmap",
             "bitmap": {"data": packed(pixels[2:], "PL"[number % 2]), "origin": [0, 2]}},
            {"classTitle": "bus", "geometryType": "rectangle", "points": {"exterior": [[50, 4], [44, 1]]}},
            {"classTitle": "eye", "geometryType": "point", "points": {"exterior": [[1, 1]], "interior": []}},
        ]  # fmt: skip
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[even_odd([points["exterior"], *points["interior"]])] = 3
        mask[2:][pixels[2:]] = 2
        mask[1:5, 44:51] = 1
        expected[f"{part}/{number}"] = mask
        path = root / part / "ann" / f"{number}.jpg.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"description": "", "size": {"height": HEIGHT, "width": WIDTH}, "objects": objects}))
    (root / "meta.json").write_text(json.dumps({"classes": [{"title": "sky", "shape": "any"}], "tags": []}))
    shown = initialised(root, capsys)
    assert "drawn from Supervisely JSON" in shown and "9 objects without an area left out: point" in shown
    data = folder(root)
    assert [info.name for info in data.classes] == ["background", "bus", "car", "sky"]
    assert set(data.ids()) == set(expected)
    for name, mask in expected.items():
        np.testing.assert_array_equal(data.mask(name), mask, err_msg=name)
    assert len(data.splits().train) + len(data.splits().test) == 6 and len(data.splits().val) == 3
    content = json.loads((root / "val" / "ann" / "7.jpg.json").read_text())
    content["objects"][1]["bitmap"]["data"] = base64.b64encode(b"no picture").decode()
    (root / "val" / "ann" / "7.jpg.json").write_text(json.dumps(content))
    assert init.main([str(root)]) == 1
    assert "7.jpg.json: an object cannot be drawn" in capsys.readouterr().err


# Label Studio


def packed_bits(values: np.ndarray[Any, np.dtype[np.uint8]], widths: tuple[int, ...] = (3, 4, 8, 16)) -> list[int]:
    """`thi.ng/rle-pack` written the other way round: runs of one value, and stretches that are spelled out."""
    bits = f"{len(values):032b}" + f"{7:05b}" + "".join(f"{width - 1:04b}" for width in widths)
    place = 0
    while place < len(values):
        run = 1
        while place + run < len(values) and values[place + run] == values[place] and run < 1 << widths[-1]:
            run += 1
        spelled = values[place : place + 5] if run < 2 else values[place : place + run]
        which = next(n for n, width in enumerate(widths) if len(spelled) <= 1 << width)
        bits += ("1" if run >= 2 else "0") + f"{which:02b}" + format(len(spelled) - 1, f"0{widths[which]}b")
        bits += f"{values[place]:08b}" if run >= 2 else "".join(f"{value:08b}" for value in spelled)
        place += len(spelled)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


def region(kind: str, label: str, **value: Any) -> dict[str, Any]:
    size = {"original_width": WIDTH, "original_height": HEIGHT}
    return {"type": kind, "value": {**value, kind: [label]}, **size}


def task(number: int, regions: list[Any], image_name: str, **more: Any) -> dict[str, Any]:
    return {"id": number, "data": {"image": image_name}, "annotations": [{"result": regions, **more}]}


def test_label_studio_regions_are_drawn_in_their_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root"
    tasks, expected = [], []
    for number in range(8):
        picture(root / "pictures" / f"scan {number}.jpg", number)
        brush = blob(number)
        alpha = np.random.default_rng(number).integers(1, 256, brush.shape, np.uint8) * brush  # smooth edges count
        star = polygon(number)
        in_percent = [[(x + 0.51) * 100 / WIDTH, (y + 0.51) * 100 / HEIGHT] for x, y in star]
        box = {"x": 50.0, "y": 25.0, "width": 10.0, "height": 20.0, "rotation": 0}
        regions = [
            region("polygonlabels", "tree", points=in_percent),
            region("brushlabels", "road", format="rle", rle=packed_bits(np.repeat(alpha.ravel(), 4))),
            region("rectanglelabels", "sign", **box),
            {"type": "choices", "value": {"choices": ["sunny"]}},
        ]
        names = (f"/data/upload/3/0a1b2c3d-scan%20{number}.jpg", f"/data/local-files/?d=pictures/scan%20{number}.jpg")
        tasks.append(task(number, regions, names[number % 2]))
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[even_odd([[[x + 0.01, y + 0.01] for x, y in star]])] = 3
        mask[brush] = 1
        mask[10:18, 30:36] = 2
        expected.append(mask)
    picture(root / "pictures" / "empty.jpg", 50)
    tasks.append(task(8, [], "s3://bucket/pictures/empty.jpg"))
    tasks[0]["annotations"] += [{"result": [], "was_cancelled": True}]
    (root / "project-1.json").write_text(json.dumps(tasks))
    shown = initialised(root, capsys)
    assert "drawn from Label Studio JSON" in shown and "1 task with several annotations" in shown
    data = folder(root)
    assert [info.name for info in data.classes] == ["background", "road", "sign", "tree"]
    for number, mask in enumerate(expected):
        np.testing.assert_array_equal(data.mask(f"scan {number}"), mask, err_msg=str(number))
    assert not data.mask("empty").any()


@pytest.mark.parametrize(
    ("cut", "told"),
    [
        (lambda rle: rle[:-3], "its run lengths end too early"),
        (lambda rle: packed_bits(np.zeros(9, np.uint8)), "its run lengths are 9 values, 4 for each pixel are 9600"),
    ],
)
def test_label_studio_brush_that_is_torn_is_one_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cut: Any, told: str
) -> None:
    root = tmp_path / "root"
    rle = packed_bits(np.repeat(blob(1).astype(np.uint8).ravel() * 255, 4))
    tasks = []
    for number in range(3):
        picture(root / f"{number}.jpg", number)
        tasks.append(task(number, [region("brushlabels", "a", format="rle", rle=cut(rle))], f"/data/{number}.jpg"))
    (root / "export.json").write_text(json.dumps(tasks))
    assert init.main([str(root)]) == 1
    errors = capsys.readouterr().err
    assert told in errors and "0.jpg: a region cannot be drawn" in errors and "Traceback" not in errors
