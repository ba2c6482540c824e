"""Drawing splits, and freezing them so that they are never drawn again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.data.base import SegmentationData, Splits
from trainables.data.names import check_ids
from trainables.data.places import write_atomically
from trainables.errors import DataError

SPLITS_FILE = "splits.json"
TEST_SPLIT_FILE = "splits.test.json"
_FORMAT = 1


def stratified_split(
    presence: npt.NDArray[np.bool_],
    fractions: Sequence[float],
    *,
    seed: int,
    groups: Sequence[Hashable] | None = None,
) -> list[npt.NDArray[np.intp]]:
    """Cuts images into parts whose shares of every class come close to `fractions`.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD
    2011): the class with the fewest images left is dealt out first, each unit to the part that lacks most of that
    class. A unit is an image, or all images of a group. Two additions: every part wants at least one image of every
    class, so that a class with as many units as there are parts reaches all of them; and among the units of a class
    the largest go first, while there is room to balance them.

    Args:
        presence: Shape (N, C), whether class c occurs in image n.
        fractions: Share of each part; each in (0, 1], together 1.
        seed: Ties are broken by it; equal inputs and seed give equal parts.
        groups: Length N; images with equal values stay together. None: each image on its own.

    Returns:
        One sorted array of image indices a part; together they are 0 .. N - 1, each once.

    Raises:
        ValueError: If the shapes or the fractions make no sense.
    """
    presence = np.asarray(presence, bool)
    shares = np.asarray(fractions, float)
    if presence.ndim != 2:
        raise ValueError(f"presence must have shape (N, C), not {presence.shape}")
    if shares.ndim != 1 or not len(shares) or (shares <= 0).any() or not np.isclose(shares.sum(), 1.0):
        raise ValueError(f"fractions must be positive and sum to 1, not {list(fractions)}")
    if groups is not None and len(groups) != len(presence):
        raise ValueError(f"groups must have one entry an image: {len(groups)} entries, {len(presence)} images")
    units = _units(len(presence), groups)
    part_of = _deal(_unit_counts(presence, units), np.array([len(unit) for unit in units]), shares, seed)
    parts: list[list[int]] = [[] for _ in shares]
    for unit, part in zip(units, part_of, strict=True):
        parts[part].extend(unit)
    return [np.array(sorted(part), np.intp) for part in parts]


def _units(count: int, groups: Sequence[Hashable] | None) -> list[list[int]]:
    if groups is None:
        return [[index] for index in range(count)]
    members: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    return list(members.values())


def _unit_counts(presence: npt.NDArray[np.bool_], units: list[list[int]]) -> npt.NDArray[np.int64]:
    """Images of each unit that show each class, (U, C)."""
    counts = np.zeros((len(units), presence.shape[1]), np.int64)
    for row, unit in enumerate(units):
        counts[row] = presence[unit].sum(axis=0)
    return counts


def _deal(
    counts: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], shares: npt.NDArray[np.float64], seed: int
) -> npt.NDArray[np.intp]:
    """The part of each unit, (U,)."""
    order = np.random.default_rng(seed).permutation(len(counts))
    part_of = np.full(len(counts), -1, np.intp)
    totals = counts.sum(axis=0)
    # (parts, C) and (parts,): what each part still wants.
    wanted = np.where(totals > 0, np.maximum(shares[:, None] * totals, 1.0), 0.0)
    room = shares * sizes.sum()
    while (part_of < 0).any():
        open_units = order[part_of[order] < 0]
        left = counts[open_units].sum(axis=0)
        if left.any():
            rarest = int(np.argmin(np.where(left > 0, left, np.iinfo(np.int64).max)))
            candidates = open_units[counts[open_units, rarest] > 0]
            candidates = candidates[np.argsort(-counts[candidates, rarest], kind="stable")]
        else:
            rarest, candidates = -1, open_units
        for unit in candidates:
            lack = wanted[:, rarest] if rarest >= 0 else room
            part = int(np.lexsort((np.arange(len(shares)), -room, -lack))[0])
            part_of[unit] = part
            wanted[part] -= counts[unit]
            room[part] -= sizes[unit]
    return part_of


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


def freeze_splits(
    data: SegmentationData, splits: Splits, run_dir: Path, *, hashes: Mapping[str, tuple[str, str]]
) -> dict[str, str]:
    """Writes `splits.json` (train, val) and `splits.test.json` (test only), each whole or not there.

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
        faults.append(f"no content hash for {', '.join(unhashed[:5])}{' ...' if len(unhashed) > 5 else ''}")
    if faults:
        raise DataError(f"cannot freeze the splits of {data.name} ({data.root}): {'; '.join(faults)}")

    entries = {name: _entry(data, splits, ids, hashes) for name, ids in parts.items()}
    head = {"format": _FORMAT, "data": data.name, "origin": splits.origin, "warnings": list(splits.warnings)}
    contents = {
        SPLITS_FILE: {**head, "train": entries["train"], "val": entries["val"]},
        TEST_SPLIT_FILE: {"format": _FORMAT, "data": data.name, "test": entries["test"]},
    }
    encoded = {name: json.dumps(content, indent=1).encode() + b"\n" for name, content in contents.items()}
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
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path} is missing: is {path.parent} a run's folder? {cure}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); {cure}") from None
    try:
        entry = content[name]
        ids, groups = tuple(entry["ids"]), tuple(entry["groups"])
        hashes = {i: (pair[0], pair[1]) for i, pair in zip(ids, entry["sha256"], strict=True)}
        whole = len(groups) == len(ids) == len(hashes) > 0 and all(isinstance(i, str) for i in ids)
        whole = whole and split_hash(ids, hashes) == entry["hash"]
    except (KeyError, TypeError, ValueError, IndexError):
        whole = False
    if not whole:
        raise DataError(f"{path} was changed: its {name} split does not match its hash; {cure}")
    check_ids(ids, path)
    return Split(name, ids, groups, entry["hash"], hashes)
