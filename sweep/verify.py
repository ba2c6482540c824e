"""What a run folder and its data hold, against what the run wrote down: compared wherever a run is opened.

Data that is not what the sweep began with is refused by name. Changed versions of packages and code are only
reported: they change with every update, and a result may or may not depend on them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from sweep.journal import JOURNAL_FILE, Event, read_events
from sweep.manifest import DataRecord, SplitRecord, SplitRecords, SweepManifest
from sweep.objectives import recorded_objectives
from sweep.versions import package_versions
from trainables.checkpoint import MODEL_FILE, MODEL_FILES, TRIAL_FILE, file_sha256
from trainables.data.base import DATASETS, SegmentationData, file_ids
from trainables.data.cache.scan import scan
from trainables.data.reading.stored import is_transparent
from trainables.data.splits.frozen import TEST_SPLIT_FILE, Split, load_split, load_test_split, split_hash
from trainables.errors import DataError, SegsweepError
from trainables.execution import TrialData
from trainables.limits import check_texts
from trainables.paths import refuse_links, within
from trainables.run_folder import BEST_MODELS
from trainables.words import counted, some_of

SPLITS = ("train", "val", "test")
OF_OTHERS = ("wandb", "tune")
"""Folders of a run in which W&B and Ray keep what they like, links too."""


def open_run(run_dir: Path) -> SweepManifest:
    """Reads a run's manifest and compares the run folder with it: links, splits, groups, published models.

    Raises:
        DataError: Naming what was changed, or if the folder is not a run folder, or holds a table or a text that would
            fill the memory.
    """
    manifest = SweepManifest.load(run_dir)
    refuse_links(run_dir, but_not_below=OF_OTHERS)
    check_texts(run_dir, but_not_below=OF_OTHERS)
    for split in _splits(run_dir):
        _check_split(run_dir, manifest, split)
    check_published(run_dir)
    return manifest


def open_data(run_dir: Path, manifest: SweepManifest, *, root: Path | None = None) -> SegmentationData:
    """The data set of a run, compared with what it was when the sweep began: classes, and every file of every split.

    Args:
        run_dir: The run.
        manifest: Of the run.
        root: Where the data set is now; None: where it was.

    Raises:
        DataError: Naming what differs, or if there is no data set.
    """
    name, before = manifest.data.name, manifest.data.root
    place = root if root is not None else None if before is None else Path(before)
    cure = "if it was moved, give its new place with --data-root DIR: its content is compared"
    if place is not None and not place.expanduser().is_dir():
        raise DataError(f"the images of this run (data set {name}) are not at {place} any more\n{cure}")
    try:
        data: SegmentationData = DATASETS.get(name)(root=place)
    except SegsweepError as error:
        raise DataError(f"the data set of this run cannot be read: {error}\n{cure}") from error
    faults = [*_class_faults(manifest, data), *_file_faults(run_dir, data)]
    if faults:
        raise DataError(
            f"the data under {data.root} is not what the sweep {manifest.name} began with:\n"
            + "\n".join(f"  {fault}" for fault in faults)
            + "\nrestore it as it was (a copy elsewhere: --data-root DIR), or start a new sweep on the data as it is"
        )
    return data


def trial_data(run_dir: Path, data: SegmentationData, manifest: SweepManifest) -> TrialData:
    """What trials of a run may see of its data set: the frozen train and val splits, never test."""
    reported = tuple(objective.key for objective in recorded_objectives(manifest))
    return TrialData(data, load_split(run_dir, "train").ids, load_split(run_dir, "val").ids, reported)


def load_run_split(run_dir: Path, name: str) -> Split:
    """The frozen split `train`, `val` or `test` of a run.

    Knowing which images are test images opens nothing; evaluating a checkpoint on them does.
    """
    return load_test_split(run_dir) if name == "test" else load_split(run_dir, name)


def groups_hash(ids: Sequence[str], groups: Sequence[str | None]) -> str:
    """SHA-256 (hex) of the pairs of image and group, sorted by image."""
    return hashlib.sha256(json.dumps(sorted(zip(ids, groups, strict=True)), default=str).encode()).hexdigest()


def values_hash(data: SegmentationData) -> str:
    """SHA-256 (hex) of what each value in a mask file stands for, a class or void, and of how files are decoded.

    What transparent pixels stand for follows from the others, and is left out.
    """
    values = sorted(pair for pair in data.stored_values().items() if not is_transparent(pair[0]))
    what = [values, data.decoding()] if data.decoding() else values
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def describe_data(
    data: SegmentationData, root: Path | None, run_dir: Path, *, origin: str, warnings: Sequence[str]
) -> DataRecord:
    """What a manifest keeps of a data set whose splits are frozen in a run folder.

    Args:
        data: The data set.
        root: As given to it; None for an embedded one.
        run_dir: Holds the frozen splits.
        origin: How the splits came about.
        warnings: What a reader of the report must know.
    """
    splits = [load_run_split(run_dir, name) for name in SPLITS]
    records = {s.name: SplitRecord(len(s.ids), s.hash, groups_hash(s.ids, s.groups)) for s in splits}
    return DataRecord(
        name=data.name,
        root=None if root is None else str(root.expanduser().resolve()),
        classes=tuple(data.classes),
        splits=SplitRecords(**records),
        values=values_hash(data),
        origin=origin,
        warnings=tuple(warnings),
        ids=tuple(file_ids(data)),
        image_bits=data.image_bits,
        bands=data.bands,
    )


def version_changes(manifest: SweepManifest) -> dict[str, tuple[str, str]]:
    """Packages (and `python`, `code`) whose version has changed: version then and now, by name."""
    now = package_versions()
    return {name: (then, now[name]) for name, then in manifest.versions.items() if now.get(name, then) != then}


def published_event(labels: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    """What the journal keeps of `best/`: hashes of both files of each label, by label.

    Args:
        labels: Folder of each label.
    """
    return {
        label: {TRIAL_FILE: file_sha256(folder / TRIAL_FILE), MODEL_FILE: file_sha256(folder / MODEL_FILE)}
        for label, folder in labels.items()
    }


def published_labels(events: Sequence[Event]) -> dict[str, dict[str, str]] | None:
    """The hashes that the journal has of `best/`, by label; None before anything was published."""
    told = [event["labels"] for event in events if event["event"] == "published"]
    return told[-1] if told else None


def published(run_dir: Path) -> dict[str, dict[str, str]] | None:
    """What `best/` holds according to a run's journal; None in runs that did not write it down.

    Raises:
        DataError: If the journal was altered.
    """
    return published_labels(read_events(run_dir / JOURNAL_FILE))


def check_published(run_dir: Path) -> None:
    """Compares `best/` with what the journal says was published there; labels that are gone are skipped.

    Raises:
        DataError: Naming each file that differs, or a journal that was altered.
    """
    faults = []
    for label, hashes in (published(run_dir) or {}).items():
        for name in MODEL_FILES:
            digest, path = hashes[name], within(run_dir, BEST_MODELS, label) / name
            if path.is_file() and file_sha256(path) != digest:
                faults.append(str(path))
    if faults:
        raise DataError(
            "not the files that the sweep published, by the journal's hashes:\n  "
            + "\n  ".join(faults)
            + f"\nremove {'it' if len(faults) == 1 else 'them'}; resuming the sweep publishes the models again from "
            "their checkpoints"
        )


def _splits(run_dir: Path) -> list[Split]:
    """The frozen splits; a test split that was removed is left out, since only a report on test needs it."""
    names = SPLITS if (run_dir / TEST_SPLIT_FILE).is_file() else ("train", "val")
    return [load_run_split(run_dir, name) for name in names]


def _check_split(run_dir: Path, manifest: SweepManifest, split: Split) -> None:
    told: SplitRecord = getattr(manifest.data.splits, split.name)
    wrong = []
    if split.hash != told.hash:
        wrong.append("its images")
    elif told.groups not in (None, groups_hash(split.ids, split.groups)):
        wrong.append("its groups")
    if wrong:
        raise DataError(
            f"{run_dir}: the {split.name} split is not the one that the sweep began with ({' and '.join(wrong)} are "
            "others than the manifest says)\nrestore the files of the run from a copy"
        )


def _class_faults(manifest: SweepManifest, data: SegmentationData) -> list[str]:
    then, now = [c.name for c in manifest.data.classes], [c.name for c in data.classes]
    if then != now:
        return [f"classes: {', '.join(then)} then, {', '.join(now)} now"]
    if manifest.data.bands != data.bands:
        told = [bands or "red, green and blue" for bands in (manifest.data.bands, data.bands)]
        return [
            f"images: {told[0]} then, {told[1]} now, or another range, or other bands said to be red, green and blue"
        ]
    if manifest.data.values not in (None, values_hash(data)):
        return ["classes: the same names, but other values in the masks stand for them or for void"]
    return []


def _file_faults(run_dir: Path, data: SegmentationData) -> list[str]:
    faults = []
    for split in _splits(run_dir):
        records = scan(data, split.ids)
        now = {i: (found.image.sha256, found.mask.sha256) for i, found in records.items()}
        if split_hash(split.ids, now) == split.hash:
            continue
        for place, what in enumerate(("image", "mask")):
            gone = [i for i in split.ids if not now[i][place]]
            changed = [i for i in split.ids if now[i][place] and now[i][place] != split.sha256[i][place]]
            faults += [
                f"{split.name}: {counted(len(ids), what)} {how}: {some_of(ids)}"
                for ids, how in ((gone, "missing or unreadable"), (changed, "changed"))
                if ids
            ]
    return faults
