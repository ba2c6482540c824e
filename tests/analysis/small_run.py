"""A run folder with a few barely trained models, made without Ray, for tests of evaluation and results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from search_spaces import SPACES
from sweep.journal import Journal
from sweep.manifest import Budget, DataRecord, SplitRecord, SplitRecords, SweepManifest, TrackingRecord
from trainables.checkpoint import publish, save_checkpoint
from trainables.config import TrialConfig
from trainables.data.base import DATASETS, ClassInfo, SegmentationData, Splits
from trainables.data.cache.scan import scan
from trainables.data.splits.frozen import freeze_splits
from trainables.loaders import IMAGENET_NORMALISATION
from trainables.models import build_model
from trainables.record import TrialRecord

from ..manifests import make_manifest

CLASSES = (ClassInfo("left", (200, 0, 0)), ClassInfo("right", (0, 0, 200)), ClassInfo("dot", (0, 200, 0)))
PLACES = (0, 255, 299)
"""Of the same classes among many."""
MANY = tuple(
    CLASSES[PLACES.index(place)] if place in PLACES else ClassInfo(f"class {place}", (place // 256, place % 256, 90))
    for place in range(300)
)
SIZES = ((40, 56), (48, 48), (33, 61))
COUNTS = {"train": 4, "val": 5, "test": 42}
STEPS = {"0000": 5, "0001-finish": 20, "0002": 2}
SETTLING = 10
"""Passes without a step at the end, for BatchNorm's running statistics."""


@contextmanager
def made_once(factory: pytest.TempPathFactory) -> Iterator[tuple[SegmentationData, Path]]:
    """Data and a run for a module, with a cache of their own; tests work on copies of the run."""
    with pytest.MonkeyPatch.context() as patch:
        root = factory.mktemp("small")
        patch.setenv("SEGSWEEP_CACHE", str(root / "cache"))
        data = make_data(root / "data")
        yield data, make_run(root / "runs" / "small", data)


