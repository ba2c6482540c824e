"""The model card beside an exported file: what it is, what it learnt from, what is known of it and how surely."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.colours import hexadecimal
from analysis.model import TrainedModel
from sweep.manifest import SweepManifest
from sweep.objectives import recorded_objectives
from trainables.data.bands import Bands
from trainables.data.tiles import OVERLAP
from trainables.labels import BEST
from trainables.options import CROP, LETTERBOX, STRETCH, TILE, scale_of, way_of
from trainables.run_folder import REPORT, TABLES_FOLDER

_SNIPPETS = {
    "onnx": """import json, cv2, numpy as np, onnxruntime

session = onnxruntime.InferenceSession({file!r})
about = session.get_modelmeta().custom_metadata_map
{reading}
{resizing}
(logits,) = session.run(["logits"], {{"images": inputs[None]}})
logits = cv2.resize(logits[0{part}].transpose(1, 2, 0), image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
classes = logits.argmax(-1)                                                # (height, width)
ids = np.array(json.loads(about["ids"]))[classes]                          # as in the data set's masks""",
    "torch_export": """import cv2, numpy as np, torch

model = torch.export.load({file!r}).module()
{reading}
{resizing}
logits = model(torch.from_numpy(inputs)[None]){torch_part}
logits = torch.nn.functional.interpolate(logits, image.shape[:2], mode="bilinear", align_corners=False)
classes = logits[0].argmax(0)                                              # (height, width)""",
}
_RESIZING = {
    STRETCH: """height, width = {size}
inputs = {resized}width, height), interpolation=cv2.INTER_AREA){end}  # INTER_LINEAR where the image is smaller""",
    LETTERBOX: """height, width = {size}
scale = min(height / image.shape[0], width / image.shape[1])
rows, columns = (max(1, round(side * scale)) for side in image.shape[:2])
inputs = {resized}columns, rows), interpolation=cv2.INTER_AREA){end}  # INTER_LINEAR where the image is smaller
inputs = np.pad(inputs, ((0, height - rows), (0, width - columns), (0, 0)), "reflect")""",
    CROP: """height, width = {size}
scale = max(height / image.shape[0], width / image.shape[1])
rows, columns = ({multiple} * max(1, round(side * scale / {multiple})) for side in image.shape[:2])
inputs = {resized}columns, rows), interpolation=cv2.INTER_AREA){end}  # INTER_LINEAR where the image is smaller""",
}
_IN_WINDOWS = """{head}
height, width = {size}
{shown}below, beside = max(0, height - shown.shape[0]), max(0, width - shown.shape[1])
whole = np.pad(shown, ((0, below), (0, beside), (0, 0)), "reflect")

def windows(length, window):                # where windows begin, and how much each pixel of them counts
    count = 1 + math.ceil((length - window) / math.floor(window * {step}))
    starts = [round(i * (length - window) / max(1, count - 1)) for i in range(count)]
    weights = [np.ones(window) for _ in starts]
    for i in range(count - 1):
        shared = starts[i] + window - starts[i + 1]
        ramp = np.clip((np.arange(window) + 0.5 - shared / 4) / (shared / 2), 0, 1)
        weights[i + 1] *= ramp
        weights[i] *= ramp[::-1]
    return list(zip(starts, weights))

total = np.zeros(({classes}, *whole.shape[:2]))
for top, down in windows(whole.shape[0], height):
    for left, across in windows(whole.shape[1], width):
        part = np.ascontiguousarray(whole[top : top + height, left : left + width])
        {run}
        total[:, top : top + height, left : left + width] += logits[0] * np.outer(down, across)
{joined}"""
_SHOWN = """rows, columns = (max(1, round(side * {scale})) for side in image.shape[:2])
shown = {resized}columns, rows), interpolation=cv2.INTER_AREA){end}
"""
_JOINED = "classes = total.argmax(0)[: image.shape[0], : image.shape[1]]              # (height, width)"
_ENLARGED = """shown = total[:, :rows, :columns].astype(np.float32)
logits = np.stack([cv2.resize(one, image.shape[1::-1]) for one in shown])
classes = logits.argmax(0)                                                 # (height, width)"""
_HEADS = {
    "onnx": """import json, math, cv2, numpy as np, onnxruntime

session = onnxruntime.InferenceSession({file!r})
about = session.get_modelmeta().custom_metadata_map
{reading}""",
    "torch_export": """import math, cv2, numpy as np, torch

model = torch.export.load({file!r}).module()
{reading}""",
}
_RUNS = {
    "onnx": '(logits,) = session.run(["logits"], {"images": part[None]})',
    "torch_export": "logits = model(torch.from_numpy(part)[None]).detach().numpy()",
}
_SHOWN_ALREADY = ("epochs", "image_size", "resize", "batch_size")
_PARTS = {STRETCH: ("", ""), CROP: ("", ""), LETTERBOX: (", :, :rows, :columns", "[:, :, :rows, :columns]")}
"""Of the logits, what shows the image: behind an index of the batch, and of all images."""


