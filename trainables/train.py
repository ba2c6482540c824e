"""`python -m trainables.train`: trains one configuration without Ray, for debugging and for a final long fit."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from trainables import commands, plugins, shared_memory
from trainables.allocator import keep_freed_memory
from trainables.checkpoint import CHECKPOINTS, TRIAL_FILE, latest_checkpoint, publish, read_record
from trainables.config import TrialConfig, check_keys, format_size
from trainables.data import DATASETS
from trainables.data.base import SegmentationData, Splits
from trainables.data.cache.decoded import DataCaches
from trainables.data.check import check
from trainables.data.flags import add_data_flags
from trainables.data.reading.names import expanded
from trainables.data.splits.frozen import SPLITS_FILE, changed_parts, load_split, load_test_split, split_hash
from trainables.data.splits.given import make_splits
from trainables.data.splits.stratified import like_before
from trainables.data.usual_size import usual_size
from trainables.errors import CheckpointError, DataError, SegsweepError, UsageError
from trainables.execution import Execution, TrialData
from trainables.files import write_json
from trainables.flags import (
    add_execution_flags,
    add_tile_flag,
    command_parser,
    default_precision,
    default_workers,
    tile_settings,
)
from trainables.guarded import guarded
from trainables.limits import check_file
from trainables.metrics import METRICS
from trainables.models import ensure_weights, refusal
from trainables.options import CROP
from trainables.overfit import overfit_batch
from trainables.paths import UnsafePathError, refuse_links
from trainables.run_folder import MANIFEST_FILE
from trainables.trial import Trial

DATA_FILE = "data.json"
"""Beside the checkpoints: which images they were trained on, so that going on with others is refused."""
SHOWN = ("iou", "pixel_accuracy")
"""The metrics of val that are printed after each epoch."""


def parser() -> argparse.ArgumentParser:
    """The flags."""
    p = command_parser(
        "trainables.train",
        "Train one configuration without Ray. Run it again to go on where it was interrupted.",
        epilog="The model is in OUT/model/. Exit codes: 0 done, 1 failed, 2 bad usage.",
    )
    add_data_flags(p.add_argument_group("on which images (default: those of --trial, else scenes)"))
    p.set_defaults(data=None)
    plugins.add_flag(p)
    p.add_argument("--epochs", type=int, metavar="N", help="default: those of --trial, else 10")
    p.add_argument(
        "--trial", type=expanded, metavar="TRIAL.json", help="begin with the configuration of a best/LABEL/trial.json"
    )
    p.add_argument(
        "--set", dest="pairs", action="append", default=[], metavar="KEY=VALUE", help="such as optimizer.lr=0.01"
    )
    add_tile_flag(p)
    p.add_argument(
        "--overfit-batch",
        nargs="?",
        const=100,
        type=int,
        metavar="STEPS",
        help="only check whether one batch can be memorised (100 steps by default); nothing is kept",
    )
    p.add_argument(
        "--out", type=expanded, default=Path("trained"), metavar="DIR", help="where to keep it (default: trained)"
    )
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    p.add_argument("--gpus", type=int, default=1, metavar="N", help="that train it together (default: 1)")
    p.add_argument("--threads", type=int, default=torch.get_num_threads(), metavar="N", help="CPU threads of torch")
    add_execution_flags(p.add_argument_group("how it is executed"))
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains, prints one line per epoch, and leaves the model in the folder asked for."""
    return guarded(
        lambda: _train(arguments), interrupted="\ninterrupted; the same command goes on", elsewhere="--out DIR"
    )


