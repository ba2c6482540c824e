"""Training steps and validated images per second, against a bare loop.

    python benchmarks/training_step.py [DATA_ROOT] [--models A,B] [--size HxW] [--batch N] [--steps N] [--rounds N]
                                       [--device cuda] [--precision bf16] [--workers N] [--only validation]
                                       [--set KEY=VALUE] [--cpu-seconds] [--returns-memory]

DATA_ROOT holds VOCdevkit. Ours is a trial as a sweep runs it: decoded cache (warm), policy `geometric`, loader, loss,
schedule, update. The rival is the shortest loop there is - forward, cross-entropy, backward, step - on one batch that
lies in memory from the start, with the same model, size, precision, memory layout and optimizer. Validation (confusion
matrix at the masks' own sizes) is compared with the forward pass alone. Ratio 1.00: as fast as that.

Trials keep the memory that a step frees for the next (`trainables/allocator.py`), and so does the whole process here,
unless `--returns-memory` leaves glibc as it is. `--cpu-seconds` counts the process's CPU time, which neighbours on a
busy machine hardly change.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import torch
from paired import compare, machine
from torch.nn import functional

from trainables.allocator import keep_freed_memory
from trainables.config import TrialConfig
from trainables.data import DATASETS
from trainables.data.base import VOID
from trainables.data.check import check
from trainables.execution import Execution, TrialData
from trainables.loops import evaluate, to_input, train_one_epoch
from trainables.metrics import ConfusionMatrix
from trainables.trial import Trial
from trainables.updates import autocast


def bare_steps(trial: Trial, steps: int) -> Callable[[], None]:
    """The rival: `steps` steps of a copy of the trial's model on one batch in memory."""
    model = copy.deepcopy(trial.model).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    batch = next(iter(trial.train_loader))
    images = to_input(batch.images, model.normalisation, trial.device, channels_last=trial.applied["channels_last"])
    masks = batch.masks.to(trial.device).long()
    weight = model.aux_weight

    def run() -> None:
        for _ in range(steps):
            with autocast(trial.device.type, trial.updater.dtype):
                outputs = model(images)
                loss = functional.cross_entropy(outputs["out"].float(), masks, ignore_index=VOID)
                if "aux" in outputs:
                    loss = loss + weight * functional.cross_entropy(outputs["aux"].float(), masks, ignore_index=VOID)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return run


def our_steps(trial: Trial, steps: int) -> Callable[[], None]:
    """`steps` steps of the trial, epoch after epoch of its loader."""
    epochs = itertools.count(1)

    def batches() -> object:
        for epoch in epochs:
            trial.batches.epoch = epoch
            yield from trial.train_loader

    stream = batches()

    def run() -> None:
        trial.updater.done = 0
        train_one_epoch(
            trial.model,
            itertools.islice(stream, steps),  # type: ignore[call-overload]
            loss=trial.loss,
            updater=trial.updater,
            aux_weight=trial.model.aux_weight,
            normalisation=trial.model.normalisation,
            device=trial.device,
        )

    return run


def forward_alone(trial: Trial, batches: int) -> Callable[[], None]:
    """The rival of validation: `batches` forward passes on one batch in memory."""
    batch = next(iter(trial.val_loader))
    layout = trial.applied["channels_last"]
    images = to_input(batch.images, trial.model.normalisation, trial.device, channels_last=layout)

    @torch.inference_mode()
    def run() -> None:
        trial.model.eval()
        for _ in range(batches):
            with autocast(trial.device.type, trial.updater.dtype):
                trial.model(images)

    return run


def validation(trial: Trial) -> Callable[[], None]:
    """Ours: the whole val split into a confusion matrix."""

    def run() -> None:
        matrix = ConfusionMatrix(len(trial.data.data.classes))
        evaluate(trial.model, trial.val_loader, [matrix], device=trial.device, precision=trial.precision)

    return run


def main() -> None:
    """Prints one line per model for training and one for validation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", type=Path, default=Path("../shared/data"))
    parser.add_argument("--models", default="lraspp_mobilenet_v3_large,fcn_resnet50")
    parser.add_argument("--size", default="480x480")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--set", dest="set_", action="append", default=[], metavar="KEY=VALUE", help="of the trial")
    parser.add_argument("--cpu-seconds", action="store_true", help="count CPU time, not wall time")
    parser.add_argument("--returns-memory", action="store_true", help="leave the allocator as it is")
    parser.add_argument("--only", choices=("training", "validation"))
    asked = parser.parse_args()
    if not asked.returns_memory:
        keep_freed_memory()
    clock = time.process_time if asked.cpu_seconds else time.perf_counter
    data = DATASETS.get("voc2012")(root=asked.root)
    splits = data.splits()
    check(data, splits).raise_for_errors()
    batches = min(asked.steps, len(splits.val) // asked.batch)
    val = splits.val[: asked.batch * batches]
    execution = Execution(device=asked.device, threads=asked.threads, workers=asked.workers, precision=asked.precision)
    torch.set_num_threads(asked.threads)
    print(machine(asked.device))
    print(f"{asked.size}, batches of {asked.batch}, {asked.precision}, channels last, {asked.workers} loader processes")
    for name in asked.models.split(","):
        config = TrialConfig.from_flat(
            {"model.name": name, "image_size": asked.size, "batch_size": asked.batch, "epochs": 1000}
            | {"augment.policy": "geometric", "optimizer.lr": 1e-4, "schedule.name": "constant"}
            | dict(pair.split("=", 1) for pair in asked.set_)
        )
        trial = Trial(config, TrialData(data, splits.train, val), execution=execution)
        for what, images, ours, rival in (
            ("training", asked.batch * asked.steps, our_steps(trial, asked.steps), bare_steps(trial, asked.steps)),
            ("validation", len(val), validation(trial), forward_alone(trial, batches)),
        ):
            if asked.only not in (None, what):
                continue
            mine, other, ratio = compare(ours, rival, rounds=asked.rounds, device=asked.device, clock=clock)
            print(
                f"{name:28s} {what:10s} ours {images / mine:8.2f} images/s   bare {images / other:8.2f}   "
                f"ratio {ratio:.3f}   {mine / images:.4f} s an image",
                flush=True,
            )
        if asked.device.startswith("cuda"):
            print(f"{name:28s} memory     {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB at most")
            torch.cuda.reset_peak_memory_stats()


if __name__ == "__main__":
    main()