def model_card(
    trained: TrainedModel,
    manifest: SweepManifest | None,
    *,
    file: Path,
    sha256: str,
    kind: str,
    metadata: Mapping[str, str],
    parity: Sequence[str],
) -> str:
    """The card as Markdown.

    Args:
        trained: The model.
        manifest: Of its run, where it is in one.
        file: What was written.
        sha256: Of that file.
        kind: Its format.
        metadata: What the file says of itself.
        parity: How it compares with the model.
    """
    record = trained.record
    size = metadata["input_size"]
    return "\n".join(
        [
            f"# {file.stem}",
            "",
            f"Semantic segmentation, {len(trained.classes)} classes: `{record.config.model.name}` with "
            f"{record.parameters:,} parameters (those of an auxiliary head, which only training has, included).",
            "",
            "## What it is",
            "",
            *(f"- {_escaped(line)}" for line in trained.provenance.lines()),
            f"- checkpoint: SHA-256 `{record.sha256}`",
            f"- this file: `{file.name}`, {kind}, SHA-256 `{sha256}`",
            "",
            "## Data",
            "",
            *_data(trained, manifest),
            "",
            "## Training",
            "",
            *_training(trained),
            "",
            "## Scores",
            "",
            *_scores(trained, manifest),
            "",
            "## Classes",
            "",
            "| class | channel | id in the masks | colour |",
            "|---|---|---|---|",
            *(
                f"| {_escaped(info.name)} | {place} | {value} | `{hexadecimal(info.color)}` |"
                for place, (info, value) in enumerate(zip(trained.classes, trained.ids, strict=True))
            ),
            "",
            "## Use",
            "",
            f"- {metadata['input']}",
            f"- {metadata['output']}",
            f"- {metadata['resizing']}",
            "- the normalisation is inside the file",
            *(f"- {line}" for line in parity),
            "",
            "```python",
            _snippet(
                kind,
                metadata["resize"],
                file.name,
                size,
                classes=len(trained.classes),
                multiple=metadata["multiple"],
                bands=trained.bands,
            ),
            "```",
            "",
            "## Intended use",
            "",
            "(To be written by whoever publishes the model: what it is for, what it must not be used for, whom its "
            "errors harm.)",
            "",
        ]
    )


def _snippet(
    kind: str, resize: str, file: str, size: str, *, classes: int, multiple: str, bands: Bands | None = None
) -> str:
    reading = 'image = cv2.cvtColor(cv2.imread("image.jpg"), cv2.COLOR_BGR2RGB)'
    if bands is not None:
        reading = f'image = np.load("image.npy")  # uint8 (height, width, {bands.channels}), the bands as said above'
    if way_of(resize) == TILE:
        scaled = scale_of(resize) != 1
        return _IN_WINDOWS.format(
            head=_HEADS[kind].format(file=file, reading=reading),
            size=tuple(map(int, size.split("x"))),
            shown=_SHOWN.format(scale=scale_of(resize), **_resized(bands)) if scaled else "shown = image\n",
            joined=_ENLARGED if scaled else _JOINED,
            step=1 - OVERLAP,
            classes=classes,
            run=_RUNS[kind],
        )
    part, torch_part = _PARTS[resize]
    resizing = _resizing(resize, size, multiple, bands)
    return _SNIPPETS[kind].format(file=file, reading=reading, resizing=resizing, part=part, torch_part=torch_part)