def _train(arguments: Sequence[str] | None) -> int:
    plugins.load_given(arguments)
    asked = parser().parse_args(arguments)
    if asked.overfit_batch is not None and asked.overfit_batch < 1:
        raise UsageError(f"--overfit-batch {asked.overfit_batch}: give it at least 1 step, or none for 100")
    _check_device(asked.device, asked.gpus)
    if asked.gpus > 1 and asked.overfit_batch is not None:
        raise UsageError(f"--gpus {asked.gpus}: --overfit-batch needs one GPU, leave it out")
    keep_freed_memory()
    if asked.overfit_batch is None:
        _check_out(asked.out)
    trial = None if asked.trial is None else _read_trial(asked.trial)
    values = _asked_for(asked, trial)
    if asked.data is not None:
        DATASETS.get(asked.data)
    model = TrialConfig.from_flat({"image_size": "96x128", **values}).model  # faults of usage come before any file
    if why := refusal(model.name, str(model.params["weights"])):
        raise UsageError(f"model {model.name}: {why}")
    if trial is None and asked.overfit_batch is None:
        values = {**_inputs_before(asked.out), **values}
    execution = Execution(
        device=asked.device,
        threads=asked.threads,
        workers=default_workers(asked.device) if asked.workers is None else asked.workers,
        precision=asked.precision or default_precision(asked.device),
        channels_last=asked.channels_last,
        compile=asked.compile,
        cache_bytes=asked.cache_limit,
        ranks=asked.gpus,
    )
    if told := shared_memory.note(execution.workers):
        print(told, file=sys.stderr)
    data, splits = _chosen_data(asked, trial)
    usual: dict[str, object] = {} if trial is not None else {"resize": CROP}
    if "image_size" not in values:
        usual["image_size"] = format_size(usual_size(data).size)
    config = TrialConfig.from_flat({**usual, **values})
    checked = check(data, splits)
    checked.raise_for_errors()
    for one in checked.warning_paragraphs:
        print(f"warning {one.line}", file=sys.stderr)
    ensure_weights(config.model.name, str(config.model.params["weights"]))
    print(f"{config.model.name} on {data.name}: {len(splits.train)} train, {len(splits.val)} val images")
    print(f"policy {config.augment.describe()}")
    trial_data = TrialData(data, splits.train, splits.val)
    caches = _decoded(trial_data, config, execution)
    name = asked.out.resolve().name
    built = Trial(config, trial_data, trial_id=name, execution=execution, caches=caches)
    if asked.overfit_batch is not None:
        return _overfit(built, asked.overfit_batch)
    hashes = {part: split_hash(getattr(splits, part), checked.hashes) for part in ("train", "val")}
    embedded = asked.data_root is None and (asked.data is not None or trial is None or trial.data["root"] is None)
    root = None if embedded else str(data.root)
    return _fit(built, asked.out, {"name": data.name, "root": root, "splits": hashes})


@dataclass(frozen=True)
class _Origin:
    """What a `trial.json` says: the configuration and, where it does, the classes and the images it was trained on."""

    path: Path
    config: Mapping[str, object]
    classes: Sequence[str]
    data: Mapping[str, Any]


