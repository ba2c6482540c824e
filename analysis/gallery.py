"""Every failure pictured: files for each label and image, and as much of them inside the page as its budget allows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pandas as pd

from analysis import pictures
from analysis.export import show_number
from analysis.failures import cause_kind
from analysis.figures import name_cause
from trainables.data.base import Mask, SegmentationData

if TYPE_CHECKING:
    from analysis.results import Results

EMBEDDING_BUDGET = 25_000_000
"""Bytes of pictures inside the page; the rest is linked."""
FOLDER = "failures"
PREDICTIONS_FOLDER = "predictions"

Advance = Callable[[], None]
"""Called once for each image that is done."""


@dataclass(frozen=True)
class Gallery:
    """The failures as the page shows them.

    Attributes:
        rows: One entry a row of `failures.csv`, in its order: what the page filters, sorts and shows.
        images: Image id -> data URIs `image` and `truth`, for images inside the page.
        predictions: `TRIAL/IMAGE` number -> data URI of the predicted mask.
        embedded: Rows whose pictures are inside the page.
        files: Picture files written.
    """

    rows: list[dict[str, Any]]
    images: dict[str, dict[str, str]] = field(default_factory=dict)
    predictions: dict[str, str] = field(default_factory=dict)
    embedded: int = 0
    files: int = 0


@dataclass(frozen=True)
class _Drawn:
    """One image's pictures, made in a worker."""

    image_id: str
    parts: dict[str, str]
    predictions: dict[str, str]
    maps: dict[int, str]
    files: int

    @property
    def bytes(self) -> int:
        return sum(len(uri) for group in (self.parts, self.predictions, self.maps) for uri in group.values())


def build_gallery(
    results: Results,
    data: SegmentationData,
    report_dir: Path,
    *,
    budget: int = EMBEDDING_BUDGET,
    advance: Advance | None = None,
) -> Gallery:
    """Writes `report_dir/failures/LABEL/IMAGE_ID.png` for every failure and collects what the page embeds.

    Pictures of an earlier report are removed. Images whose worst failure is worst go into the page first; from the
    first image on that exceeds the budget, failures are linked to their files.

    Args:
        results: Frames and evaluations.
        data: Gives images and truth.
        report_dir: Folder of the report.
        budget: Bytes of data URIs that the page may hold.
        advance: Told after every image.
    """
    shutil.rmtree(report_dir / FOLDER, ignore_errors=True)
    rows = [
        _row(place, record, results.labels[record["label"]].trial_id)
        for place, record in enumerate(results.failures.to_dict("records"))
    ]
    if not rows:
        return Gallery(rows)
    of_image: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["iou"]):
        of_image.setdefault(row["image"], []).append(row)
    full = False
    gallery = Gallery(rows)
    embedded = files = used = 0

    def draw(own: list[dict[str, Any]]) -> _Drawn:
        return _draw_image(results, data, report_dir, own, embed=not full)

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for drawn in pool.map(draw, of_image.values()):
            files += drawn.files
            full = full or used + drawn.bytes > budget
            if not full:
                used += drawn.bytes
                gallery.images[drawn.image_id] = drawn.parts
                gallery.predictions.update(drawn.predictions)
                for place, uri in drawn.maps.items():
                    rows[place]["map"] = uri
                    embedded += 1
            if advance:
                advance()
    return Gallery(rows, gallery.images, gallery.predictions, embedded, files)


def save_predictions(results: Results, report_dir: Path, *, advance: Advance | None = None) -> int:
    """Writes `report_dir/predictions/LABEL/IMAGE_ID.png` for every label and image of the split.

    Palette PNGs at the masks' original size whose pixel values are the class ids; no pixel is void.

    Returns:
        Number of files written.
    """
    folder = report_dir / PREDICTIONS_FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    written = 0
    for label, record in results.labels.items():
        evaluation = results.evaluations[record.trial_id]
        for image_id in evaluation.image_ids:
            picture = pictures.id_mask(evaluation.prediction(image_id), results.classes)
            pictures.save_png(picture, folder / pictures.file_name(label) / pictures.file_name(image_id, ".png"))
            written += 1
            if advance:
                advance()
    return written


