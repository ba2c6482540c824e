"""Wall time of a sweep beside stock parts on the same trials: what is left of it when no epoch is trained.

    python benchmarks/stock_tune.py [--trials 6] [--epochs 4] [--slots 2] [--size 96x128] [--runs DIR]

Ours is `python -m sweep.run` on the embedded images: the space `lr`, TPE, ASHA, no confirmation, W&B off. The stock
sweep trains the configurations that the search suggested, as the journal has them: Ray Tune's function API,
`OptunaSearch` with these points as `points_to_evaluate` and TPE, `ASHAScheduler` with the same rungs (a first one at a
third of the budget, then three times as far), torchvision's LRASPP-MobileNetV3, a `Dataset` that reads and resizes each
image in every epoch with torchvision's transforms, a plain loop, and torchvision's way to compute mIoU. It writes a
checkpoint each epoch and a CSV of results, and makes no report. Both are commands of their own, in turn.

Wall is from the start of the command to its end. Efficiency is the time within epochs (training and validation, as each
side measures it) over wall x slots. Ours does more in its wall time: it checks the data, measures what trials cost,
finishes labels, publishes models and writes the report on val; the report's share is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
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

MODEL = "lraspp_mobilenet_v3_large"
SPACE = "lr"
BATCH = 8


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
    """Truth by prediction over a split, as torchvision's references count it."""
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


def train(config: dict[str, Any], *, splits: dict[str, list[str]], size: tuple[int, int], epochs: int) -> None:
    """A trial of the stock sweep, as Tune's function API wants it."""
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
    loaders = [
        DataLoader(Images(data, splits[name], size, flip=name == "train"), BATCH, shuffle=name == "train",
                   drop_last=name == "train")
        for name in ("train", "val")
    ]  # fmt: skip
    sgd = config.get("optimizer.name") == "sgd"
    rate = float(config["optimizer.lr"])
    parameters = model.parameters()
    optimizer: Any = torch.optim.SGD(parameters, rate, 0.9) if sgd else torch.optim.AdamW(parameters, rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, epochs * len(loaders[0]))
    loss = nn.CrossEntropyLoss(ignore_index=255)
    for epoch in range(1, epochs + 1):
        started = time.monotonic()
        model.train()
        for images, masks in loaders[0]:
            optimizer.zero_grad()
            loss(model(images)["out"], masks).backward()
            optimizer.step()
            schedule.step()
        matrix = confusion(model, loaders[1], classes).double()
        iou = matrix.diag() / (matrix.sum(0) + matrix.sum(1) - matrix.diag())
        seconds = time.monotonic() - started
        with tempfile.TemporaryDirectory() as folder:
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, Path(folder, "last.pt"))
            tune.report(
                {"miou": float(iou.nanmean()), "seconds": seconds, "epoch": epoch},
                checkpoint=tune.Checkpoint.from_directory(folder),
            )