def _read_trial(path: Path) -> _Origin:
    """Reads a `best/LABEL/trial.json`; its data from the run around it where it does not say (old versions)."""
    check_file(path, what="record of a trial")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        plugins.load_used(content.get("plugins", ()))
        config = dict(content["config"])
        classes = [str(info["name"]) for info in content.get("classes", ())]
        data = _data_said(content.get("data") or _data_of_run(path))
    except OSError as error:
        raise UsageError(f"--trial {path} cannot be read: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"--trial {path} is not a best/LABEL/trial.json of a sweep") from error
    return _Origin(path, config, classes, data)


def _data_said(told: Any) -> dict[str, Any]:
    """Name, root and split hashes of the images, or nothing; raises what a wrong shape raises."""
    if not told:
        return {}
    name, root, splits = told["name"], told["root"], dict(told["splits"])
    texts = [name, *([] if root is None else [root]), splits["train"], splits["val"]]
    if not all(isinstance(text, str) for text in texts) or len(splits) != 2:
        raise ValueError("its data are not described by name, root and the hashes of train and val")
    return {"name": name, "root": root, "splits": splits}


def _data_of_run(path: Path) -> dict[str, Any]:
    """What the manifest of the run around a `trial.json` says of its data; nothing where there is none."""
    manifest = _run_around(path) / MANIFEST_FILE
    check_file(manifest, what="manifest")
    try:
        told = json.loads(manifest.read_text(encoding="utf-8"))["data"]
        hashes = {part: told["splits"][part]["hash"] for part in ("train", "val")}
        return {"name": told["name"], "root": told["root"], "splits": hashes}
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return {}


def _run_around(path: Path) -> Path:
    """The run folder that a `best/LABEL/trial.json` is in, if it is in one."""
    return path.resolve().parent.parent.parent


def _chosen_data(asked: argparse.Namespace, trial: _Origin | None) -> tuple[SegmentationData, Splits]:
    """The images that the flags name; without `--data`, those that `--trial` was trained on.

    Raises:
        UsageError: If the trial does not say which, or they are not the same any more.
    """
    if asked.data is not None or trial is None:
        data = DATASETS.get(asked.data or "scenes")(root=asked.data_root, download=asked.download)
        return data, _drawn(data, asked, _splits_before(asked.out))
    if not trial.data:
        raise UsageError(
            f"--trial {asked.trial} does not say which images it was trained on, and no run folder is around it: name "
            "them with --data and --data-root"
        )
    root = asked.data_root or trial.data["root"]
    if root is not None and not Path(root).is_dir():
        raise DataError(
            f"the images of --trial {trial.path} (data set {trial.data['name']}) are not at {root}: give their new "
            "place with --data-root; their content is compared"
        )
    data = DATASETS.get(trial.data["name"])(root=None if root is None else Path(root), download=asked.download)
    if [info.name for info in data.classes] != list(trial.classes):
        raise _other_data(trial.path, data, "its classes are others")
    if asked.splits is not None or asked.group_by is not None:
        return data, _drawn(data, asked, _splits_before(asked.out))
    run_dir = _run_around(trial.path)
    if (run_dir / SPLITS_FILE).is_file():
        frozen = [load_split(run_dir, "train"), load_split(run_dir, "val"), load_test_split(run_dir)]
        groups = {i: group for split in frozen for i, group in zip(split.ids, split.groups, strict=True) if group}
        train, val, test = (split.ids for split in frozen)
        splits = Splits(train, val, test, origin=f"those of {run_dir}", groups=groups)
    else:
        splits = _drawn(data, asked, trial.data["splits"])
    if changed := changed_parts(data, splits, trial.data["splits"]):
        raise _other_data(trial.path, data, f"the {changed[0]} split is another one, or its files changed")
    return data, splits


def _drawn(data: SegmentationData, asked: argparse.Namespace, before: Mapping[str, str]) -> Splits:
    """The splits that the flags make, by the rule by which those of before were drawn (their hashes)."""
    return like_before(
        lambda: make_splits(data, splits=asked.splits, group_by=asked.group_by, seed=0),
        lambda splits: not changed_parts(data, splits, before),
    )


def _other_data(trial: Path, data: SegmentationData, why: str) -> UsageError:
    return UsageError(
        f"{data.root} does not hold what --trial {trial} was trained on: {why}\n"
        "give the place of the same images (--data-root), or say that it should be trained on others: "
        f"--data {data.name} --data-root DIR, with --splits where they are given"
    )


def _decoded(data: TrialData, config: TrialConfig, execution: Execution) -> DataCaches:
    """The images decoded once for this run and later ones; says how much there is before it begins."""
    caches = DataCaches()
    limit = execution.cache_bytes
    cache = caches.get(data.data, config.image_size, limit_bytes=limit, resize=config.resize)
    print(cache.plan(data.train, data.val))
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("decoding the images", total=None)
        cache.build(data.train, data.val, progress=lambda done, total: bar.update(task, completed=done, total=total))
    return caches


def _check_device(name: str, gpus: int) -> None:
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {name}: must be cpu or cuda")
    found = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= found:
        raise UsageError(f"--device {name}: torch {torch.__version__} finds {found} GPUs here; take --device cpu")
    if not 1 <= gpus <= (found if name == "cuda" else 1):
        raise UsageError(f"--gpus {gpus}: torch finds {found} GPUs here, and --device {name} was asked for")


def _asked_for(asked: argparse.Namespace, trial: _Origin | None) -> dict[str, object]:
    """The configuration's flat keys."""
    values: dict[str, object] = {"epochs": 10} if trial is None else dict(trial.config)
    if asked.epochs is not None:
        values["epochs"] = asked.epochs
    set_: dict[str, object] = {}
    for pair in asked.pairs:
        key, sign, value = pair.partition("=")
        if not sign:
            raise UsageError(f"--set {pair}: write KEY=VALUE")
        check_keys([key])
        set_[key] = value
    values |= set_ | (tile_settings(asked.tile, set_) if asked.tile is not None else {})
    return values


def _inputs_before(out: Path) -> dict[str, object]:
    """Size of the input and how images come to it, as of the training that was begun in a folder; else nothing."""
    before = latest_checkpoint(out / CHECKPOINTS)
    flat = {} if before is None else read_record(before).config.flat()
    return {key: flat[key] for key in ("image_size", "resize") if key in flat}


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
        f"does not memorise one batch: {fell} in {steps} steps, {right}\n"
        f"look at the masks ({commands.preview()} shows them over the images), try optimizer.lr ten times "
        "higher and lower, or give it more steps"
    )


