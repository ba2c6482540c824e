"""A sweep from stock parts, which `benchmarks/stock_tune.py` compares with ours.

    python -m benchmarks.stock_sweep < ORDER.json

Ray Tune's function API, `OptunaSearch` (TPE) with the points to evaluate first, `ASHAScheduler`, torchvision's
LRASPP-MobileNetV3, a `Dataset` that reads and resizes each image in every epoch with torchvision's transforms, a plain
loop, and mIoU counted as torchvision's segmentation reference does. A checkpoint each epoch; no report.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Images(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Images of a data set, read and resized each time that they are asked for.

    Args:
        data: Of `trainables.data`.
        ids: Of the split.
        size: Height and width.
        flip: Whether half of them are mirrored.
    """

    def __init__(self, data: Any, ids: list[str], size: tuple[int, int], *, flip: bool) -> None:
        self._data, self._ids, self._size, self._flip = data, ids, size, flip

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        from torchvision.transforms import functional

        image = Image.fromarray(self._data.image(self._ids[index]))
        mask = Image.fromarray(self._data.mask(self._ids[index]))
        image = functional.resize(image, list(self._size))
        mask = functional.resize(mask, list(self._size), functional.InterpolationMode.NEAREST)
        if self._flip and torch.rand(()) < 0.5:
            image, mask = functional.hflip(image), functional.hflip(mask)
        tensor = functional.normalize(functional.to_tensor(image), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        return tensor, torch.from_numpy(np.array(mask, np.int64))


def confusion(model: nn.Module, loader: Any, classes: int) -> torch.Tensor:
    """Truth by prediction over a split, int64 of shape (classes, classes)."""
    model.eval()
    matrix = torch.zeros(classes, classes, dtype=torch.int64)
    with torch.inference_mode():
        for images, masks in loader:
            predicted = model(images)["out"].argmax(1).flatten()
            truth = masks.flatten()
            known = (truth >= 0) & (truth < classes)
            counts = torch.bincount(classes * truth[known] + predicted[known], minlength=classes**2)
            matrix += counts.reshape(classes, classes)
    return matrix


def train(
    config: dict[str, Any], *, splits: dict[str, list[str]], size: tuple[int, int], batch: int, epochs: int
) -> None:
    """A trial, as Tune's function API wants it."""
    import torchvision
    from ray import tune

    from trainables.data import DATASETS

    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = DATASETS.get("scenes")()
    classes = len(data.classes)
    model = torchvision.models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=classes
    )
    training = DataLoader(Images(data, splits["train"], size, flip=True), batch, shuffle=True, drop_last=True)
    validation = DataLoader(Images(data, splits["val"], size, flip=False), batch)
    sgd, rate = config["optimizer.name"] == "sgd", float(config["optimizer.lr"])
    parameters = model.parameters()
    optimizer: Any = torch.optim.SGD(parameters, rate, 0.9) if sgd else torch.optim.AdamW(parameters, rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, epochs * len(training))
    loss = nn.CrossEntropyLoss(ignore_index=255)
    for epoch in range(1, epochs + 1):
        began, started = time.time(), time.monotonic()
        model.train()
        for images, masks in training:
            optimizer.zero_grad()
            loss(model(images)["out"], masks).backward()
            optimizer.step()
            schedule.step()
        matrix = confusion(model, validation, classes).double()
        iou = matrix.diag() / (matrix.sum(0) + matrix.sum(1) - matrix.diag())
        result = {"miou": float(iou.nanmean()), "seconds": time.monotonic() - started, "began": began, "epoch": epoch}
        with tempfile.TemporaryDirectory() as folder:
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, Path(folder, "last.pt"))
            tune.report(result, checkpoint=tune.Checkpoint.from_directory(folder))


def sweep(order: dict[str, Any]) -> None:
    """Runs the sweep; writes the beginning (seconds since 1970) and length of every epoch to `order["answer"]`."""
    import optuna
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    from benchmarks.stock_sweep import train as trial  # by a name that Ray's workers can import, not of `__main__`

    points, epochs = order["points"], order["epochs"]
    options = {"_temp_dir": os.environ["RAY_TMPDIR"]} if os.environ.get("RAY_TMPDIR") else {}
    ray.init(num_cpus=order["slots"], include_dashboard=False, log_to_driver=False, **options)
    # The points as they are; what TPE would suggest after them is never asked for.
    space = {
        "optimizer.name": optuna.distributions.CategoricalDistribution(["adamw", "sgd"]),
        "optimizer.lr": optuna.distributions.FloatDistribution(1e-6, 10.0, log=True),
    }
    kept = [{key: point[key] for key in space} for point in points]
    given = {key: order[key] for key in ("splits", "batch", "epochs")}
    tuner = tune.Tuner(
        tune.with_resources(functools.partial(trial, **given, size=tuple(order["size"])), {"CPU": 1}),
        tune_config=tune.TuneConfig(
            metric="miou",
            mode="max",
            num_samples=len(points),
            max_concurrent_trials=order["slots"],
            search_alg=OptunaSearch(space, metric="miou", mode="max", points_to_evaluate=kept),
            scheduler=ASHAScheduler(time_attr="epoch", max_t=epochs, grace_period=order["grace"], reduction_factor=3),
        ),
        run_config=tune.RunConfig(storage_path=order["folder"], name="stock", verbose=0),
    )
    results = tuner.fit()
    frames = [result.metrics_dataframe for result in results]
    told = [row for frame in frames if frame is not None for row in frame[["began", "seconds"]].values.tolist()]
    Path(order["answer"]).write_text(json.dumps({"epochs": told, "errors": [str(one) for one in results.errors]}))
    ray.shutdown()


def main() -> None:
    """Reads the order from the standard input."""
    sweep(json.load(sys.stdin))


if __name__ == "__main__":
    main()
