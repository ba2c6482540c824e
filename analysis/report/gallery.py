"""The failures pictured: files of the worst, and as much of them inside the page as its budget allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pandas as pd

from analysis import pictures
from analysis.failures.measure import cause_kind, causes_of, causes_text, name_cause
from analysis.measured import Measured
from analysis.outputs import Names, reserve
from analysis.report.changed import changed_rows, first_images
from analysis.report.tables import show_number
from trainables.data.base import Image, Mask, SegmentationData
from trainables.flags import MOST_PICTURES
from trainables.machine import cores
from trainables.paths import WrittenFiles

if TYPE_CHECKING:
    from analysis.results import Results

EMBEDDING_BUDGET = 9_000_000
"""Bytes of pictures inside the page, which is to stay below 15 MB; the rest is linked."""
FOLDER = "failures"

Advance = Callable[[int, int], None]
"""Called with how many files are done, and of how many."""


@dataclass(frozen=True)
class Source:
    """Where the masks and images behind failures come from, by image id.

    Attributes:
        image: RGB, uint8 of shape (H, W, 3); None where there are no images.
        truth: Class ids or void, uint8 of shape (H, W).
        prediction: The same of one of the predictions, by its key (`Measured.prediction_keys`).
        shown: What stands over the image in pictures.
    """

    image: Callable[[str], Image] | None
    truth: Callable[[str], Mask]
    prediction: Callable[[str, str], Mask]
    shown: str = "image"


@dataclass(frozen=True)
class Gallery:
    """The failures as the page shows them.

    Attributes:
        rows: One entry for each row of `failures.csv`, in its order: what the page filters, sorts and shows.
        changes: One entry for each row of `component_changes.csv` (`changed.changed_rows`).
        images: Image id -> data URIs `image`, `truth` and `outlines`, and `size`, for images inside the page.
        predictions: `KEY/IMAGE` -> data URI of the predicted mask.
        maps: `KEY/IMAGE/CLASS` -> data URI of where the class was hit, missed and invented.
        embedded: Rows whose pictures are inside the page.
        files: Picture files written.
        failing: Pictures that all failures would take: one for each image and checkpoint that fails there.
        shown: How pictures show images of other bands than red, green and blue; empty for others.
    """

    rows: list[dict[str, Any]]
    changes: list[dict[str, Any]] = field(default_factory=list)
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    predictions: dict[str, str] = field(default_factory=dict)
    maps: dict[str, str] = field(default_factory=dict)
    embedded: int = 0
    files: int = 0
    failing: int = 0
    shown: str = ""


@dataclass(frozen=True)
class _Picture:
    """A file to be drawn: one image, one prediction, and the failures there."""

    image_id: str
    key: str
    label: str
    """The first of the labels that are this prediction; the file is called after it."""
    rows: list[dict[str, Any]]

    @property
    def names(self) -> tuple[str, str]:
        return pictures.file_name(self.label), pictures.file_name(self.image_id, ".png")

    @property
    def rank(self) -> tuple[float, int]:
        """Worst first: the lowest IoU of a failure, then the most wrong pixels of one."""
        return min((row["iou"], -row["wrong"]) for row in self.rows)


@dataclass(frozen=True)
class _Drawn:
    """What the page embeds of one image, made in a worker."""

    image_id: str
    parts: dict[str, Any]
    predictions: dict[str, str]
    maps: dict[str, str]

    @property
    def bytes(self) -> int:
        texts = (text for group in (self.parts, self.predictions, self.maps) for text in group.values())
        return sum(len(text) for text in texts)


def build_gallery(
    results: Results,
    data: SegmentationData,
    report_dir: Path,
    *,
    limit: int = MOST_PICTURES,
    budget: int = EMBEDDING_BUDGET,
    before: Iterable[str] = (),
    later: Path | None = None,
    advance: Advance | None = None,
) -> Gallery:
    """Writes `report_dir/failures/LABEL/IMAGE_ID.png` for the worst failures and collects what the page embeds.

    A picture shows one image and one checkpoint with all failures there; labels that hold one trial share it. Pictures
    of an earlier report are removed. Images in which the winner changed most go into the page first, then worse ones
    before better ones; from the first image on that exceeds the budget, failures are linked to their files.

    Args:
        results: Frames and evaluations.
        data: Gives images and truth.
        report_dir: Folder of the report.
        limit: Pictures that may be written, worst first, and images of changes inside the page.
        budget: Bytes of data URIs that the page may hold.
        before: What a version without lists wrote into the folder (`predictions.written_before_lists`).
        later: The folder that the report will be moved to.
        advance: Called with how many pictures are done.

    Raises:
        DataError: If a file that this project did not write is where a picture belongs.
    """
    written = WrittenFiles(report_dir, FOLDER, before=before)
    written.clear()
    source = Source(
        data.picture,
        data.mask,
        lambda key, image_id: results.evaluations[key].prediction(image_id),
        "image" if data.bands is None else f"image: {data.bands.short_caption()}",
    )
    rows = region_rows(results)
    failing = _pictures(rows, results)
    chosen = sorted(failing, key=lambda picture: picture.rank)[:limit]
    there = None if later is None else WrittenFiles(later, FOLDER, before=before)
    files = reserve(written, [picture.names for picture in chosen], later=there)
    for picture in chosen:
        for row in picture.rows:
            row["picture"] = quote(f"{FOLDER}/{'/'.join(picture.names)}")
    drawn = _draw(results, source, rows, chosen, files, limit=limit, budget=budget, advance=advance)
    shown = "" if data.bands is None else f"{data.bands}; {data.bands.caption()}"
    return replace(drawn, files=len(chosen), failing=len(failing), shown=shown)


def gallery_of_masks(
    measured: Measured,
    source: Source,
    links: Mapping[tuple[str, str], str],
    *,
    limit: int = MOST_PICTURES,
    budget: int = EMBEDDING_BUDGET,
) -> Gallery:
    """What the page embeds of failures whose picture files, if there are any, are written already.

    Args:
        measured: The tables.
        source: Of masks and images.
        links: Where the picture of a label and image is, from the page.
        limit: Images of changes inside the page, and pictures of failures, worst first.
        budget: As of `build_gallery`.
    """
    rows = region_rows(measured)
    for row in rows:
        row["picture"] = links.get((row["label"], row["image"]), "")
    failing = _pictures(rows, measured)
    chosen = sorted(failing, key=lambda picture: picture.rank)[:limit]
    drawn = _draw(measured, source, rows, chosen, {}, limit=limit, budget=budget, advance=None)
    return replace(drawn, files=sum(bool(row["picture"]) for row in rows), failing=len(failing))


def region_rows(measured: Measured) -> list[dict[str, Any]]:
    """An entry of the gallery for each row of `failures`, without its picture."""
    keys = measured.prediction_keys
    records = measured.failures.to_dict("records")
    return [_row(place, record, keys[record["label"]]) for place, record in enumerate(records)]


def _draw(
    measured: Measured,
    source: Source,
    rows: list[dict[str, Any]],
    chosen: Sequence[_Picture],
    files: Mapping[Names, Path],
    *,
    limit: int,
    budget: int,
    advance: Advance | None,
) -> Gallery:
    """Draws image by image, and keeps what the page embeds within its budget."""
    changes = changed_rows(measured)
    linked = {(row["label"], row["image"]): row["picture"] for row in rows if row["picture"]}
    for row in changes:
        row["picture"] = next((linked[one, row["image"]] for one in measured.pair if (one, row["image"]) in linked), "")
    changed = first_images(changes, limit)
    of_image: dict[str, list[_Picture]] = {image_id: [] for image_id in changed}
    for picture in chosen:
        of_image.setdefault(picture.image_id, []).append(picture)
    pair = [measured.prediction_keys[label] for label in measured.pair] if changes else []
    of_pair = {image_id: pair for image_id in changed}
    gallery = Gallery(rows, changes)
    full = False
    used = drawn_files = 0

    def draw(image_id: str) -> _Drawn:
        return _draw_image(
            measured, source, image_id, of_image[image_id], of_pair.get(image_id, ()), files, embed=not full
        )

    with ThreadPoolExecutor(max_workers=cores()) as pool:
        for drawn in pool.map(draw, of_image):
            full = full or used + drawn.bytes > budget
            if not full:
                used += drawn.bytes
                gallery.images[drawn.image_id] = drawn.parts
                gallery.predictions.update(drawn.predictions)
                gallery.maps.update(drawn.maps)
            drawn_files += len(of_image[drawn.image_id])
            if advance:
                advance(drawn_files, len(chosen))
    for row in rows:
        key = f"{row['trial']}/{row['image']}/{row['class']}"
        row["map"] = key if key in gallery.maps else ""
    return replace(gallery, embedded=sum(bool(row["map"]) for row in rows))


def _pictures(rows: Sequence[dict[str, Any]], measured: Measured) -> list[_Picture]:
    """The pictures that failures would take, one for each image and prediction."""
    labels: dict[str, str] = {}
    for label, key in measured.prediction_keys.items():
        labels.setdefault(key, label)
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["image"], row["trial"]), []).append(row)
    return [_Picture(image_id, key, labels[key], own) for (image_id, key), own in found.items()]


def _draw_image(
    measured: Measured,
    source: Source,
    image_id: str,
    own: Sequence[_Picture],
    pair: Sequence[str],
    files: Mapping[Names, Path],
    *,
    embed: bool,
) -> _Drawn:
    """Draws the pictures of one image; of the pair of predictions that are compared its masks as well."""
    image = None if source.image is None else source.image(image_id)
    truth = source.truth(image_id)
    small_truth = pictures.thumbnail(truth)
    class_ids = {info.name: place for place, info in enumerate(measured.classes)}
    predictions: dict[str, str] = {}
    maps: dict[str, str] = {}
    for key in dict.fromkeys((*pair, *(wanted.key for wanted in own))):
        prediction = source.prediction(key, image_id)
        small = pictures.thumbnail(prediction)
        if embed:
            predictions[f"{key}/{image_id}"] = pictures.mask_uri(small, measured.classes)
        for wanted in (wanted for wanted in own if wanted.key == key):
            rows = sorted(wanted.rows, key=lambda row: row["iou"])
            if image is not None and wanted.names in files:
                _save(measured, wanted, rows, image, truth, prediction, files[wanted.names], source.shown)
            if embed:
                for name in dict.fromkeys(row["class"] for row in rows):
                    uri = pictures.class_error_uri(small_truth, small, class_ids[name])
                    maps[f"{key}/{image_id}/{name}"] = uri
    parts: dict[str, Any] = {}
    if embed:
        parts = {"truth": pictures.mask_uri(small_truth, measured.classes), "size": truth.shape}
        parts["outlines"] = pictures.outlines_uri(small_truth)
        if image is not None:
            parts["image"] = pictures.photo_uri(image)
    return _Drawn(image_id, parts, predictions, maps)


def _save(
    measured: Measured,
    wanted: _Picture,
    rows: Sequence[dict[str, Any]],
    image: Image,
    truth: Mask,
    prediction: Mask,
    path: Path,
    shown: str,
) -> None:
    labels = [label for label in measured.labels if any(row["label"] == label for row in rows)]
    picture = pictures.failure_picture(
        image,
        truth,
        prediction,
        measured.classes,
        title=f"{' = '.join(labels)}  ·  {wanted.image_id}",
        captions=[
            pictures.Caption(row["class"], row["iou"], causes_text(row["causes"]))
            for row in rows
            if row["label"] == labels[0]
        ],
        shown=shown,
    )
    pictures.save_picture(picture, path, measured.classes)


def _row(place: int, record: Mapping[Any, Any], key: str) -> dict[str, Any]:
    causes = causes_of(str(record["causes"]))
    return {
        "row": place,
        "trial": key,
        "label": str(record["label"]),
        "image": str(record["image_id"]),
        "class": str(record["class"]),
        "iou": float(record["iou"]),
        "causes": causes,
        "kinds": list(dict.fromkeys(name_cause(cause_kind(cause)) for cause in causes)),
        "wrong": _wrong_pixels(record),
        "facts": list(_facts(record)),
        "picture": "",
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
