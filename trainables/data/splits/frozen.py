"""Drawing splits, and freezing them so that they are never drawn again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainables.data.base import SegmentationData, Splits
from trainables.data.cache.scan import scan
from trainables.data.reading.names import check_ids
from trainables.errors import DataError
from trainables.files import json_bytes, write_atomically
from trainables.limits import check_file
from trainables.words import some_of

SPLITS_FILE = "splits.json"
TEST_SPLIT_FILE = "splits.test.json"
_FORMAT = 1


@dataclass(frozen=True)
class Split:
    """One frozen split of a run."""

    name: str
    ids: tuple[str, ...]
    groups: tuple[str | None, ...]
    """The group of each image, in the order of `ids`."""
    hash: str
    """`split_hash` of its files."""
    sha256: Mapping[str, tuple[str, str]] = field(default_factory=dict, repr=False)
    """SHA-256 of the image file and of the mask file, by image id."""


def split_hash(ids: Sequence[str], hashes: Mapping[str, tuple[str, str]]) -> str:
    """SHA-256 (hex) of the sorted lines `id image_sha256 mask_sha256`, joined by newlines.

    Args:
        ids: The images of the split.
        hashes: SHA-256 of the image file and of the mask file, by image id.
    """
    lines = sorted(f"{image_id} {hashes[image_id][0]} {hashes[image_id][1]}" for image_id in ids)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def changed_parts(data: SegmentationData, splits: Splits, before: Mapping[str, str]) -> list[str]:
    """The parts whose images or files are others than those of before.

    Args:
        data: The data set.
        splits: Of it, now.
        before: `split_hash` of each part, then.
    """
    records = scan(data, [image_id for part in before for image_id in getattr(splits, part)])
    hashes = {i: (record.image.sha256, record.mask.sha256) for i, record in records.items()}
    return [part for part, told in before.items() if split_hash(getattr(splits, part), hashes) != told]


def freeze_splits(
    data: SegmentationData, splits: Splits, run_dir: Path, *, hashes: Mapping[str, tuple[str, str]]
) -> dict[str, str]:
    """Writes `splits.json` (train, val) and `splits.test.json` (test only), each atomically.

    Freezing equal splits a second time changes nothing.

    Args:
        data: The data set that the splits are of.
        splits: The ids.
        run_dir: The run's folder; made if missing.
        hashes: SHA-256 of the image file and of the mask file, by image id (`CheckResult.hashes`).

    Returns:
        The hash of each split: keys train, val, test.

    Raises:
        DataError: If a split is empty, an id has no hash, or the folder holds different splits.
    """
    parts = {"train": splits.train, "val": splits.val, "test": splits.test}
    faults = [f"split {name} is empty" for name, ids in parts.items() if not ids]
    unhashed = sorted({image_id for ids in parts.values() for image_id in ids if image_id not in hashes})
    if unhashed:
        faults.append(f"no content hash for {some_of(unhashed)}")
    if faults:
        raise DataError(f"cannot freeze the splits of {data.name} ({data.root}): {'; '.join(faults)}")

    entries = {name: _entry(data, splits, ids, hashes) for name, ids in parts.items()}
    head = {"format": _FORMAT, "data": data.name, "origin": splits.origin, "warnings": list(splits.warnings)}
    contents = {
        SPLITS_FILE: {**head, "train": entries["train"], "val": entries["val"]},
        TEST_SPLIT_FILE: {"format": _FORMAT, "data": data.name, "test": entries["test"]},
    }
    encoded = {name: json_bytes(content) for name, content in contents.items()}
    for name, content in encoded.items():
        path = run_dir / name
        if path.exists() and path.read_bytes() != content:
            raise DataError(
                f"{path} already holds other splits; splits of a run are never drawn again: give the sweep another "
                "--name, or restore the data as it was"
            )
    for name, content in encoded.items():
        if not (run_dir / name).exists():
            write_atomically(run_dir / name, content)
    return {name: entry["hash"] for name, entry in entries.items()}


def load_split(run_dir: Path, name: str) -> Split:
    """Reads the train or val split of a run.

    Raises:
        DataError: If the file is missing or was changed.
        ValueError: If asked for another split: test is sealed (`load_test_split`).
    """
    if name not in ("train", "val"):
        raise ValueError(f"load_split gives train or val, not {name!r}")
    return _load(run_dir / SPLITS_FILE, name)


def load_test_split(run_dir: Path) -> Split:
    """Reads the sealed test split of a run. Only `analysis/evaluate.py` calls this.

    Raises:
        DataError: If the file is missing or was changed.
    """
    return _load(run_dir / TEST_SPLIT_FILE, "test")


def _entry(
    data: SegmentationData, splits: Splits, ids: Sequence[str], hashes: Mapping[str, tuple[str, str]]
) -> dict[str, Any]:
    return {
        "hash": split_hash(ids, hashes),
        "ids": list(ids),
        "groups": [splits.group(data, image_id) for image_id in ids],
        "sha256": [list(hashes[image_id]) for image_id in ids],
    }


def _load(path: Path, name: str) -> Split:
    cure = "restore the file from a copy of the run, or start a new sweep"
    check_file(path, what="list of splits")
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path} is missing: is {path.parent} a run's folder? {cure}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read ({error}); {cure}") from None
    try:
        entry = content[name]
        ids, groups = tuple(entry["ids"]), tuple(entry["groups"])
        hashes = {i: (pair[0], pair[1]) for i, pair in zip(ids, entry["sha256"], strict=True)}
        whole = len(groups) == len(ids) == len(hashes) > 0 and all(isinstance(i, str) for i in ids)
        whole = whole and split_hash(ids, hashes) == entry["hash"]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        whole = False
    if not whole:
        raise DataError(f"{path} was changed: its {name} split does not match its hash; {cure}")
    check_ids(ids, path)
    return Split(name, ids, groups, entry["hash"], hashes)
