"""Every predicted mask as a file on request, and what earlier versions of a report left behind."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from analysis import pictures
from analysis.formulas import as_before, formula_safe
from analysis.outputs import reserve
from analysis.report.gallery import FOLDER, Advance
from sweep.verify import load_run_split
from trainables.data.base import SegmentationData, file_ids
from trainables.errors import DataError
from trainables.paths import WrittenFiles
from trainables.run_folder import TABLES_FOLDER

if TYPE_CHECKING:
    from analysis.results import Results

PREDICTIONS_FOLDER = "predictions"
NAMES_FILE = "names.csv"
"""Which file holds which prediction: columns label, image_id, file, trial_id."""


def save_predictions(
    results: Results,
    data: SegmentationData,
    report_dir: Path,
    *,
    positions: bool = False,
    before: Iterable[str] = (),
    later: Path | None = None,
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
        later: As of `build_gallery`.
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
    there = None if later is None else WrittenFiles(later, PREDICTIONS_FOLDER, before=before)
    files = reserve(written, [(NAMES_FILE,), *names.values()], later=there)
    trials = results.prediction_keys
    table = [(label, image_id, "/".join(name), trials[label]) for (label, image_id), name in names.items()]
    listed = formula_safe(pd.DataFrame(table, columns=["label", "image_id", "file", "trial_id"]))
    listed.to_csv(files[(NAMES_FILE,)], index=False)
    ids = range(len(data.classes)) if positions else file_ids(data)
    for done, ((label, image_id), name) in enumerate(names.items(), start=1):
        prediction = results.evaluations[results.labels[label].trial_id].prediction(image_id)
        pictures.id_mask(prediction, results.classes, ids).save(files[name], compress_level=3)
        if advance:
            advance(done, len(names))
    return len(names)


def are_outdated(results: Results, report_dir: Path) -> bool:
    """Whether predictions that an earlier report saved are of other checkpoints or images than this one's.

    Args:
        results: Of this report.
        report_dir: Folder of the earlier one.
    """
    try:
        names = pd.read_csv(report_dir / PREDICTIONS_FOLDER / NAMES_FILE, dtype=str, keep_default_na=False)
        names = as_before(names)
        images, saved = set(names["image_id"]), set(zip(names["label"], names["trial_id"], strict=True))
    except (OSError, ValueError, KeyError):
        return True
    known = next(iter(results.evaluations.values())).image_ids
    return not images <= set(known) or any(results.prediction_keys.get(label, trial) != trial for label, trial in saved)


def written_before_lists(run_dir: Path, report_dir: Path) -> dict[str, list[str]]:
    """What a version that kept no lists of its files wrote, by folder; call it before the tables are rewritten.

    Its report pictured every failure, and where it saved predictions, it did so for every label and image of a split.

    Args:
        run_dir: The run whose report it was.
        report_dir: Folder of the report.
    """
    tables = report_dir / TABLES_FOLDER
    found: dict[str, list[str]] = {FOLDER: [], PREDICTIONS_FOLDER: []}
    with suppress(OSError, ValueError, KeyError):
        failures = as_before(pd.read_csv(tables / "failures.csv", dtype=str, keep_default_na=False))
        pairs = dict.fromkeys(zip(failures["label"], failures["image_id"], strict=True))
        found[FOLDER] = [_old_name(label, image_id) for label, image_id in pairs]
    image_ids: list[str] = []
    for split in ("val", "test"):
        with suppress(DataError):
            image_ids += load_run_split(run_dir, split).ids
    with suppress(OSError, ValueError, KeyError):
        comparison = as_before(pd.read_csv(tables / "comparison.csv", dtype=str, keep_default_na=False))
        labels = comparison["label"][comparison["trial_id"] != ""]
        found[PREDICTIONS_FOLDER] = [_old_name(label, image_id) for label in labels for image_id in image_ids]
    return found


def _old_name(label: str, image_id: str) -> str:
    return f"{pictures.file_name(label)}/{pictures.file_name(image_id, '.png')}"
