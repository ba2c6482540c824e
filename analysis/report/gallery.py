"""The worst failures pictured: files, and as much of them inside the page as its budget allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pandas as pd

from analysis import pictures
from analysis.failures.measure import cause_kind, causes_of, causes_text, name_cause
from analysis.outputs import Names, reserve
from analysis.report.tables import show_number
from sweep.verify import load_run_split
from trainables.data.base import SegmentationData
from trainables.errors import DataError
from trainables.flags import MOST_PICTURES
from trainables.paths import WrittenFiles
from trainables.places import cores
from trainables.run_folder import REPORT, TABLES_FOLDER

if TYPE_CHECKING:
    from analysis.results import Results

EMBEDDING_BUDGET = 25_000_000
"""Bytes of pictures inside the page; the rest is linked."""
FOLDER = "failures"
PREDICTIONS_FOLDER = "predictions"
NAMES_FILE = "names.csv"
"""Which file holds which prediction: columns label, image_id, file."""

Advance = Callable[[int, int], None]
"""Called with how many files are done, and of how many."""


@dataclass(frozen=True)
class Gallery:
    """The failures as the page shows them.

    Attributes:
        rows: One entry for each row of `failures.csv`, in its order: what the page filters, sorts and shows.
        images: Image id -> data URIs `image` and `truth`, for images inside the page.
        predictions: `TRIAL/IMAGE` number -> data URI of the predicted mask.
        embedded: Rows whose pictures are inside the page.
        files: Picture files written.
        failing: Pictures that all failures would take: one for each image and checkpoint that fails there.
    """

    rows: list[dict[str, Any]]
    images: dict[str, dict[str, str]] = field(default_factory=dict)
    predictions: dict[str, str] = field(default_factory=dict)
    embedded: int = 0
    files: int = 0
    failing: int = 0


@dataclass(frozen=True)
class _Picture:
    """A file to be drawn: one image, one checkpoint, and the failures there."""

    image_id: str
    trial_id: str
    label: str
    """The first of the labels that hold the trial; the file is called after it."""
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
    parts: dict[str, str]
    predictions: dict[str, str]
    maps: dict[int, str]

    @property
    def bytes(self) -> int:
        return sum(len(uri) for group in (self.parts, self.predictions, self.maps) for uri in group.values())


def build_gallery(
    results: Results,
    data: SegmentationData,
    report_dir: Path,
    *,
    limit: int = MOST_PICTURES,
    budget: int = EMBEDDING_BUDGET,
    before: Iterable[str] = (),
    advance: Advance | None = None,
) -> Gallery:
    """Writes `report_dir/failures/LABEL/IMAGE_ID.png` for the worst failures and collects what the page embeds.

    A picture shows one image and one checkpoint with all failures there; labels that hold one trial share it. Pictures
    of an earlier report are removed. Worse images go into the page first; from the first image on that exceeds the
    budget, failures are linked to their files.

    Args:
        results: Frames and evaluations.
        data: Gives images and truth.
        report_dir: Folder of the report.
        limit: Pictures that may be written, worst first.
        budget: Bytes of data URIs that the page may hold.
        before: What a version without lists wrote into the folder (`written_before_lists`).
        advance: Called with how many pictures are done.

    Raises:
        DataError: If a file that this project did not write is where a picture belongs.
    """
    written = WrittenFiles(report_dir, FOLDER, before=before)
    written.clear()
    rows = [
        _row(place, record, results.labels[record["label"]].trial_id)
        for place, record in enumerate(results.failures.to_dict("records"))
    ]
    failing = _pictures(rows, results)
    chosen = sorted(failing, key=lambda picture: picture.rank)[:limit]
    files = reserve(written, [picture.names for picture in chosen])
    of_image: dict[str, list[_Picture]] = {}
    for picture in chosen:
        of_image.setdefault(picture.image_id, []).append(picture)
        for row in picture.rows:
            row["picture"] = quote(f"{FOLDER}/{'/'.join(picture.names)}")
    full = False
    gallery = Gallery(rows)
    embedded = used = drawn_files = 0

    def draw(own: list[_Picture]) -> _Drawn:
        return _draw_image(results, data, own, files, embed=not full)

    with ThreadPoolExecutor(max_workers=cores()) as pool:
        for drawn, own in zip(pool.map(draw, of_image.values()), of_image.values(), strict=True):
            full = full or used + drawn.bytes > budget
            if not full:
                used += drawn.bytes
                gallery.images[drawn.image_id] = drawn.parts
                gallery.predictions.update(drawn.predictions)
                for place, uri in drawn.maps.items():
                    rows[place]["map"] = uri
                    embedded += 1
            drawn_files += len(own)
            if advance:
                advance(drawn_files, len(chosen))
    return Gallery(rows, gallery.images, gallery.predictions, embedded, len(chosen), len(failing))


def save_predictions(
    results: Results,
    data: SegmentationData,
    report_dir: Path,
    *,
    positions: bool = False,
    before: Iterable[str] = (),
    advance: Advance | None = None,
) -> int:
    """Writes `report_dir/predictions/LABEL/IMAGE_ID.png` for every label and image of the split, and `names.csv`.

    Palette PNGs at the masks' original size whose pixel values are the ids of the data set's own masks, so that they
    compare with these; no pixel is void.

    Args:
        results: Labels and their evaluations.
        data: Says which id of its masks stands for which class.
        report_dir: Folder of the report.
        positions: Write the places of the classes in the class list, 0 .. C - 1, instead of the data set's ids.
        before: As of `build_gallery`.
        advance: Called with how many masks are done.

    Returns:
        Number of masks written.

    Raises:
        DataError: If a file that this project did not write is where a mask belongs.
    """
    written = WrittenFiles(report_dir, PREDICTIONS_FOLDER, before=before)
    written.clear()
    names = {
        (label, image_id): (pictures.file_name(label), pictures.file_name(image_id, ".png"))
        for label, record in results.labels.items()
        for image_id in results.evaluations[record.trial_id].image_ids
    }
    files = reserve(written, [(NAMES_FILE,), *names.values()])
    table = [(label, image_id, "/".join(name)) for (label, image_id), name in names.items()]
    pd.DataFrame(table, columns=["label", "image_id", "file"]).to_csv(files[(NAMES_FILE,)], index=False)
    ids = range(len(data.classes)) if positions else smallest_stored_ids(data)
    for done, ((label, image_id), name) in enumerate(names.items(), start=1):
        prediction = results.evaluations[results.labels[label].trial_id].prediction(image_id)
        pictures.id_mask(prediction, results.classes, ids).save(files[name], compress_level=3)
        if advance:
            advance(done, len(names))
    return len(names)


def smallest_stored_ids(data: SegmentationData) -> list[int]:
    """The id in the data set's own mask files that stands for each class; the smallest one where there are several.

    The place of the class instead, where an id does not fit into a PNG of 16 bits.
    """
    found: dict[int, int] = {}
    for stored, class_id in sorted(data.stored_ids().items()):
        found.setdefault(class_id, stored)
    ids = [found[class_id] for class_id in range(len(data.classes))]
    return ids if min(ids) >= 0 and max(ids) <= 65535 else list(range(len(ids)))


def written_before_lists(run_dir: Path) -> dict[str, list[str]]:
    """What a version that kept no lists of its files wrote, by folder; call it before the tables are rewritten.

    Its report pictured every failure, and where it saved predictions, it did so for every label and image of a split.

    Args:
        run_dir: The run whose report it was.
    """
    tables = run_dir / REPORT / TABLES_FOLDER
    found: dict[str, list[str]] = {FOLDER: [], PREDICTIONS_FOLDER: []}
    with suppress(OSError, ValueError, KeyError):
        failures = pd.read_csv(tables / "failures.csv", dtype=str, keep_default_na=False)
        pairs = dict.fromkeys(zip(failures["label"], failures["image_id"], strict=True))
        found[FOLDER] = [_old_name(label, image_id) for label, image_id in pairs]
    image_ids: list[str] = []
    for split in ("val", "test"):
        with suppress(DataError):
            image_ids += load_run_split(run_dir, split).ids
    with suppress(OSError, ValueError, KeyError):
        comparison = pd.read_csv(tables / "comparison.csv", dtype=str, keep_default_na=False)
        labels = comparison["label"][comparison["trial_id"] != ""]
        found[PREDICTIONS_FOLDER] = [_old_name(label, image_id) for label in labels for image_id in image_ids]
    return found


def _old_name(label: str, image_id: str) -> str:
    return f"{pictures.file_name(label)}/{pictures.file_name(image_id, '.png')}"


def _pictures(rows: Sequence[dict[str, Any]], results: Results) -> list[_Picture]:
    """The pictures that failures would take, one for each image and trial."""
    labels: dict[str, str] = {}
    for label, record in results.labels.items():
        labels.setdefault(record.trial_id, label)
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["image"], row["trial"]), []).append(row)
    return [_Picture(image_id, trial, labels[trial], own) for (image_id, trial), own in found.items()]


def _draw_image(
    results: Results,
    data: SegmentationData,
    own: Sequence[_Picture],
    files: Mapping[Names, Path],
    *,
    embed: bool,
) -> _Drawn:
    """Draws the pictures of one image."""
    image_id = own[0].image_id
    image, truth = data.image(image_id), data.mask(image_id)
    small_truth = pictures.thumbnail(truth)
    class_ids = {info.name: place for place, info in enumerate(results.classes)}
    predictions: dict[str, str] = {}
    maps: dict[int, str] = {}
    for wanted in own:
        prediction = results.evaluations[wanted.trial_id].prediction(image_id)
        rows = sorted(wanted.rows, key=lambda row: row["iou"])
        labels = [label for label in results.labels if any(row["label"] == label for row in rows)]
        picture = pictures.failure_picture(
            image,
            truth,
            prediction,
            results.classes,
            title=f"{' = '.join(labels)}  ·  {image_id}",
            captions=[
                pictures.Caption(row["class"], row["iou"], causes_text(row["causes"]))
                for row in rows
                if row["label"] == labels[0]
            ],
        )
        pictures.save_picture(picture, files[wanted.names], results.classes)
        if embed:
            small = pictures.thumbnail(prediction)
            predictions[f"{wanted.trial_id}/{image_id}"] = pictures.mask_uri(small, results.classes)
            uris = {
                name: pictures.class_error_uri(small_truth, small, class_ids[name])
                for name in dict.fromkeys(row["class"] for row in rows)
            }
            maps.update({row["row"]: uris[row["class"]] for row in rows})
    parts: dict[str, str] = {}
    if embed:
        parts = {"image": pictures.photo_uri(image), "truth": pictures.mask_uri(small_truth, results.classes)}
    return _Drawn(image_id, parts, predictions, maps)


def _row(place: int, record: Mapping[Any, Any], trial_id: str) -> dict[str, Any]:
    causes = causes_of(str(record["causes"]))
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
