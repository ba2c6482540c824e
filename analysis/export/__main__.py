"""Writes a trained model as a file that other programs run, compares the two, and writes a model card."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from analysis.export.card import model_card
from analysis.export.graph import (
    FORMATS,
    OPSET,
    ExportError,
    onnx_bytes,
    torch_bytes,
    traced,
)
from analysis.export.metadata import metadata_of
from analysis.export.parity import LEAST_EQUAL, Parity, compare, onnx_runner, torch_runner
from analysis.model import TrainedModel, load_model
from sweep.manifest import SweepManifest
from sweep.verify import load_run_split, open_data
from trainables import plugins
from trainables.data.base import Image, Mask, SegmentationData
from trainables.data.flags import add_data_root_flag
from trainables.data.reading.names import expanded
from trainables.errors import SegsweepError, UsageError
from trainables.files import write_atomically
from trainables.flags import command_parser, whole
from trainables.guarded import guarded

IMAGES = 50
"""Images of val that are compared by default."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code: 0 done, 1 failed, 2 bad usage, 130 interrupted."""
    options = parser().parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    return guarded(
        lambda: _run(options, console), interrupted="interrupted; nothing was written", elsewhere="--out FILE"
    )


def parser() -> argparse.ArgumentParser:
    """The flags."""
    made = command_parser(
        "analysis.export",
        "Writes a trained model as a file: raw images in, logits out, for any number of images of any "
        "size, the normalisation inside. The file is compared with the model on images of val before it is kept. Of a "
        "run it is the winner trained again on train and val where there is one, else the best.",
    )
    made.add_argument("model", type=expanded, metavar="RUN|best/LABEL", help="folder of a run, or of one of its models")
    made.add_argument("--format", choices=tuple(FORMATS), default="onnx", help="kind of file (default: onnx)")
    made.add_argument(
        "--out", type=expanded, metavar="FILE",
        help="where to write it, and FILE.md, the model card (default: NAME.onnx or NAME.pt2 in the current folder)",
    )  # fmt: skip
    made.add_argument("--opset", type=whole, default=OPSET, metavar="N", help=f"of ONNX (default: {OPSET})")
    made.add_argument(
        "--fixed-size", action="store_true",
        help="a file for images of the model's input size alone, where one for any size cannot be written",
    )  # fmt: skip
    made.add_argument(
        "--images", type=whole, default=IMAGES, metavar="N",
        help=f"compare on at most N images of val, spread over the split (default: {IMAGES})",
    )  # fmt: skip
    add_data_root_flag(made)
    plugins.add_flag(made)
    return made


def _run(options: argparse.Namespace, console: Console) -> int:
    trained = load_model(options.model, plugin_files=options.plugins)
    out = options.out or Path(f"{_name(trained)}{FORMATS[options.format]}")
    card = out.with_name(f"{out.name}.md")
    for path in (out, card):
        if os.path.lexists(path):
            raise UsageError(f"{path} is there already: remove it, or give --out FILE")
    for place, line in enumerate(trained.provenance.lines()):
        console.print(f"{'' if place else 'model':<9} {line}", markup=False)
    manifest = None if trained.run_dir is None else SweepManifest.load(trained.run_dir)
    pairs, why_none = _pairs(trained, manifest, options)
    if why_none:
        console.print(f"note      {why_none}", markup=False)
    with console.status("tracing the model"):
        graph = traced(trained, fixed=trained.size if options.fixed_size else None)
    metadata = metadata_of(trained, graph)
    with console.status("writing the file"):
        if options.format == "onnx":
            content = onnx_bytes(graph, metadata, opset=options.opset)
            run, runtime = onnx_runner(content)
        else:
            content = torch_bytes(graph, metadata)
            run, runtime = torch_runner(content)
    parity = _compared(console, partial(compare, trained, graph, run, runtime, pairs))
    if parity.equal < LEAST_EQUAL:
        raise ExportError(
            f"the file does not compute what the model computes, and is not kept: {parity.lines()[0]}; please report it"
        )
    kind = options.format
    text = model_card(
        trained,
        manifest,
        file=out,
        sha256=hashlib.sha256(content).hexdigest(),
        kind=kind,
        metadata=metadata,
        parity=parity.lines(),
    )
    write_atomically(out, content)
    write_atomically(card, text.encode())
    detail = f"opset {options.opset}" if kind == "onnx" else "torch.export"
    console.print(f"file      {out} ({len(content) / 1e6:.1f} MB, {detail})", markup=False)
    console.print(f"takes     {metadata['input']}; made for {metadata['input_size']}", markup=False)
    for place, line in enumerate(parity.lines()):
        console.print(f"{'' if place else 'compared':<9} {line}", markup=False)
    if pairs and "refit" in trained.record.data:
        console.print("          the model learnt from these images: their mIoU is no score of it", markup=False)
    console.print(f"card      {card}", markup=False)
    return 0


def _name(trained: TrainedModel) -> str:
    folder = trained.folder.absolute()
    run = f"{trained.run_dir.absolute().name}-" if trained.run_dir is not None else ""
    return f"{run}{folder.name}"


Pair = Callable[[], tuple[Image, Mask]]


def _pairs(
    trained: TrainedModel, manifest: SweepManifest | None, options: argparse.Namespace
) -> tuple[list[Pair], str]:
    """What reads images and masks of val, or why there are none. The test split is never looked at."""
    if trained.run_dir is None or manifest is None:
        return [], "the model is not in a run, whose val it could be compared on: it is compared on noise"
    if options.images == 0:
        return [], "compared on noise, as --images 0 asks"
    try:
        data = open_data(trained.run_dir, manifest, root=options.data_root)
    except SegsweepError as error:
        if options.data_root is not None:
            raise
        first = str(error).splitlines()[0]
        return [], f"{first}: compared on noise; to compare on val, give --data-root DIR"
    ids = load_run_split(trained.run_dir, "val").ids
    count = min(options.images, len(ids))
    chosen = [ids[place * len(ids) // count] for place in range(count)]
    return [partial(_pair, data, image_id) for image_id in chosen], ""


def _pair(data: SegmentationData, image_id: str) -> tuple[Image, Mask]:
    return data.image(image_id), data.mask(image_id)


def _compared(console: Console, work: Callable[..., Parity]) -> Parity:
    done = 0
    with console.status("comparing") as status:

        def advance() -> None:
            nonlocal done
            done += 1
            status.update(f"comparing: {done} images")

        return work(advance=advance)


if __name__ == "__main__":
    sys.exit(main())