def _fit(trial: Trial, out: Path, data: Mapping[str, Any]) -> int:
    """Trains to the full budget, or goes on where it was interrupted; `data` is kept beside the model."""
    folder = out / CHECKPOINTS
    epochs = trial.config.epochs
    _compare_data(out, data)
    before = latest_checkpoint(folder)
    trained = read_record(before) if before is not None else trial.record()
    finished = trained.epochs >= epochs
    if finished and ((out / "model").exists() or trained.config != trial.config):
        raise UsageError(f"{folder} holds {trained.epochs} epochs already: give another --out")
    if before is not None and not finished:
        trial.restore(before)
        print(f"goes on after epoch {trial.epoch}")
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / DATA_FILE, dict(data))
    while not (finished or trial.done):  # finished but not published: interrupted between the two
        entry = trial.run_epoch()
        trial.save(folder)
        metrics = entry["metrics"]
        told = "  ".join(f"{one.words} {one.show(metrics[one.key])}" for one in map(METRICS.get, SHOWN) if one.key)
        print(
            f"epoch {entry['epoch']}/{epochs}  loss {metrics['train/loss']:.4f}  val {told}  {entry['seconds']:.1f} s",
            flush=True,
        )
    done = latest_checkpoint(folder)
    if done is None:
        raise SegsweepError(f"{folder} lost its checkpoint while training ended; run the command again")
    publish(done, out / "model", label=trial.trial_id, data=data)
    print(f"model: {out / 'model'}")
    return 0


def _check_out(out: Path) -> None:
    """Refuses a folder that training would write into although it holds what somebody else put there.

    Raises:
        UsageError: If it is neither empty nor one that this command made.
    """
    try:
        refuse_links(out)
    except UnsafePathError as error:
        raise UsageError(f"--out {out}: {error}") from error
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.is_dir():
        try:
            ours = set(json.loads((out / DATA_FILE).read_bytes())) == {"name", "root", "splits"}
        except (OSError, ValueError, TypeError):
            ours = latest_checkpoint(out / CHECKPOINTS) is not None  # of a version that kept no data.json
        if ours and (not (out / "model").exists() or (out / "model" / TRIAL_FILE).is_file()):
            return
    if os.path.lexists(out):
        raise UsageError(f"--out {out} is there already and was not made by this command: give another --out")


def _compare_data(out: Path, data: Mapping[str, Any]) -> None:
    """Refuses to go on with other images than those that training began with.

    Raises:
        CheckpointError: If they changed.
    """
    before = _splits_before(out)
    changed = [part for part, digest in data["splits"].items() if before and before.get(part) != digest]
    if changed:
        raise CheckpointError(
            f"{out} was trained on other images: {' and '.join(changed)} changed since; restore them, or give another "
            "--out"
        )


def _splits_before(out: Path) -> dict[str, str]:
    """The hashes of the splits of a training that was begun in a folder; empty where there is none."""
    try:
        told = json.loads((out / DATA_FILE).read_bytes())["splits"]
        return {part: told[part] for part in ("train", "val")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


if __name__ == "__main__":
    sys.exit(main())
