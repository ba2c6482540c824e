"""Which heads go with which backbones: each is refused with a reason, or takes a step, is saved and loaded.

python benchmarks/models.py [--all] [--only TEXT ...] [--export] [--rows benchmarks/results/models.jsonl]
                            [--out benchmarks/results/models.txt]

A model that `sweep.run --check` and `--show` refuse is told with their line. Every other one is trained from scratch as
a trial of a sweep: one step of two images of `scenes` at 64x96, after which it is saved as the best of a sweep is, and
loaded as a report loads it: both must give the same logits, bit for bit. `latency` is the processor time of one image
of 96x128 on one thread over that of `fcn_resnet50` in the same process, each the least of four passes.

With `--export` each is written as a program of torch and as ONNX instead, by the functions of `analysis.export`, and
what the files compute is compared with the model at two sizes that it was not traced with; a model whose graph holds
one size is written for that size.

Each model is one line of `--rows`: started again, the command does what is missing there. `--all` takes forty backbones
and five encoders of segmentation_models.pytorch, otherwise one of each kind is taken. The models of a backbone share a
process, whose memory is free before the next.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import torch
from paired import machine
from tabulate import tabulate

from analysis.export.graph import ExportError, Graph, onnx_bytes, traced
from analysis.export.parity import onnx_runner
from trainables.checkpoint import publish, rebuild_model
from trainables.config import TrialConfig, format_size
from trainables.data import DATASETS
from trainables.data.splits.given import make_splits
from trainables.execution import TrialData
from trainables.models import HEADS, build_model, refusal
from trainables.trial import Trial

REFERENCE = "fcn_resnet50"
TRAINED_SIZE, SIZE = (64, 96), (96, 128)
"""Of the images in the step, and of the one that is timed and exported with."""
BATCH = 2
PASSES = 4
CLASSES = tuple("abcdefghij")

KINDS = (
    "resnet18",
    "mobilenet_v3_large",
    "efficientnet_lite0",
    "convnext_tiny",
    "swin_tiny_patch4_window7_224",
    "mit_b0",
    "vit_tiny_patch16_224",
    "vit_small_patch14_dinov2",
    "vit_small_patch16_dinov3",
)
"""One backbone of each kind."""

FURTHER = (
    *("resnet34", "resnet50", "resnext50_32x4d", "wide_resnet50_2", "mobilenet_v2", "mobilenet_v3_small"),
    *("efficientnet_b0", "efficientnet_v2_s", "regnet_y_400mf", "efficientnet_lite1", "efficientnet_lite2"),
    *("resnet18d", "regnety_002", "mobilenetv4_conv_small", "convnextv2_atto", "convnext_tiny.dinov3_lvd1689m"),
    *("swinv2_tiny_window8_256", "pvt_v2_b0", "mambaout_femto", "hgnet_tiny", "davit_tiny", "focalnet_tiny_srf"),
    *("deit3_small_patch16_224", "eva02_tiny_patch14_224", "mit_b1", "densenet121"),
    *("rexnet_100", "vgg11", "maxvit_tiny_tf_224", "beit_base_patch16_224", "gmixer_12_224"),
)
"""With `KINDS` forty."""

ARCHITECTURES = (
    *("unet", "unetplusplus", "manet", "linknet", "fpn", "pspnet", "deeplabv3", "deeplabv3plus", "pan", "upernet"),
    *("segformer", "dpt"),
)
ENCODERS = ("resnet18", "mobilenet_v2", "efficientnet-b0", "mit_b0", "tu-convnext_atto")
"""Of segmentation_models.pytorch."""

LIBRARIES = ("timm", "segmentation_models_pytorch", "transformers.models.segformer.modeling_segformer")
Row = dict[str, Any]


def chunks(*, everything: bool) -> dict[str, list[str]]:
    """Models by backbone, in the order of the tables."""
    backbones = (*KINDS, *FURTHER) if everything else KINDS
    encoders = ENCODERS if everything else ENCODERS[:1]
    return {one: [f"{head}_{one}" for head in HEADS] for one in backbones} | {
        f"smp/{one}": [f"smp/{architecture}_{one}" for architecture in ARCHITECTURES] for one in encoders
    }


def work(name: str, *, export: bool) -> Row:
    """What happens to a model."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    what = exported if export else trained
    began = time.perf_counter()
    refused = refusal(name, "none")
    try:
        row = {"refused": refused} if refused else what(name)
    except Exception as error:  # the benchmark is there to find those
        row = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    print(f"{time.perf_counter() - began:5.1f} s  {name}{'  FAILED' if 'failed' in row else ''}", file=sys.stderr)
    return {"model": name, **row}


