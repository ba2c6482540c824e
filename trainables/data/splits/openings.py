"""How often a test split was opened: `test_openings.jsonl`, beside the runs, has one line for each time."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from trainables.data.splits.frozen import Split
from trainables.errors import DataError
from trainables.labels import MAJORITY
from trainables.paths import within
from trainables.redact import redacted_words
from trainables.run_folder import evaluations

OPENINGS_FILE = "test_openings.jsonl"


class Checkpoint(Protocol):
    """Weights that are to be evaluated: a `TrialRecord`."""

    @property
    def trial_id(self) -> str:
        """Whose they are."""

    @property
    def sha256(self) -> str:
        """Their hash."""


def count_openings(runs_dir: Path, split_hash: str) -> int:
    """How often the test split with this hash was opened by the runs of a folder; reads one file and opens nothing.

    One opening is one act of evaluating at least one checkpoint for the first time; `analysis.report` writes them down.
    """
    path = runs_dir / OPENINGS_FILE
    return len(openings_of(path.read_bytes(), split_hash)) if path.is_file() else 0


def openings_seen(run_dir: Path, split_hash: str) -> int:
    """How often a run's test split was opened, as far as can be seen: at least once where evaluations on it are kept.

    The list of openings is beside the run: a run that was copied or moved leaves it behind, but not its evaluations.
    """
    kept = [path for path in evaluations(run_dir, "test").glob("*") if path.name != MAJORITY]
    return max(count_openings(run_dir.resolve().parent, split_hash), int(bool(kept)))


def openings_of(content: bytes, split_hash: str) -> list[dict[str, Any]]:
    """The openings of a split among the lines of `test_openings.jsonl`; a torn line is skipped."""
    openings = []
    for line in content.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("split_hash") == split_hash:
            openings.append(entry)
    return openings


def record_opening(run_dir: Path, split: Split, records: Mapping[str, Checkpoint]) -> bool:
    """Writes an opening of the test split down, unless the list already says that these weights were evaluated on it.

    Args:
        run_dir: The run; the list of openings is beside it and is shared by all runs there.
        split: The test split.
        records: The checkpoints to be evaluated, by label.

    Returns:
        Whether it is an opening.

    Raises:
        DataError: If it cannot be written down; then nothing may be evaluated.
    """
    path = within(run_dir.resolve().parent, OPENINGS_FILE)
    try:
        if path.is_file() and not _unlisted(path.read_bytes(), split, records):
            return False
        with path.open("a+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            stream.seek(0)
            content = stream.read()
            new = _unlisted(content, split, records)
            if not new:
                return False
            line = {
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "run": run_dir.resolve().name,
                "split_hash": split.hash,
                "checkpoints": [
                    {"label": label, "trial_id": record.trial_id, "sha256": record.sha256}
                    for label, record in new.items()
                ],
                "command": redacted_words(sys.argv),
            }
            # A line that a crash cut short must not swallow this one.
            start = b"" if not content or content.endswith(b"\n") else b"\n"
            stream.write(start + json.dumps(line).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error}), so the test split was not opened: every opening is written down "
            "there; make the file and its folder writable"
        ) from error
    return True


def _unlisted(content: bytes, split: Split, records: Mapping[str, Checkpoint]) -> dict[str, Checkpoint]:
    """The records whose weights are not listed as evaluated on the split."""
    listed = {
        checkpoint.get("sha256")
        for opening in openings_of(content, split.hash)
        for checkpoint in opening.get("checkpoints", [])
    }
    return {label: record for label, record in records.items() if record.sha256 not in listed}
