"""The whole road on real photographs, where they are at hand."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import jaccard_score

from trainables.checkpoint import publish, rebuild_model
from trainables.config import TrialConfig
from trainables.data import DATASETS
from trainables.execution import TrialData
from trainables.loaders import evaluation_loader
from trainables.loops import evaluate
from trainables.metrics import ConfusionMatrix, iou
from trainables.trial import Trial

from .command import REPO, run

SHARED = Path(os.environ.get("SEGSWEEP_SHARED_DATA", REPO.parent / "shared" / "data"))


def needs(folder: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not (SHARED / folder).is_dir(), reason=f"no {folder} images at {SHARED}")


def thinned(root: Path, target: Path) -> Path:
    """Every second frame of the train and val parts of a CamVid root, as links."""
    for part in ("train", "val"):
        for folder in (part, f"{part}annot"):
            (target / folder).mkdir(parents=True)
            for path in sorted((root / folder).iterdir())[::2]:
                (target / folder / path.name).symlink_to(path)
    return target


@needs("CamVid")
@pytest.mark.ray
def test_sweep_and_report_on_camvid(tmp_path: Path) -> None:
    root = thinned(SHARED / "CamVid", tmp_path / "frames")
    what = ["--space", "augment", "--data", "camvid", "--data-root", str(root), "--set", "image_size=48x64"]
    budget = ["--trials", "1", "--max-epochs", "3", "--wandb", "disabled", "--no-dashboard", "--pictures", "10"]
    swept = run("sweep.run", *what, *budget, "--name", "camvid", "--runs-dir", str(tmp_path))
    assert swept.returncode == 0, swept.stdout + swept.stderr
    assert "the official CamVid split is not used" in " ".join(swept.stdout.replace("│", " ").split())
    run_dir = tmp_path / "camvid"
    reported = run("analysis.report", str(run_dir), "--save-predictions", "--pictures", "10")
    assert reported.returncode == 0, reported.stdout + reported.stderr
    comparison = pd.read_csv(run_dir / "report/tables/comparison.csv").set_index("label")
    assert comparison.loc["best", "iou"] > comparison.loc["majority", "iou"]
    # Frames of a stretch of video are alike: intervals go over stretches, and there are enough of them here.
    assert comparison.loc["best", "iou_low"] < comparison.loc["best", "iou"] < comparison.loc["best", "iou_high"]
    data = DATASETS.get("camvid")(root=root)
    ids = json.loads((run_dir / "splits.test.json").read_text())["test"]["ids"]
    truth = np.concatenate([data.mask(image_id).ravel() for image_id in ids])
    predicted = np.concatenate(
        [np.asarray(Image.open(run_dir / f"report/predictions/best/{image_id}.png")).ravel() for image_id in ids]
    )
    seen = truth != 255
    expected = jaccard_score(truth[seen], predicted[seen], average="macro", labels=np.unique(truth[seen]))
    assert comparison.loc["best", "iou"] == pytest.approx(expected, abs=1e-6)


@needs("VOCdevkit")
def test_fcn_resnet50_trains_and_evaluates_on_voc(tmp_path: Path) -> None:
    data = DATASETS.get("voc2012")(root=SHARED / "VOCdevkit")
    splits = data.splits()
    config = TrialConfig.from_flat(
        {"model.name": "fcn_resnet50", "optimizer.lr": 1e-3, "image_size": "64x64", "epochs": 2, "batch_size": 4}
    )
    trial = Trial(config, TrialData(data, splits.train[:8], splits.val[:6]), trial_id="voc")
    first, second = trial.run_epoch(), trial.run_epoch()
    assert second["metrics"]["train/loss"] < first["metrics"]["train/loss"]
    publish(trial.save(tmp_path / "checkpoints"), tmp_path / "model", label="voc")
    model, record = rebuild_model(tmp_path / "model")
    assert [info.name for info in record.classes][:2] == ["background", "aeroplane"]
    matrix = ConfusionMatrix(21)
    evaluate(model, evaluation_loader(data, splits.val[:6], size=(64, 64), batch_size=3), [matrix])
    assert matrix.value().sum() == sum(int((data.mask(i) != 255).sum()) for i in splits.val[:6])
    # Not to the last pixel: with weights in another memory layout a convolution's sums may round differently.
    assert np.nanmean(iou(matrix.value())) == pytest.approx(second["metrics"]["val/miou"], abs=1e-5)
