"""`python -m trainables.train`: trains one configuration without Ray, for debugging and for a final long fit."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from trainables.checkpoint import latest_checkpoint, publish, read_record
from trainables.config import TrialConfig, check_keys, format_size
from trainables.data import DATASETS
from trainables.data.check import check
from trainables.errors import SegsweepError, UsageError
from trainables.models import ensure_weights
from trainables.trial import Execution, Trial, TrialData


def parser() -> argparse.ArgumentParser:
    """The flags."""
    p = argparse.ArgumentParser(
        prog="python -m trainables.train",
        description="Train one configuration without Ray. Run it again to go on where it was interrupted.",
        epilog="The model is in OUT/model/. Exit codes: 0 done, 1 failed, 2 bad usage.",
    )
    p.add_argument("--data", default="scenes", metavar="NAME", help=f"{', '.join(DATASETS)} (default: scenes)")
    p.add_argument("--data-root", type=Path, metavar="DIR", help="where the images are")
    p.add_argument("--download", action="store_true", help="let torchvision fetch the data set where it can")
    p.add_argument("--epochs", type=int, default=10, metavar="N", help="default: 10")
    p.add_argument(
        "--trial", type=Path, metavar="TRIAL.json", help="begin with the configuration of a best/LABEL/trial.json"
    )
    p.add_argument(
        "--set", dest="pairs", action="append", default=[], metavar="KEY=VALUE", help="such as optimizer.lr=0.01"
    )
    p.add_argument(
        "--out", type=Path, default=Path("trained"), metavar="DIR", help="where to keep it (default: trained)"
    )
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    p.add_argument("--threads", type=int, default=torch.get_num_threads(), metavar="N", help="of torch on the CPU")
    p.add_argument("--workers", type=int, default=0, metavar="N", help="loader processes (default: 0)")
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
    values: dict[str, object] = {}
    if asked.trial is not None:
        try:
            values.update(json.loads(asked.trial.read_text(encoding="utf-8"))["config"])
        except (OSError, ValueError, KeyError) as error:
            raise UsageError(f"--trial {asked.trial} cannot be read: {error}") from error
    values["epochs"] = asked.epochs
    for pair in asked.pairs:
        key, sign, value = pair.partition("=")
        if not sign:
            raise UsageError(f"--set {pair}: write KEY=VALUE")
        check_keys([key])
        values[key] = value
    factory = DATASETS.get(asked.data)
    TrialConfig.from_flat({"image_size": "96x128", **values})  # faults of usage come before any file is read
    data = factory(root=asked.data_root, download=asked.download)
    config = TrialConfig.from_flat({"image_size": format_size(data.default_image_size), **values})
    splits = data.splits()
    check(data, splits).raise_for_errors()
    ensure_weights(config.model.name, str(config.model.params["weights"]))
    trial = Trial(
        config,
        TrialData(data, splits.train, splits.val),
        trial_id=asked.out.name,
        execution=Execution(device=asked.device, threads=asked.threads, workers=asked.workers),
    )
    folder = asked.out / "checkpoints"
    before = latest_checkpoint(folder)
    if before is not None and read_record(before).epochs >= config.epochs:
        raise UsageError(f"{folder} holds {read_record(before).epochs} epochs already: give another --out")
    if before is not None:
        trial.restore(before)
        print(f"goes on after epoch {trial.epoch}")
    print(f"{config.model.name} on {data.name}: {len(splits.train)} train, {len(splits.val)} val images")
    print(f"policy {config.augment.describe()}")
    while not trial.done:
        entry = trial.run_epoch()
        trial.save(folder)
        metrics = entry["metrics"]
        print(
            f"epoch {entry['epoch']}/{config.epochs}  loss {metrics['train/loss']:.4f}  "
            f"val mIoU {metrics['val/miou']:.4f}  pixel accuracy {metrics['val/pixel_accuracy']:.4f}  "
            f"{entry['seconds']:.1f} s",
            flush=True,
        )
    done = latest_checkpoint(folder)
    if done is None:
        raise SegsweepError(f"{folder} lost its checkpoint while training ended; run the command again")
    publish(done, asked.out / "model", label=asked.out.name)
    print(f"model: {asked.out / 'model'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
