"""`python -m analysis.failures`: measures the failures of any model's masks, and draws them where there are images."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.failures.measure import RegionFailure, cause_summary, causes_text, failing_regions, failures_frame
from analysis.outputs import reserve
from trainables import commands
from trainables.data.base import VOID, Mask
from trainables.data.layouts.describe import read_said, with_ids
from trainables.data.layouts.finding import Meaning
from trainables.data.layouts.meaning import meaning_of_said
from trainables.data.reading.files import class_ids
from trainables.data.reading.names import expanded
from trainables.data.reading.read import read_image, read_stored_mask
from trainables.data.reading.stored import as_declared, is_color, stored_text, with_transparency
from trainables.errors import DataError, SegsweepError, UsageError
from trainables.flags import share
from trainables.paths import WrittenFiles

TABLE_FILE, CAUSES_FILE, PICTURES_FOLDER = "failures.csv", "causes.csv", "pictures"
"""What the command writes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code: 0 done, 1 the masks cannot be used, 2 bad usage."""
    options = _parser().parse_args(arguments)
    try:
        description = meaning_of_said(with_ids(read_said(options.classes)))
        folders = _paired_files(options)
        entries = _find(folders["truth"], folders["predictions"], description, options)
        frame = failures_frame(entries, [info.name for info in description.classes])
        summary = cause_summary(frame)
        _write(frame, summary, entries, folders, description, options.out)
    except SegsweepError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"{options.out} cannot be written: {error}", file=sys.stderr)
        return 1
    print(f"{len(frame)} of the (image, class) regions have IoU <= {options.iou:g}: {options.out / TABLE_FILE}")
    totals = summary.sum(axis=1)
    for cause, count in totals[totals > 0].sort_values(ascending=False).items():
        print(f"  {count:5d}  {cause}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=commands.prog("analysis.failures"),
        description="Finds every (image, class) region that a model's masks get wrong and measures the causes.",
    )
    parser.add_argument(
        "--truth", type=expanded, required=True, help="folder of true masks (PNG of ids, void as in classes)"
    )
    parser.add_argument(
        "--predictions", type=expanded, required=True, help="folder of predicted masks of the same stems"
    )
    parser.add_argument(
        "--classes", type=expanded, required=True, help='JSON: {"classes": [{id, name, color}], "void": 255}'
    )
    parser.add_argument("--images", type=expanded, help="folder of the images: failures are drawn as well")
    parser.add_argument("--iou", type=share, default=0.5, help="a region fails at or below this IoU (default 0.5)")
    parser.add_argument(
        "--out",
        type=expanded,
        default=Path("failures"),
        help="folder for tables and pictures (default failures/); what an earlier call wrote there is replaced, other "
        "files are left alone",
    )
    return parser


def _paired_files(options: argparse.Namespace) -> dict[str, dict[str, Path]]:
    """Files by stem of each folder that was given; every stem is in all of them."""
    folders: dict[str, Path] = {
        name: getattr(options, name)
        for name in ("truth", "predictions", "images")
        if getattr(options, name) is not None
    }
    absent = [str(folder) for folder in folders.values() if not folder.is_dir()]
    if absent:
        raise UsageError(f"no such folder: {', '.join(absent)}")
    files = {
        name: {path.stem: path for path in sorted(folder.iterdir()) if path.is_file() and path.name[0] != "."}
        for name, folder in folders.items()
    }
    faults = [
        f"{folders[other]} has no {stem}, which is in {folders[name]}"
        for name, own in files.items()
        for other, others in files.items()
        for stem in sorted(own.keys() - others.keys())
    ]
    if faults:
        raise DataError("the folders do not match:\n  " + "\n  ".join(faults) + "\ngive each file its partners")
    if not files["truth"]:
        raise DataError(f"{options.truth} is empty: expected masks as PNG")
    return files


def _find(
    truths: Mapping[str, Path], predictions: Mapping[str, Path], description: Meaning, options: argparse.Namespace
) -> list[tuple[str, str, RegionFailure]]:
    """Failures of every image as (name of the predictions' folder, stem, failure); one pair of masks at a time."""
    names = [info.name for info in description.classes]
    entries: list[tuple[str, str, RegionFailure]] = []
    faults: list[str] = []
    for stem, path in truths.items():
        try:
            truth, prediction = _read_pair(path, predictions[stem], description)
        except DataError as error:
            faults.append(str(error))
            continue
        if not faults:
            found = failing_regions(truth, prediction, names, iou_limit=options.iou)
            entries += [(options.predictions.name, stem, failure) for failure in found]
    if faults:
        raise DataError("these masks cannot be compared:\n  " + "\n  ".join(faults))
    return entries


def _read_pair(truth_path: Path, prediction_path: Path, description: Meaning) -> tuple[Mask, Mask]:
    """True and predicted class ids.

    Raises:
        DataError: If they cannot be compared; lists the reasons, one per line.
    """
    truth, prediction = _class_ids(truth_path, description), _class_ids(prediction_path, description)
    faults = []
    if (prediction == VOID).any():
        faults.append(f"{prediction_path}: holds void, which a prediction must not")
    if truth.shape != prediction.shape:
        faults.append(
            f"{prediction_path}: is {prediction.shape[0]}x{prediction.shape[1]}, its truth "
            f"{truth.shape[0]}x{truth.shape[1]} (HEIGHTxWIDTH)"
        )
    if faults:
        raise DataError("\n  ".join(faults))
    return truth, prediction


def _write(
    frame: pd.DataFrame,
    summary: pd.DataFrame,
    entries: Sequence[tuple[str, str, RegionFailure]],
    folders: Mapping[str, Mapping[str, Path]],
    description: Meaning,
    out: Path,
) -> None:
    """Tables, and pictures where images are given; what an earlier call wrote is replaced, and nothing else."""
    from analysis.pictures import Caption, failure_picture, file_name, save_picture

    captions: dict[str, list[Caption]] = {}
    for _, stem, failure in entries if "images" in folders else ():
        caption = Caption(description.classes[failure.class_id].name, failure.iou, causes_text(failure.causes))
        captions.setdefault(stem, []).append(caption)
    place = out.resolve()
    written = WrittenFiles(place.parent, place.name)
    written.clear()
    pictures = {stem: (PICTURES_FOLDER, file_name(stem, ".png")) for stem in captions}
    files = reserve(written, [(TABLE_FILE,), (CAUSES_FILE,), *pictures.values()])
    frame.to_csv(files[(TABLE_FILE,)], index=False)
    summary.to_csv(files[(CAUSES_FILE,)])
    for stem, of_image in captions.items():
        masks = _read_pair(folders["truth"][stem], folders["predictions"][stem], description)
        image = read_image(folders["images"][stem])
        if image.shape[:2] != masks[0].shape:
            raise DataError(
                f"{folders['images'][stem]}: is {image.shape[0]}x{image.shape[1]}, its masks "
                f"{masks[0].shape[0]}x{masks[0].shape[1]} (HEIGHTxWIDTH)"
            )
        picture = failure_picture(image, *masks, description.classes, title=stem, captions=of_image)
        save_picture(picture, files[pictures[stem]], description.classes)


def _class_ids(path: Path, description: Meaning) -> Mask:
    declared = {**description.ids, **description.colors}
    ids, unknown = class_ids(as_declared(read_stored_mask(path), declared), with_transparency(declared))
    if unknown.size:
        values = np.unique(unknown).tolist()
        what = f"the {'colours' if is_color(values[0]) else 'ids'} {', '.join(map(stored_text, values))}"
        raise DataError(f"{path}: holds {what}, which the classes do not name")
    return ids


if __name__ == "__main__":
    raise SystemExit(main())
