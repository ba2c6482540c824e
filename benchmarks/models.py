"""Which heads go with which backbones: each is refused with a reason, or trained, saved, resumed and timed.

python benchmarks/models.py [--all] [--only TEXT ...] [--export] [--rows models.jsonl]
                            [--out benchmarks/results/models.txt]

A model that `sweep.run --check` and `--show` refuse is told with their line. Every other one is trained from scratch as
a trial of a sweep: two steps of eight images of `scenes` at 96x128, validated, saved; another trial goes on from the
checkpoint for two more steps, and both must then hold the same bits. `latency` is the processor time of one image on
one thread over that of `fcn_resnet50` in the same process, each the least of seven passes. With `--export` the model is
written as a program of torch and as ONNX as well, and what these compute is compared with the model at two sizes.

Each model is one line of `--rows`: started again, the command does what is missing there. `--all` takes forty
backbones, otherwise one of each kind is taken.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import math
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from paired import machine
from tabulate import tabulate

from analysis.export.graph import ExportError, onnx_bytes, traced
from analysis.export.parity import onnx_runner
from trainables.config import TrialConfig
from trainables.data import DATASETS
from trainables.data.splits.given import make_splits
from trainables.execution import TrialData
from trainables.models import HEADS, build_model, refusal
from trainables.trial import Trial

REFERENCE = "fcn_resnet50"
SIZE = (96, 128)
BATCH = 8
STEPS = 2
WARM_UP, PASSES = 2, 7

KINDS = (
    "resnet18",
    "mobilenet_v3_large",
    "efficientnet_lite0",
    "convnext_tiny",
    "swin_tiny_patch4_window7_224",
    "mit_b0",
    "vit_tiny_patch16_224",
    "vit_small_patch14_dinov2",
)
"""One backbone of each kind."""

FURTHER = (
    *("resnet34", "resnet50", "resnext50_32x4d", "wide_resnet50_2", "mobilenet_v2", "mobilenet_v3_small"),
    *("efficientnet_b0", "efficientnet_v2_s", "regnet_y_400mf", "efficientnet_lite1", "efficientnet_lite2"),
    *("resnet18d", "regnety_002", "mobilenetv4_conv_small", "convnextv2_atto", "convnext_tiny.dinov3_lvd1689m"),
    *("swinv2_tiny_window8_256", "pvt_v2_b0", "mambaout_femto", "hgnet_tiny", "davit_tiny", "focalnet_tiny_srf"),
    *("vit_small_patch16_dinov3", "deit3_small_patch16_224", "eva02_tiny_patch14_224", "mit_b1", "densenet121"),
    *("rexnet_100", "vgg11", "maxvit_tiny_tf_224", "beit_base_patch16_224", "gmixer_12_224"),
)
"""With `KINDS` forty."""

WHOLE = (
    *("unet", "unetplusplus", "manet", "linknet", "fpn", "pspnet", "deeplabv3", "deeplabv3plus", "pan", "upernet"),
    *("segformer", "dpt"),
)
"""Architectures of segmentation_models.pytorch, each on ResNet-18."""


def names(*, everything: bool) -> list[str]:
    """The models, in the order of the table."""
    backbones = (*KINDS, *FURTHER) if everything else KINDS
    return [f"{head}_{one}" for one in backbones for head in HEADS] + [f"smp/{one}_resnet18" for one in WHOLE]


def tried(name: str, data: TrialData, *, export: bool) -> dict[str, Any]:
    """What happens to a model."""
    refused = refusal(name, "none")
    if refused:
        return {"model": name, "refused": refused}
    few = dataclasses.replace(data, train=data.train[: BATCH * STEPS], val=data.val[:4])
    config = TrialConfig.from_flat(
        {
            "model.name": name,
            "image_size": f"{SIZE[0]}x{SIZE[1]}",
            "epochs": 2,
            "batch_size": BATCH,
            "optimizer.lr": 1e-3,
        }
    )
    whole, resumed = Trial(config, few), Trial(config, few)
    whole.run_epoch()
    with tempfile.TemporaryDirectory() as folder:
        resumed.restore(whole.save(Path(folder)))
    losses = [float(whole.history[0]["metrics"]["train/loss"])]
    for trial in (whole, resumed):
        trial.run_epoch()
    losses.append(float(whole.history[1]["metrics"]["train/loss"]))
    pairs = zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True)
    row = {
        "model": name,
        "parameters": whole.parameters,
        "losses": losses,
        "resumed": all(torch.equal(one, other) for one, other in pairs),
        "latency": _seconds(whole.model) / _reference_seconds(),
        "multiple": whole.model.multiple,
    }
    return row | (exported(whole.model, name) if export else {})


@torch.inference_mode()
def _seconds(model: torch.nn.Module) -> float:
    """Processor time of one image, the least of some passes."""
    image = torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    model.eval()
    found = []
    for _ in range(WARM_UP + PASSES):
        began = time.process_time()
        model(image)
        found.append(time.process_time() - began)
    return min(found[WARM_UP:])


@functools.cache
def _reference_seconds() -> float:
    return _seconds(build_model(REFERENCE, ("a", "b")).to(memory_format=torch.channels_last))


def exported(model: torch.nn.Module, name: str) -> dict[str, str]:
    """Whether a model can be written in each format, and how far the file is from the model at other sizes."""
    record = types.SimpleNamespace(config=types.SimpleNamespace(model=types.SimpleNamespace(name=name)))
    trained: Any = types.SimpleNamespace(model=model, normalisation=model.normalisation, record=record)
    try:
        graph = traced(trained)
    except ExportError as error:
        return {"torch_export": str(error), "onnx": str(error)}
    by = graph.module.multiple
    sides = [max(graph.least, by * math.ceil(side / by)) for side in (70, 135)]
    batches = [np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8) for size in (sides, sides[::-1])]
    with torch.no_grad():
        expected = [graph.module(torch.from_numpy(batch)).numpy() for batch in batches]
        found = [graph.program.module()(torch.from_numpy(batch)).numpy() for batch in batches]
    told = {"torch_export": _difference(found, expected, by)}
    try:
        run, _ = onnx_runner(onnx_bytes(graph, {}))
        told["onnx"] = _difference([run(batch) for batch in batches], expected, by)
    except Exception as error:  # what ONNX Runtime refuses is told as it is
        told["onnx"] = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    return told


def _difference(found: Sequence[Any], expected: Sequence[Any], multiple: int) -> str:
    most = max(float(np.abs(np.asarray(one) - other).max()) for one, other in zip(found, expected, strict=True))
    sides = f", sides multiples of {multiple}" if multiple > 1 else ""
    return f"differs by {most:.0e}{sides}"


def table(rows: Sequence[Mapping[str, Any]], *, export: bool) -> Iterator[str]:
    """The lines of the report."""
    trained = [row for row in rows if "refused" not in row]
    refused = [row for row in rows if "refused" in row]
    headers = ["model", "parameters", "loss, first two steps and next two", "same bits resumed", "latency"]
    lines = [
        [
            row["model"],
            f"{row['parameters']:,}",
            f"{row['losses'][0]:.2f}, {row['losses'][1]:.2f}",
            "yes" if row["resumed"] else "NO",
            f"{row['latency']:.2g}",
            *([row.get("torch_export", ""), row.get("onnx", "")] if export else []),
        ]
        for row in trained
    ]
    yield f"{machine()}\n"
    yield f"{len(trained)} trained, {len(refused)} refused. Latency: times that of {REFERENCE}, processor time.\n"
    yield tabulate(lines, headers=[*headers, *(["torch_export", "onnx"] if export else [])], tablefmt="github")
    yield "\nRefused:\n"
    for row in refused:
        yield f"- {row['model']}: {row['refused']}"


def main() -> int:
    """Command line; returns the exit code: 1 if a model did not resume with the same bits."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--all", action="store_true", help="forty backbones")
    p.add_argument("--only", action="append", default=[], metavar="TEXT", help="models whose name holds it")
    p.add_argument("--export", action="store_true", help="write each in both formats of analysis.export, too")
    p.add_argument("--table", action="store_true", help="only print what was measured")
    p.add_argument("--rows", type=Path, default=Path("models.jsonl"), help="what was measured (default: %(default)s)")
    p.add_argument("--out", type=Path, help="where to keep the table")
    options = p.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    lines = options.rows.read_text(encoding="utf-8").splitlines() if options.rows.is_file() else []
    rows = {row["model"]: row for row in map(json.loads, lines)}
    scenes = DATASETS.get("scenes")()
    splits = make_splits(scenes)
    data = TrialData(scenes, tuple(splits.train), tuple(splits.val))
    asked = [name for name in names(everything=options.all) if all(text in name for text in options.only)]
    if options.table:
        asked = [name for name in asked if name in rows]
    for name in asked:
        if options.table:
            break
        if name not in rows or (options.export and "refused" not in rows[name] and "onnx" not in rows[name]):
            began = time.perf_counter()
            rows[name] = tried(name, data, export=options.export)
            with options.rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps(rows[name]) + "\n")
            print(f"{time.perf_counter() - began:5.0f} s  {name}", file=sys.stderr)
    found = [rows[name] for name in asked]
    text = "\n".join(table(found, export=options.export))
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    return 0 if all(row.get("resumed", True) for row in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
