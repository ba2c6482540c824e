"""What an evaluation costs: beside forward alone, beside TorchMetrics, and in memory.

    python -m benchmarks.evaluation DATA_ROOT [--only forward,torchmetrics,memory] [--rounds 3]
                                    [--images 125,250] [--out FILE]

DATA_ROOT holds VOCdevkit. One thread; CPU time, both sides in turn, the median of the rounds.

forward: ours is all that a report computes of a checkpoint's images - decoding, forward, logits at the mask's own size,
every collector, what is kept, then failing regions, components, types of error and factors, and the value of every
metric; without intervals and effects, which are computed from what is kept, once for a split. The rival is the forward
pass alone on batches that lie in memory. VOC at the size (384x384) and batch (8) that sweeps use by default.

torchmetrics: the figures of pixels (accuracy, IoU, F1, precision, recall, AP) and of regions (precision, recall, F1, AP
at 11 thresholds) from the same logits and predictions in memory. The rival is TorchMetrics as its documentation makes
it fast: a collection whose metrics share their states (`compute_groups`), no validation of arguments, counts of every
image in one call (`multidim_average="samplewise"`), exact AP, which on these sizes is faster than many thresholds. What
it has no metric for is plain torch: the confidence of regions, the envelope of VOC's AP.

memory: the same work on made-up images of 480x640 pixels and 20 classes, and intervals, a process for each number of
images; the model is a 1x1 convolution. Most resident memory of the whole process in each stage, what the stage before
had freed given back; each stage has its own slope. Tables of failures and effects of factors are made for all 10,000
images, from the failures of 40 that are copied; scores and intervals for all 10,000, too, from counts that are made
up. The largest of these counts.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn

from analysis import comparison
from analysis.failures.checkpoints import measure_checkpoints
from analysis.failures.kinds import class_kinds
from analysis.failures.measure import failures_frame
from analysis.failures.reasons import curve_frame, factor_frame
from analysis.failures.split import (
    SplitFailures,
    class_type_frame,
    component_frame,
    image_type_frame,
    measure_image,
    region_entries,
    type_frame,
)
from analysis.kept import Evaluation, NewEvaluation, key_of_weights
from analysis.scores import score_labels, score_statistic
from benchmarks.figures import Values, our_figures, predicted_images, torchmetrics_figures
from benchmarks.made_up import MadeUp, NearestColor, keep_made_up_counts
from benchmarks.paired import compare, machine
from trainables.data import DATASETS
from trainables.data.base import VOID, SegmentationData
from trainables.data.splits.frozen import Split
from trainables.loaders import EvaluationLoader, Normalisation, evaluation_loader
from trainables.loops import evaluate, to_input
from trainables.models import build_model

FORWARD_GOAL, TORCHMETRICS_GOAL, MEMORY_GOAL, MEMORY_IMAGES = 1.3, 5.0, 3 * 2**30, 10_000
MODELS = {"fcn_resnet50": 8, "lraspp_mobilenet_v3_large": 32}
"""And how many images each is measured on."""
BATCH = 8
TORCHMETRICS_IMAGES = 8
REPEATED = 40
"""Images whose failures are copied."""
PARTS = ("forward", "torchmetrics", "memory")


def one_pass(
    model: nn.Module, loader: EvaluationLoader, data: SegmentationData, split: Split, folder: Path
) -> tuple[Evaluation, dict[str, SplitFailures]]:
    """What a report computes of a checkpoint's images: its kept evaluation, and what went wrong on each."""
    with NewEvaluation(folder, len(data.classes), folder.name, split, None) as new:
        evaluate(model, loader, [new])
        kept = new.keep(key_of_weights("0" * 64, "any", split), {"ms": None})
    return kept, failures_of(kept, data)


def failures_of(kept: Evaluation, data: SegmentationData) -> dict[str, SplitFailures]:
    """What went wrong on each image of a kept evaluation."""
    kinds = class_kinds([info.name for info in data.classes])
    return measure_checkpoints({"one": kept.trial_id}, {kept.trial_id: kept}, data, kinds, iou_limit=0.5)


def split_of(ids: Sequence[str]) -> Split:
    """A split of these images."""
    return Split("val", tuple(ids), (None,) * len(ids), "0" * 64)


