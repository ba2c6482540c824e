"""What `analysis.predict` writes: masks, overlays, the summary, and which model it was."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from analysis.colours import hexadecimal
from analysis.inputs import Inputs, Picture
from analysis.model import TrainedModel
from analysis.outputs import Names, reserve
from analysis.pictures import colourise, id_mask, legend
from analysis.predicting import Prediction
from trainables.data.bands import picture_of
from trainables.data.base import ClassInfo, Image, Mask
from trainables.data.resizing import resize_image, resize_mask
from trainables.errors import UsageError
from trainables.files import json_bytes, write_atomically
from trainables.paths import LIST_FILE, WrittenFiles
from trainables.spreadsheets import safe_text

SUMMARY_FILE, CLASSES_FILE, LEGEND_FILE, ABOUT_FILE = "summary.csv", "classes.csv", "legend.png", "model.json"
MASKS, OVERLAYS = "masks", "overlays"
COLUMNS = ("image", "height", "width", "tiles", "seconds", "confidence", "error")
"""Of the summary, before one column `share/CLASS` per class."""
LONGEST_OVERLAY = 4096
"""Longest side of an overlay, in pixels."""


class Results:
    """The output folder: masks, overlays and one row per image, each written as soon as it is there."""

    _summary: TextIO
    _rows: Any

    def __init__(self, files: Mapping[Names, Path], trained: TrainedModel, *, overlays: bool) -> None:
        self.classes, self.ids, self._bands = trained.classes, trained.ids, trained.bands
        self._files, self._overlays = files, overlays

    @classmethod
    @contextmanager
    def made(cls, out: Path, inputs: Inputs, trained: TrainedModel, *, overlays: bool) -> Iterator[Results]:
        """Removes what an earlier call wrote, lists what this one will write, and opens the summary.

        Raises:
            UnsafePathError: If a file that this command did not write is in one of the places.
        """
        place = out.resolve()
        place.parent.mkdir(parents=True, exist_ok=True)
        written = WrittenFiles(place.parent, place.name)
        written.clear()
        names: list[Names] = [(name,) for name in (SUMMARY_FILE, CLASSES_FILE, ABOUT_FILE)]
        names += [_mask_name(picture) for picture in inputs.pictures]
        if overlays:
            names += [(LEGEND_FILE,), *(_overlay_name(picture) for picture in inputs.pictures)]
        results = cls(reserve(written, names), trained, overlays=overlays)
        with results._files[(SUMMARY_FILE,)].open("w", newline="", encoding="utf-8") as results._summary:
            results._rows = csv.writer(results._summary)
            results._rows.writerow([*COLUMNS, *(f"share/{info.name}" for info in results.classes)])
            yield results

    def describe(self, trained: TrainedModel, settings: Mapping[str, Any]) -> None:
        """Writes which model it was, what its ids stand for, and the colours of the overlays.

        Args:
            trained: The model.
            settings: How it was asked to predict.
        """
        about = {
            "provenance": trained.provenance.lines(),
            "trial_id": trained.record.trial_id,
            "sha256": trained.record.sha256,
            "input_size": list(trained.size),
            **settings,
        }
        write_atomically(self._files[(ABOUT_FILE,)], json_bytes(about))
        table = io.StringIO()
        writer = csv.writer(table)
        writer.writerow(["id", "class", "color"])
        writer.writerows(
            (value, safe_text(c.name), hexadecimal(c.color)) for value, c in zip(self.ids, self.classes, strict=True)
        )
        write_atomically(self._files[(CLASSES_FILE,)], table.getvalue().encode())
        if self._overlays:
            write_atomically(self._files[(LEGEND_FILE,)], _encoded(legend(self.classes), "PNG"))

    def write(self, picture: Picture, image: Image, prediction: Prediction) -> None:
        """The mask and the overlay of an image, each whole or not at all."""
        mask = id_mask(prediction.classes, self.classes, self.ids)
        write_atomically(self._files[_mask_name(picture)], _encoded(mask, "PNG", compress_level=3))
        if self._overlays:
            drawn = overlay(picture_of(image, self._bands), prediction.classes, self.classes)
            write_atomically(self._files[_overlay_name(picture)], _encoded(drawn, "JPEG", quality=90))

    def row(
        self,
        picture: Picture,
        size: tuple[int, ...],
        prediction: Prediction,
        seconds: float,
        pixels: npt.NDArray[np.int64],
    ) -> None:
        """The row of an image that went well."""
        shares = [f"{share:.6f}" for share in pixels / pixels.sum()]
        numbers = [*size, prediction.tiles, f"{seconds:.3f}", f"{prediction.confidence:.6f}"]
        self._rows.writerow([safe_text(picture.name), *numbers, "", *shares])
        self._summary.flush()

    def fault(self, picture: Picture, text: str) -> None:
        """The row of an image that failed."""
        self._rows.writerow(
            [safe_text(picture.name), *[""] * (len(COLUMNS) - 2), safe_text(text), *[""] * len(self.classes)]
        )
        self._summary.flush()


def overlay(image: Image, prediction: Mask, classes: Sequence[ClassInfo]) -> PillowImage.Image:
    """The image with each pixel tinted in the colour of its class, and the borders of classes drawn in full colour.

    At most `LONGEST_OVERLAY` pixels long.

    Args:
        image: RGB, uint8 of shape (H, W, 3).
        prediction: Class ids, uint8 of shape (H, W).
        classes: Class `i` of the prediction is `classes[i]`.
    """
    longest = max(prediction.shape)
    if longest > LONGEST_OVERLAY:
        height, width = (max(1, round(side * LONGEST_OVERLAY / longest)) for side in prediction.shape)
        image = resize_image(image, (height, width))
        prediction = resize_mask(prediction, (height, width))
    colours = colourise(prediction, classes)
    tinted = (image.astype(np.uint16) + colours) // 2
    border = np.zeros(prediction.shape, bool)
    border[:, 1:] |= prediction[:, 1:] != prediction[:, :-1]
    border[1:] |= prediction[1:] != prediction[:-1]
    tinted[border] = colours[border]
    return PillowImage.fromarray(tinted.astype(np.uint8))


def _mask_name(picture: Picture) -> Names:
    *folders, name = picture.place
    return (MASKS, *folders, f"{name}.png")


def _overlay_name(picture: Picture) -> Names:
    *folders, name = picture.place
    return (OVERLAYS, *folders, f"{name}.jpg")


def _encoded(picture: PillowImage.Image, kind: str, **options: int) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def check_out(out: Path, images: Path, model: Path) -> None:
    """Refuses an output folder that belongs to something else.

    Raises:
        UsageError: If it is the folder of the images or of the model, or another command writes there.
    """
    for what, folder in (("images", images), ("model", model)):
        if out.resolve() == folder.resolve():
            raise UsageError(f"--out {out} is the folder of the {what}: give another")
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file: give a folder")
    try:
        listed = json.loads((out / LIST_FILE).read_bytes())
    except (OSError, ValueError):
        return
    if not (isinstance(listed, list) and {SUMMARY_FILE, ABOUT_FILE} <= set(map(str, listed))):
        raise UsageError(f"--out {out} holds what another command of this project wrote: give another folder")