@functools.cache
def _data() -> TrialData:
    scenes = DATASETS.get("scenes")()
    splits = make_splits(scenes)
    return TrialData(scenes, tuple(splits.train[:BATCH]), tuple(splits.val[:1]))


def trained(name: str) -> Row:
    """Trains a model for a step, saves it as a sweep does, and loads it as the report does."""
    config = TrialConfig.from_flat(
        {
            "model.name": name,
            "image_size": format_size(TRAINED_SIZE),
            "epochs": 1,
            "batch_size": BATCH,
            "optimizer.lr": 1e-3,
        }
    )
    trial = Trial(config, _data())
    before = {key: value.clone() for key, value in trial.model.named_parameters()}
    trial.run_epoch()
    with tempfile.TemporaryDirectory() as folder:
        publish(trial.save(Path(folder) / "checkpoint"), Path(folder) / "best", label="best")
        loaded, _ = rebuild_model(Path(folder) / "best")
    images = torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    model = trial.model.to(memory_format=torch.contiguous_format)
    return {
        "parameters": trial.parameters,
        "loss": float(trial.history[0]["metrics"]["train/loss"]),
        "unmoved": [key for key, value in trial.model.named_parameters() if torch.equal(value, before[key])],
        "loaded": torch.equal(_logits(model, images), _logits(loaded, images)),
        "latency": _seconds(model, images) / _reference_seconds(),
        "multiple": trial.model.multiple,
    }


@torch.inference_mode()
def _logits(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = model.eval()(images)["out"]
    return found


def _seconds(model: torch.nn.Module, images: torch.Tensor) -> float:
    """Processor time of one image, the least of four passes."""
    found = []
    for _ in range(PASSES):
        began = time.process_time()
        _logits(model, images)
        found.append(time.process_time() - began)
    return min(found)


@functools.cache
def _reference_seconds() -> float:
    return _seconds(build_model(REFERENCE, CLASSES), torch.randn(1, 3, *SIZE))


def exported(name: str) -> Row:
    """Writes a model in each format, and tells how far each file is from it."""
    torch.manual_seed(0)
    model = build_model(name, CLASSES).eval()
    record = types.SimpleNamespace(config=types.SimpleNamespace(model=types.SimpleNamespace(name=name)))
    net: Any = types.SimpleNamespace(model=model, normalisation=model.normalisation, record=record)
    graph, why = _graph(net)
    batches = [np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8) for size in _sizes(graph)]
    with torch.no_grad():
        expected = [graph.module(torch.from_numpy(batch)).numpy() for batch in batches]
        found = [graph.program.module()(torch.from_numpy(batch)).numpy() for batch in batches]
    row = {"sizes": _taken(graph), "torch_export": _difference(found, expected)} | ({"why": why} if why else {})
    try:
        run, _ = onnx_runner(onnx_bytes(graph, {}))
        row["onnx"] = _difference([run(batch) for batch in batches], expected)
    except Exception as error:  # what ONNX Runtime refuses is told as it is
        row["onnx"] = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    return row


def _graph(net: Any) -> tuple[Graph, str]:
    """A graph for any size, or for one and why."""
    try:
        return traced(net), ""
    except ExportError as error:
        return traced(net, fixed=SIZE), str(error)


def _taken(graph: Graph) -> str:
    if graph.fixed is not None:
        return "one"
    return "any" if graph.module.multiple == 1 else f"multiples of {graph.module.multiple}"


def _sizes(graph: Graph) -> list[tuple[int, int]]:
    """Two sizes, not those that a graph is traced with, if it takes others."""
    first = graph.input_size((70 + graph.module.multiple, 161))
    return [first] if graph.fixed is not None else [first, (first[1], first[0])]


def _difference(found: Sequence[Any], expected: Sequence[Any]) -> float:
    """The largest of logits, as a share of the largest logit."""
    most = max(float(np.abs(np.asarray(one) - other).max()) for one, other in zip(found, expected, strict=True))
    return most / max(float(np.abs(other).max()) for other in expected)