def make_data(root: Path, *, groups: bool = False, many: bool = False) -> SegmentationData:
    """A data set `folder`: halves of two classes, a dot of a third, a void seam; images of three sizes.

    With `many` they are three of `MANY` classes, in masks of 16 bits.
    """
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for split, count in COUNTS.items():
        stems = [f"{split}{number:02d}" for number in range(count)]
        for number, stem in enumerate(stems):
            height, width = SIZES[number % len(SIZES)]
            seam = int(rng.integers(width // 4, 3 * width // 4))
            mask = np.zeros((height, width), np.uint8)
            mask[:, seam:] = 1
            top, left = rng.integers(0, 20, 2)
            mask[top : top + 8, left : left + 8] = 2
            mask[:, seam - 1] = 255
            table = np.zeros((256, 3))
            table[: len(CLASSES)] = [info.color for info in CLASSES]
            image = np.clip(table[mask] + rng.normal(0, 20, (height, width, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(image).save(root / "images" / f"{stem}.png")
            stored = np.array([*PLACES, *[65535] * 253], np.uint16)[mask] if many else mask
            Image.fromarray(stored).save(root / "masks" / f"{stem}.png")
        (root / f"{split}.txt").write_text("\n".join(stems) + "\n")
    entries = [
        {"id": i, "name": info.name, "color": list(info.color)} for i, info in enumerate(MANY if many else CLASSES)
    ]
    description = {"classes": entries, "void": 65535 if many else 255}
    if groups:
        # test00 .. test41 in fourteen groups of three
        ids = [f"{split}{number:02d}" for split, count in COUNTS.items() for number in range(count)]
        rows = "".join(f"{i},{i[:-2]}-{int(i[-2:]) // 3}\n" for i in ids)
        (root / "groups.csv").write_text("id,group\n" + rows)
        description["groups"] = "groups.csv"
    (root / "classes.json").write_text(json.dumps(description))
    data: SegmentationData = DATASETS.get("folder")(root=root)
    return data


def make_run(run_dir: Path, data: SegmentationData, *, labels: dict[str, str] | None = None) -> Path:
    """A run whose labels hold models from `make_model`.

    Args:
        run_dir: Made.
        data: From `make_data`.
        labels: Trial id of each label.
    """
    labels = {"baseline": "0000", "best": "0001-finish", "flip": "0001-finish"} if labels is None else labels
    splits = Splits(
        *(tuple(f"{name}{number:02d}" for number in range(count)) for name, count in COUNTS.items()), origin="made up"
    )
    records = scan(data)
    hashes = {i: (record.image.sha256, record.mask.sha256) for i, record in records.items()}
    frozen = freeze_splits(data, splits, run_dir, hashes=hashes)
    make_manifest(
        name=run_dir.name,
        data=DataRecord(
            name=data.name,
            root=str(data.root),
            classes=tuple(data.classes),
            splits=SplitRecords(**{name: SplitRecord(COUNTS[name], digest) for name, digest in frozen.items()}),
            origin=splits.origin,
            warnings=("a warning about the split",),
        ),
    ).save(run_dir)
    for trial_id in ("0000", "0001-finish", "0002"):
        checkpoint = save_checkpoint(
            run_dir / "checkpoints" / trial_id,
            epoch=2,
            model=make_model(trial_id, len(data.classes)),
            updater=None,
            record=make_record(trial_id, tuple(data.classes)),
        )
        for label in [label for label, holder in labels.items() if holder == trial_id]:
            publish(checkpoint, run_dir / "best" / label, label=label)
    rows = [
        "trial_id,label,phase,seed,state,reason,epochs,seconds,gpu_seconds,val/miou,config/optimizer.lr,parent",
        "0000,baseline,search,0,completed,,2,10.0,1.0,0.3,0.003,",
        "0001,flip,search,1,stopped,by asha,1,5.0,0.5,0.35,0.01,",
        "0002,flip,search,2,completed,,2,10.0,1.0,0.2,0.02,",
        "0003,flip,search,3,infeasible,diverged,1,5.0,0.5,,1.0,",
        "0001-finish,flip,finish,1,completed,,2,6.0,0.6,0.4,0.01,0001",
    ]
    (run_dir / "trials.csv").write_text("\n".join(rows) + "\n")
    with Journal(run_dir / "journal.jsonl") as journal:
        journal.append("suggested", trial_id="0000", label="baseline", phase="search", seed=0, config={})
        journal.append("result", trial_id="0000", epoch=1, metrics={"val/miou": 0.2}, seconds=5.0)
        journal.append("result", trial_id="0000", epoch=2, metrics={"val/miou": 0.3}, seconds=5.0)
    return run_dir


def make_run_to_go_on_with(run_dir: Path, data: SegmentationData) -> Path:
    """A run of `make_run` that can be resumed too: its journal tells of one trial, which was all there was to try."""
    make_run(run_dir, data)
    space = SPACES.get("lr")(["lraspp_mobilenet_v3_large"], "none")
    base = {
        "image_size": "32x48",
        "epochs": 2,
        "batch_size": 5,
        "model.name": "lraspp_mobilenet_v3_large",
        "model.weights": "none",
        "seed": 0,
    }
    replace(
        SweepManifest.load(run_dir),
        space=space,
        base=base,
        budget=Budget(trials=1, max_epochs=2),
        tracking=TrackingRecord("disabled", "x"),
    ).save(run_dir)
    (run_dir / "journal.jsonl").unlink()
    with Journal(run_dir / "journal.jsonl") as journal:
        tell_trial(journal, "0000", "baseline", make_record("0000").config.flat(), dict(space.start[0]))
    return run_dir


def tell_trial(
    journal: Journal, trial_id: str, label: str, config: Mapping[str, Any], params: Mapping[str, Any]
) -> None:
    """Writes down a trial from its suggestion to its end, after two epochs."""
    metrics = {"val/miou": 0.3}
    journal.append(
        "suggested", trial_id=trial_id, number=0, label=label, phase="search", config=config, params=params, seed=0,
        source="known_good",
    )  # fmt: skip
    for epoch in (1, 2):
        journal.append("result", trial_id=trial_id, epoch=epoch, seconds=1.0, metrics=metrics, spent_s=1.0)
    journal.append("ended", trial_id=trial_id, state="completed", reason="", epoch=2, metrics=metrics)


def make_model(trial_id: str, classes: int = len(CLASSES)) -> torch.nn.Module:
    """A model that saw a few random halves, more of them for the winner; seeded by the trial id."""
    return _trained(trial_id, classes)


@lru_cache
def _trained(trial_id: str, classes: int) -> torch.nn.Module:
    torch.manual_seed(sum(map(ord, trial_id)))
    model = build_model("lraspp_mobilenet_v3_large", [str(place) for place in range(classes)], weights="none").train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    colors = torch.tensor([info.color for info in CLASSES]) / 255
    places = torch.arange(3) if classes == len(CLASSES) else torch.tensor(PLACES)
    for step in range(STEPS[trial_id] + SETTLING):
        target = torch.zeros(4, 32, 48, dtype=torch.int64)
        for mask in target:
            mask[:, int(torch.randint(12, 36, ())) :] = 1
            mask[10:20, 5:15] = 2
        images = (colors[target].permute(0, 3, 1, 2) - 0.45) / 0.23
        loss = torch.nn.functional.cross_entropy(model(images)["out"], places[target])
        if step < STEPS[trial_id]:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def make_record(trial_id: str, classes: tuple[ClassInfo, ...] = CLASSES) -> TrialRecord:
    """The record of a trial of two epochs."""
    lr = {"0000": 0.003, "0001-finish": 0.01, "0002": 0.02}[trial_id]
    config = TrialConfig.from_flat({"image_size": "32x48", "epochs": 2, "batch_size": 5, "optimizer.lr": lr})
    miou = {"0000": 0.3, "0001-finish": 0.4, "0002": 0.2}[trial_id]
    return TrialRecord(
        trial_id=trial_id,
        label="",
        config=config,
        classes=classes,
        normalisation=IMAGENET_NORMALISATION,
        history=tuple({"epoch": e, "seconds": 4.0, "metrics": {"val/miou": miou}} for e in (1, 2)),
        applied={},
        parameters=sum(p.numel() for p in make_model(trial_id, len(classes)).parameters()),
    )
