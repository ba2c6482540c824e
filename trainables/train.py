"""`python -m trainables.train`: trains one configuration without Ray, for debugging and for a final long fit."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress

from trainables.checkpoint import CHECKPOINTS, latest_checkpoint, publish, read_record
from trainables.config import TrialConfig, check_keys, format_size
from trainables.data import DATASETS
from trainables.data.check import check
from trainables.data.flags import add_data_flags
from trainables.data.given_splits import make_splits
from trainables.errors import SegsweepError, UsageError
from trainables.flags import add_execution_flags, default_precision, default_workers
from trainables.models import ensure_weights
from trainables.overfit import overfit_batch
from trainables.trial import DataCaches, Execution, Trial, TrialData


def parser() -> argparse.ArgumentParser:
    """The flags."""
    p = argparse.ArgumentParser(
        prog="python -m trainables.train",
        description="Train one configuration without Ray. Run it again to go on where it was interrupted.",
        epilog="The model is in OUT/model/. Exit codes: 0 done, 1 failed, 2 bad usage.",
    )
    add_data_flags(p.add_argument_group("on which images"))
    p.add_argument("--epochs", type=int, metavar="N", help="default: those of --trial, else 10")
    p.add_argument(
        "--trial", type=Path, metavar="TRIAL.json", help="begin with the configuration of a best/LABEL/trial.json"
    )
    p.add_argument(
        "--set", dest="pairs", action="append", default=[], metavar="KEY=VALUE", help="such as optimizer.lr=0.01"
    )
    p.add_argument(
        "--overfit-batch",
        nargs="?",
        const=100,
        type=int,
        metavar="STEPS",
        help="only see whether one batch can be learnt by heart (100 steps where none are given); nothing is kept",
    )
    p.add_argument(
        "--out", type=Path, default=Path("trained"), metavar="DIR", help="where to keep it (default: trained)"
    )
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    p.add_argument("--threads", type=int, default=torch.get_num_threads(), metavar="N", help="of torch on the CPU")
    add_execution_flags(p.add_argument_group("how it is executed"))
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains, prints a line an epoch, and leaves the model in the folder asked for."""
    asked = parser().parse_args(arguments)
    try:
        return _train(asked)
    except SegsweepError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on", file=sys.stderr)
        return 130


def _train(asked: argparse.Namespace) -> int:
    if asked.overfit_batch is not None and asked.overfit_batch < 1:
        raise UsageError(f"--overfit-batch {asked.overfit_batch}: give it at least 1 step, or none for 100")
    _check_device(asked.device)
    values = _asked_for(asked)
    factory = DATASETS.get(asked.data)
    TrialConfig.from_flat({"image_size": "96x128", **values})  # faults of usage come before any file is read
    execution = Execution(
        device=asked.device,
        threads=asked.threads,
        workers=default_workers(asked.device) if asked.workers is None else asked.workers,
        precision=asked.precision or default_precision(asked.device),
        channels_last=asked.channels_last,
        compile=asked.compile,
        cache_bytes=asked.cache_limit,
    )
    data = factory(root=asked.data_root, download=asked.download)
    config = TrialConfig.from_flat({"image_size": format_size(data.default_image_size), **values})
    splits = make_splits(data, splits=asked.splits, group_by=asked.group_by, seed=0)
    check(data, splits).raise_for_errors()
    ensure_weights(config.model.name, str(config.model.params["weights"]))
    print(f"{config.model.name} on {data.name}: {len(splits.train)} train, {len(splits.val)} val images")
    print(f"policy {config.augment.describe()}")
    trial_data = TrialData(data, splits.train, splits.val)
    caches = _decoded(trial_data, config.image_size, execution)
    trial = Trial(config, trial_data, trial_id=asked.out.name, execution=execution, caches=caches)
    return _overfit(trial, asked.overfit_batch) if asked.overfit_batch is not None else _fit(trial, asked.out)


def _decoded(data: TrialData, size: tuple[int, int], execution: Execution) -> DataCaches:
    """The images decoded once for this run and later ones; says how much there is before it begins."""
    caches = DataCaches()
    cache = caches.get(data.data, size, limit_bytes=execution.cache_bytes)
    print(cache.plan(data.train, data.val))
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("decoding the images", total=None)
        cache.build(data.train, data.val, progress=lambda done, total: bar.update(task, completed=done, total=total))
    return caches


def _check_device(name: str) -> None:
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {name}: must be cpu or cuda")
    found = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= found:
        raise UsageError(f"--device {name}: torch {torch.__version__} finds {found} GPUs here; take --device cpu")


def _asked_for(asked: argparse.Namespace) -> dict[str, object]:
    """The configuration's flat keys."""
    values: dict[str, object] = {"epochs": 10}
    if asked.trial is not None:
        try:
            values.update(json.loads(asked.trial.read_text(encoding="utf-8"))["config"])
        except OSError as error:
            raise UsageError(f"--trial {asked.trial} cannot be read: {error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"--trial {asked.trial} is no best/LABEL/trial.json of a sweep") from error
    if asked.epochs is not None:
        values["epochs"] = asked.epochs
    for pair in asked.pairs:
        key, sign, value = pair.partition("=")
        if not sign:
            raise UsageError(f"--set {pair}: write KEY=VALUE")
        check_keys([key])
        values[key] = value
    return values


def _overfit(trial: Trial, steps: int) -> int:
    """Shows whether one batch can be learnt; 0 if it can."""

    def report(step: int, loss: float) -> None:
        if step == 1 or step % 10 == 0 or step == steps:
            print(f"step {step}/{steps}  loss {loss:.4f}", flush=True)

    outcome = overfit_batch(trial, steps=steps, report=report)
    fell = f"the loss fell from {outcome.first:.4f} to {outcome.last:.4f}"
    right = f"{outcome.accuracy:.1%} of the batch's pixels are right"
    if outcome.learned:
        print(f"learns: {fell}, {right}")
        return 0
    raise SegsweepError(
        f"does not learn one batch by heart: {fell} in {steps} steps, {right}\n"
        "look at the masks (python -m search_spaces.preview shows them over the images), try optimizer.lr ten times "
        "higher and lower, or give it more steps"
    )


def _fit(trial: Trial, out: Path) -> int:
    """Trains to the full budget, or goes on where it was interrupted."""
    folder = out / CHECKPOINTS
    epochs = trial.config.epochs
    before = latest_checkpoint(folder)
    trained = read_record(before) if before is not None else trial.record()
    finished = trained.epochs >= epochs
    if finished and ((out / "model").exists() or trained.config != trial.config):
        raise UsageError(f"{folder} holds {trained.epochs} epochs already: give another --out")
    if before is not None and not finished:
        trial.restore(before)
        print(f"goes on after epoch {trial.epoch}")
    while not (finished or trial.done):  # finished but not published: interrupted between the two
        entry = trial.run_epoch()
        trial.save(folder)
        metrics = entry["metrics"]
        print(
            f"epoch {entry['epoch']}/{epochs}  loss {metrics['train/loss']:.4f}  "
            f"val mIoU {metrics['val/miou']:.4f}  pixel accuracy {metrics['val/pixel_accuracy']:.4f}  "
            f"{entry['seconds']:.1f} s",
            flush=True,
        )
    done = latest_checkpoint(folder)
    if done is None:
        raise SegsweepError(f"{folder} lost its checkpoint while training ended; run the command again")
    publish(done, out / "model", label=out.name)
    print(f"model: {out / 'model'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