def table(rows: Mapping[str, Row], asked: Mapping[str, Sequence[str]], *, export: bool) -> Iterator[str]:
    """The lines of the report."""
    yield f"{machine()}\n"
    found = [row for names in asked.values() for row in (rows.get(name) for name in names) if row]
    counts = {kind: [row for row in found if kind in row] for kind in ("refused", "failed")}
    good = [row for row in found if not row.keys() & counts.keys()]
    if export:
        yield f"{len(good)} models written; sizes that the files take, and the largest difference of logits:\n"
    else:
        held, moved = (sum(good_one(row) for row in good) for good_one in (_loaded, _moved))
        yield (
            f"{len(found)} models: {len(good)} took a step, which moved every weight of {moved}; {held} were loaded "
            f"with the same logits. {len(counts['refused'])} refused, {len(counts['failed'])} failed.\n"
        )
        yield f"Millions of parameters, and latency: times that of {REFERENCE}, processor time.\n"
    cell = _export_cell if export else _cell
    for whole in (False, True):
        columns = ARCHITECTURES if whole else list(HEADS)
        lines = [
            [one.removeprefix("smp/"), *(cell(rows.get(name) if name in asked[one] else None) for name in names)]
            for one, names in chunks(everything=True).items()
            if one.startswith("smp/") == whole and any(name in rows for name in asked.get(one, ()))
        ]
        if lines:
            yield tabulate(lines, headers=["smp/" if whole else "", *columns], tablefmt="github", disable_numparse=True)
            yield ""
    for kind in ("failed", *(("why",) if export else ("refused",))):
        told = [f"- {row['model']}: {row[kind]}" for row in found if kind in row]
        if told:
            yield "\n".join([f"{'Holds one size' if kind == 'why' else kind.capitalize()}:\n", *told, ""])


def _cell(row: Row | None) -> str:
    if row is None or row.keys() & {"refused", "failed"}:
        return "" if row is None else "refused" if "refused" in row else "FAILED"
    told = "" if _loaded(row) else " LOST"
    return f"{row['parameters'] / 1e6:.1f}, {row['latency']:.2g}{told}"


def _loaded(row: Row) -> bool:
    return bool(row["loaded"])


def _moved(row: Row) -> bool:
    return not row["unmoved"]


def _export_cell(row: Row | None) -> str:
    if row is None or row.keys() & {"refused", "failed"}:
        return "" if row is None else "refused" if "refused" in row else "FAILED"
    sizes = row["sizes"].replace("multiples of ", "x")
    told = [one if isinstance(one, str) else f"{one:.0e}" for one in (row["torch_export"], row["onnx"])]
    return f"{sizes}: {told[0]}, {told[1]}"


def main() -> int:
    """Command line; returns the exit code: 1 if a model failed or came back as another."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--all", action="store_true", help="forty backbones, five encoders")
    p.add_argument("--only", action="append", default=[], metavar="TEXT", help="models whose name holds it")
    p.add_argument("--export", action="store_true", help="write each in both formats of analysis.export instead")
    p.add_argument("--table", action="store_true", help="only print what was measured")
    p.add_argument("--rows", type=Path, help="what was measured (default: models.jsonl, with --export exports.jsonl)")
    p.add_argument("--out", type=Path, help="where to keep the table")
    options = p.parse_args()
    place = options.rows or Path("exports.jsonl" if options.export else "models.jsonl")
    lines = place.read_text(encoding="utf-8").splitlines() if place.is_file() else []
    rows = {row["model"]: row for row in map(json.loads, lines)}
    asked = {
        one: [name for name in names if all(text in name for text in options.only)]
        for one, names in chunks(everything=options.all).items()
    }
    asked = {one: names for one, names in asked.items() if names}
    if not options.table:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["__main__", *LIBRARIES])  # each process is a copy of one that has loaded them
        for names in asked.values():
            with ProcessPoolExecutor(1, mp_context=context) as process:
                for name in names:
                    if name in rows:
                        continue
                    died = False
                    try:
                        rows[name] = process.submit(work, name, export=options.export).result()
                    except BrokenProcessPool as error:
                        rows[name], died = {"model": name, "failed": str(error)}, True
                    with place.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(rows[name]) + "\n")
                    if died:
                        break  # started again, the command goes on with the others of this backbone
    text = "\n".join(table(rows, asked, export=options.export))
    print(text)
    if options.out:
        options.out.write_text(text.rstrip() + "\n", encoding="utf-8")
    bad = [row for row in rows.values() if "failed" in row or not row.get("loaded", True)]
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