def picture_path(label: str, image_id: str) -> Path:
    """Where a failure's picture stands, relative to the report's folder."""
    return Path(FOLDER) / pictures.file_name(label) / pictures.file_name(image_id, ".png")


def _draw_image(
    results: Results, data: SegmentationData, report_dir: Path, rows: Sequence[dict[str, Any]], *, embed: bool
) -> _Drawn:
    """Draws one image's failures, worst first in `rows`."""
    image_id = rows[0]["image"]
    image, truth = data.image(image_id), data.mask(image_id)
    class_ids = {info.name: place for place, info in enumerate(results.classes)}
    predictions: dict[str, str] = {}
    maps: dict[int, str] = {}
    files = 0
    for trial_id, own in _by_trial(rows).items():
        prediction: Mask = results.evaluations[trial_id].prediction(image_id)
        labels = [label for label in results.labels if any(row["label"] == label for row in own)]
        picture = pictures.failure_picture(
            image,
            truth,
            prediction,
            results.classes,
            title=f"{' = '.join(labels)}  ·  {image_id}",
            captions=[
                pictures.Caption(row["class"], row["iou"], "; ".join(row["causes"]))
                for row in own
                if row["label"] == labels[0]
            ],
        )
        first, *others = [report_dir / picture_path(label, image_id) for label in labels]
        pictures.save_png(picture, first)
        for other in others:
            other.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(first, other)
        files += len(labels)
        if embed:
            predictions[f"{trial_id}/{image_id}"] = pictures.mask_uri(prediction, results.classes)
            uris = {
                name: pictures.class_error_uri(truth, prediction, class_ids[name])
                for name in dict.fromkeys(row["class"] for row in own)
            }
            maps.update({row["row"]: uris[row["class"]] for row in own})
    parts = {"image": pictures.photo_uri(image), "truth": pictures.mask_uri(truth, results.classes)} if embed else {}
    return _Drawn(image_id, parts, predictions, maps, files)


def _by_trial(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows by the trial behind their label: labels that hold one trial share a picture."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["trial"], []).append(row)
    return found


def _row(place: int, record: Mapping[Any, Any], trial_id: str) -> dict[str, Any]:
    causes = [cause for cause in str(record["causes"]).split("; ") if cause]
    path = picture_path(str(record["label"]), str(record["image_id"]))
    return {
        "row": place,
        "trial": trial_id,
        "label": str(record["label"]),
        "image": str(record["image_id"]),
        "class": str(record["class"]),
        "iou": float(record["iou"]),
        "causes": causes,
        "kinds": list(dict.fromkeys(name_cause(cause_kind(cause)) for cause in causes)),
        "wrong": _wrong_pixels(record),
        "facts": list(_facts(record)),
        "picture": quote(path.as_posix()),
        "map": "",
    }


def _wrong_pixels(record: Mapping[Any, Any]) -> int:
    """Pixels missed and pixels invented: truth + prediction - 2 x intersection, where IoU gives the intersection."""
    truth, predicted, iou = float(record["truth_pixels"]), float(record["predicted_pixels"]), float(record["iou"])
    intersection = iou * (truth + predicted) / (1 + iou)
    return round(truth + predicted - 2 * intersection)


def _facts(record: Mapping[Any, Any]) -> Iterator[str]:
    """The measured values that lie behind the causes, as short phrases."""
    truth, predicted = int(record["truth_pixels"]), int(record["predicted_pixels"])
    yield f"{truth:,} px in truth, {predicted:,} px predicted"
    if truth:
        for column, phrase in (
            ("missed_recall", "found"),
            ("confused_fraction", f"taken for {record['confused_with'] or 'another class'}"),
            ("boundary_fraction", "of the error near the boundary"),
            ("area_fraction", "of the image"),
            ("border_fraction", "of the contour on the image border"),
        ):
            value = record[column]
            if pd.notna(value) and value > 0:
                yield f"{_percent(float(value))} {phrase}"


def _percent(share: float) -> str:
    return f"{show_number(100 * share, digits=2)}%"