def _resizing(resize: str, size: str, multiple: str, bands: Bands | None) -> str:
    """The lines that resize an image."""
    return _RESIZING[resize].format(size=tuple(map(int, size.split("x"))), multiple=multiple, **_resized(bands))


def _resized(bands: Bands | None) -> dict[str, str]:
    """What stands around the size in code that resizes; bands one by one, as OpenCV takes four channels at most."""
    if bands is None:
        return {"resized": "cv2.resize(image, (", "end": ""}
    return {"resized": "np.dstack([cv2.resize(band, (", "end": " for band in np.moveaxis(image, -1, 0)])"}


def _data(trained: TrainedModel, manifest: SweepManifest | None) -> list[str]:
    told = trained.record.data
    if manifest is None:
        splits = told.get("splits")
        hashes = [f"- {name}: content hash `{value}`" for name, value in splits.items()] if splits else []
        return [f"- data set {_escaped(str(told.get('name', 'not known')))}", *hashes]
    data = manifest.data
    lines = [f"- data set {_escaped(data.name)}; splits: {_escaped(data.origin)}"]
    learnt = ("train", "val") if "refit" in told else ("train",)
    for name in ("train", "val", "test"):
        split = getattr(data.splits, name)
        use = "learnt from" if name in learnt else "sealed until a report opens it"
        if name == "val":
            chose = "chose the configuration"
            use = f"{chose}, then learnt from" if name in learnt else chose
        lines.append(f"- {name}: {split.images} images, {use}; content hash `{split.hash}`")
    return [*lines, *(f"- known of the data: {_escaped(' '.join(warning.split()))}" for warning in data.warnings)]


def _training(trained: TrainedModel) -> list[str]:
    record = trained.record
    config = record.config
    flat = config.flat()
    shown = {
        key: value
        for key, value in flat.items()
        if not key.startswith(("model.name", "augment.")) and key not in _SHOWN_ALREADY
    }
    return [
        f"- {record.epochs} epochs of images {trained.resizing}, {config.batch_size} at a time",
        f"- augmentation: {_escaped(config.augment.describe())}",
        "- " + ", ".join(f"{key} {value}" for key, value in shown.items()),
    ]


def _scores(trained: TrainedModel, manifest: SweepManifest | None) -> list[str]:
    of = trained.scored
    if of is None or manifest is None or trained.run_dir is None:
        return [f"- {_escaped(trained.provenance.scores)}"]
    objective = recorded_objectives(manifest)[0]
    metric = objective.metric
    before = " (the model before the refit)" if "refit" in trained.record.data else ""
    lines = []
    value = objective.value(of.metrics)
    if value is not None:
        chosen = ", which chose it, so that it is too good on average" if of.label == BEST else ""
        lines.append(f"- val{chosen}; trial {of.trial_id}{before}: {metric.words} {objective.show(value)}")
    tested = _row_of_test(trained.run_dir, of.trial_id)
    if tested is None:
        return [*lines, "- test: not opened by a report of this run, or its tables are gone"]
    name = metric.name if metric.name in tested else "iou"
    words = metric.words if name == metric.name else "mIoU"
    low, high = tested.get(f"{name}_low", math.nan), tested.get(f"{name}_high", math.nan)
    interval = "" if pd.isna(low) or pd.isna(high) else f", 95% interval over images [{low:.4f}, {high:.4f}]"
    lines.append(
        f"- test, {tested['images']} images; trial {of.trial_id}{before}: {words} {tested[name]:.4f}{interval}; "
        f"evidence: one checkpoint{_evidence(tested)}"
    )
    return lines


def _evidence(row: Mapping[str, Any]) -> str:
    told = row.get("evidence")
    return f"; the configuration is {told}" if isinstance(told, str) and told else ""


def _row_of_test(run_dir: Path, trial_id: str) -> dict[str, Any] | None:
    """The row of a trial in the report's comparison on test."""
    try:
        table = pd.read_csv(run_dir / REPORT / TABLES_FOLDER / "comparison.csv", dtype={"trial_id": str})
        rows = table[table["trial_id"] == trial_id].to_dict("records")
    except (OSError, ValueError, KeyError):
        return None
    return {str(key): value for key, value in rows[0].items()} if rows else None


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    flat = "".join(letter if letter.isprintable() else " " for letter in text)
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in flat)