def compare_with_forward(root: Path, rounds: int, tell: Callable[[str], None]) -> None:
    """Prints a row for each model."""
    data = DATASETS.get("voc2012")(root=root)
    tell(f"{'':<28}{'images':>7}{'forward alone':>15}{'everything':>12}{'ratio':>7}   goal {FORWARD_GOAL}")
    for name, images in MODELS.items():
        split = split_of(list(data.ids())[:: len(data.ids()) // images][:images])
        torch.manual_seed(0)
        model = (
            build_model(name, [info.name for info in data.classes], weights="none")
            .eval()
            .to(memory_format=torch.channels_last)
        )
        loader = evaluation_loader(data, split.ids, size=data.default_image_size, batch_size=BATCH)
        batches = [to_input(batch.images, loader.normalisation, "cpu", channels_last=True) for batch in loader]

        @torch.inference_mode()
        def forward(model: nn.Module = model, batches: list[Tensor] = batches) -> None:
            for batch in batches:
                model(batch)

        with tempfile.TemporaryDirectory() as folder:

            def everything(
                model: nn.Module = model,
                loader: EvaluationLoader = loader,
                split: Split = split,
                place: Path = Path(folder) / "one",
            ) -> None:
                kept, _ = one_pass(model, loader, data, split, place)
                score_statistic(kept)(np.ones((1, len(split.ids))))

            mine, other, ratio = compare(everything, forward, rounds=rounds, clock=time.process_time)
        tell(
            f"{name:<28}{images:>7}{1000 * other / images:>12.0f} ms{1000 * mine / images:>9.0f} ms{1 / ratio:>7.2f}"
            f"   {reached(1 / ratio <= FORWARD_GOAL)}"
        )


def reached(is_reached: bool) -> str:
    """Whether a goal is."""
    return "reached" if is_reached else "missed"


def compare_with_torchmetrics(root: Path, rounds: int, tell: Callable[[str], None]) -> None:
    """Prints a row for each kind of figure and for all, and how far their numbers differ."""
    images, classes = predicted_images(root, TORCHMETRICS_IMAGES)
    ours, theirs = our_figures(images, classes), torchmetrics_figures(images, classes)
    mine, others = ours("all"), theirs("all")
    # Of a class without a true pixel TorchMetrics says 0, we that there is no such number.
    seen = ~np.isnan(mine["ap"])
    differences = {name: largest_difference(mine[name], others[name], seen) for name in mine}
    told = ", ".join(f"{name} {difference:.0e}" for name, difference in differences.items())
    tell(f"{len(images)} images; largest difference of a figure: {told}")
    tell(f"{'':<12}{'TorchMetrics':>14}{'ours':>9}{'ratio':>8}   goal {TORCHMETRICS_GOAL:.0f}, all together")
    for which in ("pixels", "pixel AP", "regions", "all"):
        own, other, ratio = compare(
            lambda which=which: ours(which),  # type: ignore[misc]
            lambda which=which: theirs(which),  # type: ignore[misc]
            rounds=rounds,
            clock=time.process_time,
        )
        verdict = reached(ratio >= TORCHMETRICS_GOAL) if which == "all" else ""
        share = 1000 / len(images)
        tell(f"{which:<12}{other * share:>11.1f} ms{own * share:>6.1f} ms{ratio:>8.1f}   {verdict}")


def largest_difference(one: Values, other: Values, seen: npt.NDArray[np.bool_]) -> float:
    """Between figures of the classes that are seen, or of all pixels; where one has no number, the other must be 0."""
    first, second = (np.nan_to_num(values if values.ndim == 0 else values[seen]) for values in (one, other))
    return float(np.abs(first - second).max())


RAW: Normalisation = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def memory_of(images: int) -> dict[str, float]:
    """Most resident MiB when everything is loaded, in the pass, and in each stage of what is computed from it."""
    torch.set_num_threads(1)
    data = MadeUp(images)
    names = [info.name for info in data.classes]
    model = NearestColor(np.array([info.color for info in data.classes], np.float64)).eval()
    split = split_of(data.ids())
    found, started = {"start": stage_peak()}, time.process_time()
    loader = evaluation_loader(data, split.ids, size=data.default_image_size, batch_size=BATCH, normalisation=RAW)
    with tempfile.TemporaryDirectory() as folder:
        with NewEvaluation(Path(folder) / "one", len(names), "one", split, None) as new:
            evaluate(model, loader, [new])
            kept = new.keep(key_of_weights("0" * 64, "any", split), {"ms": None})
        found["pass"] = stage_peak()
        wrong = failures_of(kept, data)
        found["failures"] = stage_peak()
        score_labels({kept.trial_id: kept})
        comparison.per_class_frame({"one": kept.trial_id}, {kept.trial_id: kept}, names)
        comparison.threshold_frame({"one": kept.trial_id}, {kept.trial_id: kept})
        found["intervals"] = stage_peak()
    components = sum(len(one.components.iou) for one in wrong["one"].images)
    return {**found, "seconds": time.process_time() - started, "components": components}


def memory_of_tables(images: int) -> dict[str, float]:
    """The same of the tables of failures and factors, from the failures of a few images that are copied."""
    torch.set_num_threads(1)
    data = MadeUp(REPEATED)
    names = [info.name for info in data.classes]
    kinds = class_kinds(names)
    few = [
        measure_image(mask, [np.roll(np.where(mask == VOID, 0, mask), 9, axis=1)], names, kinds, image=data.image(one))
        for one in data.ids()
        for mask in (data.mask(one),)
    ]
    found = {"start": stage_peak()}
    copied = tuple(copy.deepcopy(few[place % REPEATED][0]) for place in range(images))
    wrong = {"one": SplitFailures(MadeUp(images).ids(), copied)}
    found["failures"] = stage_peak()
    frames: list[pd.DataFrame] = [failures_frame(region_entries(wrong), names), component_frame(wrong, names)]
    frames += [frame(wrong) for frame in (type_frame, image_type_frame, factor_frame, curve_frame)]
    frames.append(class_type_frame(wrong, names))
    return {**found, "tables": stage_peak(), "rows": sum(map(len, frames))}


def memory_of_intervals(images: int) -> dict[str, float]:
    """The same of the scores with their intervals, from counts that are made up, without an image."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        kept = keep_made_up_counts(Path(folder), images)
        found, started = {"start": stage_peak()}, time.process_time()
        found["counts"] = stage_peak()
        trial_ids, evaluations = {"one": kept.trial_id}, {kept.trial_id: kept}
        score_labels(evaluations)
        comparison.per_class_frame(trial_ids, evaluations, [str(one) for one in range(kept.confusions.shape[1])])
        comparison.threshold_frame(trial_ids, evaluations)
        return {**found, "intervals": stage_peak(), "seconds": time.process_time() - started}


def stage_peak() -> float:
    """The most MiB resident since the last call; what was freed goes back to the system, and the count begins anew."""
    peak = resident_peak()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return peak


def resident_peak() -> float:
    """The most MiB that this process had resident, file mappings and all, from Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def in_a_process(kind: str, images: int) -> dict[str, float]:
    """What a measurement says in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.evaluation", "--measure", kind, str(images)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def grow_memory(counts: Sequence[int], tell: Callable[[str], None]) -> None:
    """Prints a row for each number of images, the slopes, and what they foretell for `MEMORY_IMAGES`."""
    stages = ("start", "pass", "failures", "intervals")
    tell(f"{'images':>8}" + "".join(f"{f'{name}, MiB':>16}" for name in stages) + f"{'components':>12}{'CPU s':>8}")
    measured = []
    for images in counts:
        found = in_a_process("pass", images)
        measured.append(found)
        numbers = "".join(f"{found[name]:>16.0f}" for name in stages)
        tell(f"{images:>8}{numbers}{found['components']:>12.0f}{found['seconds']:>8.0f}")
    slopes = {name: (measured[-1][name] - measured[0][name]) / max(1, counts[-1] - counts[0]) for name in stages[1:]}
    expected = {name: measured[-1][name] + max(0.0, one) * (MEMORY_IMAGES - counts[-1]) for name, one in slopes.items()}
    told = ", ".join(f"{name} {1024 * one:.0f} KiB ({expected[name]:,.0f} MiB)" for name, one in slopes.items())
    tell(f"more with each image (and so with {MEMORY_IMAGES:,}, not run): {told}")
    tables = in_a_process("tables", MEMORY_IMAGES)
    tell(
        f"tables of {MEMORY_IMAGES:,} images ({tables['rows']:,.0f} rows): {tables['tables']:,.0f} MiB, "
        f"{tables['failures']:,.0f} of them with the failures alone, {tables['start']:,.0f} at the start"
    )
    intervals = in_a_process("intervals", MEMORY_IMAGES)
    tell(
        f"scores and intervals of {MEMORY_IMAGES:,} images: {intervals['intervals']:,.0f} MiB, "
        f"{intervals['counts']:,.0f} of them with the counts alone; {intervals['seconds']:.0f} s of CPU time"
    )
    expected["intervals"] = intervals["intervals"]  # of a run, so that none is foretold
    most = max(tables["tables"], *expected.values())
    tell(f"the largest {most:,.0f} MiB   goal {MEMORY_GOAL / 2**20:,.0f} MiB: {reached(most * 2**20 < MEMORY_GOAL)}")


def main() -> None:
    """Prints the three parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", type=Path)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", default="125,250")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        kind, images = asked.measure
        measures = {"pass": memory_of, "tables": memory_of_tables, "intervals": memory_of_intervals}
        print(json.dumps(measures[kind](int(images))))
        return
    torch.set_num_threads(1)
    lines: list[str] = []

    def tell(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    tell(machine())
    for part in asked.only.split(","):
        tell(f"\n{part}")
        if part == "memory":
            grow_memory([int(count) for count in asked.images.split(",")], tell)
        elif part == "forward":
            compare_with_forward(asked.root, asked.rounds, tell)
        else:
            compare_with_torchmetrics(asked.root, asked.rounds, tell)
    if asked.out:
        asked.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