def stock(order: dict[str, Any]) -> None:
    """The stock sweep; writes what its trials took."""
    import functools

    import optuna
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    points, epochs = order["points"], order["epochs"]
    options = {"_temp_dir": os.environ["RAY_TMPDIR"]} if os.environ.get("RAY_TMPDIR") else {}
    ray.init(num_cpus=order["slots"], include_dashboard=False, log_to_driver=False, **options)
    # The points as they are; what TPE would suggest after them is never asked for.
    space = {
        "optimizer.name": optuna.distributions.CategoricalDistribution(["adamw", "sgd"]),
        "optimizer.lr": optuna.distributions.FloatDistribution(1e-5, 1.0, log=True),
    }
    kept = [{key: point[key] for key in space} for point in points]
    tuner = tune.Tuner(
        tune.with_resources(
            functools.partial(train, splits=order["splits"], size=tuple(order["size"]), epochs=epochs), {"CPU": 1}
        ),
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
    told = [frame["seconds"].tolist() for frame in frames if frame is not None]
    Path(order["answer"]).write_text(json.dumps({"epochs": told, "errors": len(results.errors)}))
    ray.shutdown()


def ours(asked: argparse.Namespace, runs: Path) -> dict[str, Any]:
    """Runs our sweep; returns what it took, with the configurations of its search."""
    from sweep.journal import JOURNAL_FILE, read_events

    command = [
        sys.executable, "-m", "sweep.run", "--space", SPACE, "--models", MODEL, "--trials", str(asked.trials),
        "--max-epochs", str(asked.epochs), "--concurrent", str(asked.slots), "--set", f"image_size={asked.size}",
        "--set", f"batch_size={BATCH}", "--confirm", "0", "--wandb", "disabled", "--runs-dir", str(runs),
        "--name", "ours",
    ]  # fmt: skip
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    wall = time.monotonic() - started
    if done.returncode != 0:
        raise SystemExit(f"the sweep failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    events = read_events(runs / "ours" / JOURNAL_FILE)
    seconds = [event["seconds"] for event in events if event["event"] == "result"]
    spent = {
        "first trial": next(event["spent_s"] for event in events if event["event"] == "suggested"),
        "last epoch": max(event["spent_s"] for event in events if event["event"] == "result"),
        "closed": next(event["spent_s"] for event in events if event["event"] == "closed"),
    }
    points = [event["config"] for event in events if event["event"] == "suggested" and event["phase"] == "search"]
    return {"wall": wall, "seconds": seconds, "spent": spent, "points": points}


def beside(asked: argparse.Namespace, runs: Path, points: list[dict[str, Any]]) -> dict[str, Any]:
    """Runs the stock sweep of some configurations in a process of its own; returns what it took."""
    from sweep.schedulers import grace_epochs
    from trainables.data.splits.frozen import load_split

    answer = runs / "stock.json"
    order = {
        "points": points,
        "epochs": asked.epochs,
        "slots": asked.slots,
        "size": [int(side) for side in asked.size.split("x")],
        "grace": min(grace_epochs(asked.epochs), asked.epochs),
        "splits": {name: load_split(runs / "ours", name).ids for name in ("train", "val")},
        "folder": str(runs.resolve()),
        "answer": str(answer),
    }
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, __file__, "--order", "-"], input=json.dumps(order), capture_output=True, text=True
    )
    wall = time.monotonic() - started
    if done.returncode != 0 or not answer.is_file():
        raise SystemExit(f"the stock sweep failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    told = json.loads(answer.read_text())
    if told["errors"]:
        raise SystemExit(f"{told['errors']} trials of the stock sweep failed; see {runs / 'stock'}")
    return {"wall": wall, "seconds": [one for of_trial in told["epochs"] for one in of_trial]}


def show(name: str, took: dict[str, Any], slots: int) -> float:
    """Prints a row; returns the wall time per epoch."""
    inside, count = sum(took["seconds"]), len(took["seconds"])
    each = float(took["wall"]) / count
    efficiency = inside / (took["wall"] * slots)
    print(f"{name:<8} {took['wall']:>8.1f} {count:>8} {each:>16.2f} {inside / count:>16.2f} {efficiency:>12.2f}")
    return each


def main() -> None:
    """Runs both and prints the table."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--trials", type=int, default=6, metavar="N")
    flags.add_argument("--epochs", type=int, default=4, metavar="N")
    flags.add_argument("--slots", type=int, default=2, metavar="N")
    flags.add_argument("--size", default="96x128", metavar="HEIGHTxWIDTH")
    flags.add_argument("--runs", type=Path, help="where to keep both runs; default: a temporary folder")
    flags.add_argument("--order", help=argparse.SUPPRESS)
    asked = flags.parse_args()
    if asked.order:
        stock(json.loads(sys.stdin.read()))
        return
    with tempfile.TemporaryDirectory() as temporary:
        runs = asked.runs or Path(temporary)
        runs.mkdir(parents=True, exist_ok=True)
        own = ours(asked, runs)
        other = beside(asked, runs, own["points"])
        print(f"{'':<8} {'wall, s':>8} {'epochs':>8} {'wall per epoch':>16} {'epoch itself, s':>16} {'efficiency':>12}")
        ratio = show("ours", own, asked.slots) / show("stock", other, asked.slots)
        print(f"wall per trained epoch, ours to stock: {ratio:.2f}")
        spent = own["spent"]
        print(
            f"ours: first trial after {spent['first trial']:.1f} s, last epoch at {spent['last epoch']:.1f} s, report "
            f"on val and end {spent['closed'] - spent['last epoch']:.1f} s more"
        )


if __name__ == "__main__":
    main()
