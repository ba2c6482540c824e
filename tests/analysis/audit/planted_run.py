"""A run with a report whose predictions are planted, so that every table has rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from analysis.confirmation import seed_folders
from analysis.kept import NewEvaluation, key_of_weights, place_of
from analysis.label_folders import label_folders
from sweep.deciding import decide
from sweep.journal import Journal
from sweep.objectives import objective_of
from sweep.verdict import Confirmed
from sweep.verify import load_run_split
from trainables.checkpoint import load_trial, save_checkpoint
from trainables.config import format_size
from trainables.data.base import SegmentationData
from trainables.metrics import sampling_units

from .. import small_run
from ..small_run import CLASSES, COUNTS, SIZES, make_data, make_record, make_run

LABELS = {"baseline": "0000", "best": "0001-finish", "flip": "0001-finish", "crop": "0002"}
SEEDS = {"0000": ("0010", "0011"), "0001": ("0012", "0013")}
"""Trials with fresh seeds, of the baseline's configuration and of the winner's."""
WRONG_BOXES = {"0000": 5, "0001-finish": 2, "0002": 3, "0010": 3, "0011": 2, "0012": 1, "0013": 1}
"""Boxes of a wrong class that are painted into each prediction."""
MISLABELLED = 4
"""Images of test with a box whose mask is wrong and whose predictions are right."""


def make_planted_run(folder: Path) -> tuple[Path, SegmentationData]:
    """A run of `small_run`, with richer images of test and with evaluations that no model made."""
    data = make_data(folder / "data")
    clean = {image_id: _paint(data, place) for place, image_id in enumerate(_test_ids())}
    # Nothing is predicted with them, so that they need no training, nor much of a model.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small_run, "make_model", lambda trial_id, classes: torch.nn.Conv2d(3, len(CLASSES), 1))
        run_dir = make_run(folder / "runs" / "planted", data, labels=LABELS)
        records = {one: replace(make_record("0000"), trial_id=one) for trials in SEEDS.values() for one in trials}
    for trial_id, record in records.items():
        model = torch.nn.Conv2d(3, len(CLASSES), 1)
        save_checkpoint(run_dir / "checkpoints" / trial_id, epoch=2, model=model, updater=None, record=record)
    found = [
        Confirmed("0000", "baseline", SEEDS["0000"], (7, 8), (0.40, 0.41)),
        Confirmed("0001", "flip", SEEDS["0001"], (7, 8), (0.46, 0.47)),
    ]
    verdict = decide(
        found,
        objective_of("val/miou"),
        split="val",
        collected=lambda trial_id: None,
        units=sampling_units([None] * COUNTS["val"]),
        chosen_from=3,
    )
    with Journal(run_dir / "journal.jsonl") as journal:
        journal.append("verdict", **verdict.to_json())
    split = load_run_split(run_dir, "test")
    for folder_of in (*label_folders(run_dir).values(), *seed_folders(run_dir, verdict)[0].values()):
        record = load_trial(folder_of)
        size = format_size(record.config.image_size)
        rng = np.random.default_rng(int(record.trial_id[:4]))
        with NewEvaluation(
            place_of(run_dir, split, record.trial_id), len(CLASSES), record.trial_id, split, None
        ) as new:
            for image_id, truth in clean.items():
                logits = _logits(truth, WRONG_BOXES[record.trial_id], rng)
                new.process(
                    image_id, logits, logits.argmax(dim=0), torch.from_numpy(data.mask(image_id).astype(np.int64))
                )
            new.keep(key_of_weights(record.sha256, size, split), {"ms": 1.0})
    return run_dir, data


def _test_ids() -> list[str]:
    return [f"test{number:02d}" for number in range(COUNTS["test"])]


def _paint(data: SegmentationData, place: int) -> np.ndarray:
    """Writes an image and its mask anew: boxes of two classes, some with a void seam; returns the mask without void."""
    rng = np.random.default_rng(place)
    height, width = SIZES[place % len(SIZES)]
    clean = np.full((height, width), 1, np.uint8)
    void = np.zeros(clean.shape, bool)
    for _ in range(7):
        top, left = rng.integers(0, height - 6), rng.integers(0, width - 6)
        down, right = rng.integers(5, 16, 2)
        void[top : top + down, left - 1 : left] = True
        clean[top : top + down, left : left + right] = rng.choice((0, 2))
    mask = clean.copy()
    if place < MISLABELLED:
        mask[12:22, 14:26], clean[12:22, 14:26] = 1, 2
        void[11:23, 13:27] = False
    mask[void] = 255
    table = np.zeros((256, 3))
    table[: len(CLASSES)] = [info.color for info in CLASSES]
    light = rng.uniform(0.3, 1.0)
    image = np.clip(table[clean] * light + 20 + rng.normal(0, rng.uniform(2, 20), (height, width, 3)), 0, 255)
    name = f"test{place:02d}.png"
    Image.fromarray(image.astype(np.uint8)).save(data.root / "images" / name)
    Image.fromarray(mask).save(data.root / "masks" / name)
    return clean


def _logits(truth: np.ndarray, boxes: int, rng: np.random.Generator) -> torch.Tensor:
    """Scores of classes, shape (C, H, W), whose largest are the truth but for a few boxes and a shift by a pixel."""
    wanted = np.roll(truth, rng.integers(-1, 2, 2), (0, 1))
    for _ in range(boxes):
        top, left = rng.integers(0, truth.shape[0] - 3), rng.integers(0, truth.shape[1] - 3)
        down, right = rng.integers(2, 12, 2)
        wanted[top : top + down, left : left + right] = rng.integers(0, len(CLASSES))
    noise = torch.from_numpy(rng.normal(0, 0.5, (len(CLASSES), *truth.shape)).astype(np.float32))
    return noise + 4 * torch.nn.functional.one_hot(torch.from_numpy(wanted.astype(np.int64)), len(CLASSES)).permute(
        2, 0, 1
    )
