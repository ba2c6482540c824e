"""From a trained model to a graph without Python: raw images in, logits out, for inputs of any size."""

from __future__ import annotations

import copy
import io
import json
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from analysis.model import TrainedModel
from trainables import commands
from trainables.config import format_size
from trainables.data.tiles import OVERLAP
from trainables.errors import SegsweepError, UsageError
from trainables.models.base import SegmentationModel
from trainables.models.timm_backbones import with_constant_padding
from trainables.options import CROP, STRETCH, TILE, scale_of, way_of

FORMATS = {"onnx": ".onnx", "torch_export": ".pt2"}
"""By name, the usual ending of a file."""
OPSET = 18
"""The opset that torch's exporter writes, and the least that it can."""
METADATA_FILE = "segsweep.json"
"""Among the extra files of a `.pt2`."""
STRIDE = 32
LARGEST_SIDE = 16384
_LEAST_SIDES = (32, 64)
"""Tried in turn: some models cannot be traced for images as small as the first, and some for other sides than multiples
of `STRIDE`."""
_EXAMPLE = (96, 128)
"""Height and width of the images that a model is traced with, at least; they have no influence on the graph."""


class ExportError(SegsweepError):
    """The model cannot be written in this format."""


class RawImages(nn.Module):
    """A model that takes images as files hold them: the normalisation is inside, the auxiliary head is not.

    Args:
        trained: The model; it is copied.

    Attributes:
        multiple: What height and width of an input must be multiples of.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, trained: TrainedModel) -> None:
        super().__init__()
        self.model = copy.deepcopy(trained.model).cpu().eval()
        if getattr(self.model, "aux_classifier", None) is not None:
            self.model.register_module("aux_classifier", None)  # it serves training alone
        self.multiple = math.lcm(STRIDE if with_constant_padding(self.model) else 1, getattr(self.model, "multiple", 1))
        if isinstance(self.model, SegmentationModel):
            self.model.multiple = 1  # others are not let in
        for name, values in trained.normalisation.items():
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1) * 255)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K, H, W) of uint8 images (N, H, W, C): RGB, or the bands of the model."""
        pixels = images.permute(0, 3, 1, 2).float()
        logits: Tensor = self.model((pixels - self.mean) / self.std)["out"]
        return logits


@dataclass(frozen=True)
class Graph:
    """A model that was traced.

    Attributes:
        program: Of torch.
        module: What was traced.
        least: Smallest height and width of an input.
    """

    program: torch.export.ExportedProgram
    module: RawImages
    least: int

    def input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size nearest to a wanted one that the graph takes."""
        by = self.module.multiple
        height, width = (max(self.least, by * max(1, round(side / by))) for side in size)
        return height, width


def traced(trained: TrainedModel) -> Graph:
    """Traces a model for any number of images of any size.

    Raises:
        ExportError: If torch cannot.
    """
    module = RawImages(trained).eval()
    fault: Exception | None = None
    for least, multiple in _ways(module.multiple):
        sides = {place + 1: _side(name, multiple, least) for place, name in enumerate(("height", "width"))}
        height, width = (math.ceil(side / multiple) * multiple for side in _EXAMPLE)
        channels = module.mean.shape[1]
        example = (torch.zeros(2, height, width + (height == width) * multiple, channels, dtype=torch.uint8),)
        shapes = {"images": {0: torch.export.Dim("batch", min=1, max=4096), **sides}}
        try:
            with _quiet(), torch.no_grad():
                program = torch.export.export(module, example, dynamic_shapes=shapes)
                # Some graphs hold the sizes of the example, and say so only when they are run.
                program.module()(torch.zeros(1, 2 * least, 3 * least, channels, dtype=torch.uint8))
        except Exception as error:
            fault = error
        else:
            module.multiple = multiple
            return Graph(program, module, least)
    raise ExportError(
        f"{trained.record.config.model.name} cannot be traced for images of any size by torch {torch.__version__} "
        f"({first_line(fault)}): predict with {commands.prog('analysis.predict')}; docs/PREDICT.md says what can be "
        "exported"
    )


def _ways(multiple: int) -> list[tuple[int, int]]:
    """What is tried in turn: the least side of an image, and what sides must be multiples of."""
    return [
        (multiple * math.ceil(least / multiple), multiple)
        for multiple in dict.fromkeys((multiple, math.lcm(multiple, STRIDE)))
        for least in _LEAST_SIDES
    ]


def check_format(model: nn.Module, kind: str) -> None:
    """Refuses a format that a model is known not to fit, before it is traced.

    Raises:
        ExportError: With the format that it does fit.
    """
    pools = [module.output_size for module in model.modules() if isinstance(module, nn.AdaptiveAvgPool2d)]
    if kind == "onnx" and any(size not in (1, (1, 1)) for size in pools):
        raise ExportError(
            "this model pools its maps to a fixed number of cells (UPerNet, PSPNet), which ONNX Runtime cannot do for "
            "images of any size: give --format torch_export"
        )


def onnx_bytes(graph: Graph, metadata: Mapping[str, str], *, opset: int = OPSET) -> bytes:
    """A traced model as an ONNX file.

    Args:
        graph: The model.
        metadata: Kept in `metadata_props`.
        opset: Of the default domain.

    Raises:
        ExportError: If an operator has no form in ONNX, or the opset is not one that can be written.
        UsageError: If the packages are not installed.
    """
    check_format(graph.module.model, "onnx")
    onnx = needed("onnx")
    needed("onnxscript")
    newest = onnx.defs.onnx_opset_version()
    if not OPSET <= opset <= newest:
        raise UsageError(f"--opset {opset}: torch's exporter and onnx {onnx.__version__} write {OPSET} to {newest}")
    try:
        with _quiet():
            names = {"input_names": ["images"], "output_names": ["logits"]}
            program = torch.onnx.export(graph.program, dynamo=True, opset_version=opset, verbose=False, **names)  # type: ignore[arg-type]
            proto = program.model_proto  # type: ignore[union-attr]
    except Exception as error:
        raise ExportError(f"the model cannot be written as ONNX with opset {opset}: {first_line(error)}") from error
    written = next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    if written != opset:
        raise ExportError(f"--opset {opset}: the model was written with {written}, for it could not be converted")
    for value, axes in ((proto.graph.input[0], (0, 1, 2)), (proto.graph.output[0], (0, 2, 3))):
        for axis, name in zip(axes, ("batch", "height", "width"), strict=True):
            value.type.tensor_type.shape.dim[axis].dim_param = name
    del proto.graph.value_info[:]  # shapes in between, under the names that these dimensions had before
    for key, text in metadata.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, text
    proto.producer_name = "segsweep"
    onnx.checker.check_model(proto)
    return bytes(proto.SerializeToString())


def torch_bytes(graph: Graph, metadata: Mapping[str, str]) -> bytes:
    """A traced model as the file that `torch.export.load` reads, with the metadata as `segsweep.json` in it."""
    stream = io.BytesIO()
    with _quiet():
        torch.export.save(graph.program, stream, extra_files={METADATA_FILE: json.dumps(dict(metadata), indent=1)})
    return stream.getvalue()


def metadata_of(trained: TrainedModel, graph: Graph) -> dict[str, str]:
    """What a user of the file must know, by key; lists and numbers as JSON."""
    record, size = trained.record, graph.input_size(trained.size)
    multiples = f", multiples of {graph.module.multiple}" if graph.module.multiple > 1 else ""
    channels, what = len(trained.normalisation["mean"]), _channels(trained)
    bands = {} if trained.bands is None else {"bands": json.dumps(trained.bands.to_json())}
    return {
        "segsweep.format": "1",
        "classes": json.dumps([info.name for info in trained.classes]),
        "ids": json.dumps(trained.ids),
        "colors": json.dumps([info.color for info in trained.classes]),
        "input": f"images: uint8 (batch, height, width, {channels}), {what}, sides of {graph.least} pixels and more"
        f"{multiples}",
        **bands,
        "output": "logits: float32 (batch, classes, height, width); the class of a pixel is the largest",
        "input_size": format_size(size),
        "multiple": str(graph.module.multiple),
        "resize": trained.resize,
        "resizing": _resizing(trained.resize, format_size(size)),
        "normalisation": json.dumps({**trained.normalisation, "where": "inside the graph"}),
        "model": record.config.model.name,
        "trial_id": record.trial_id,
        "checkpoint_sha256": record.sha256,
        "provenance": "\n".join(trained.provenance.lines()),
    }


def _channels(trained: TrainedModel) -> str:
    """What the channels of an image are, and how files become them."""
    bands = trained.bands
    if bands is None:
        return "RGB"
    pages = ", each page of a file one" if bands.pages else ""
    if bands.scale is not None:
        scale = f"values from {bands.scale[0]:g} to {bands.scale[1]:g} as 0 to 255, those beyond clipped"
    elif trained.image_bits is None:
        scale = "8 bits as they are"
    elif trained.image_bits == 0:
        scale = "values of 0 to 1 times 255, rounded"
    else:
        scale = f"values deeper than 8 bits divided by {2 ** (trained.image_bits - 8)} and rounded down"
    return f"{bands} in this order{pages} ({scale}; no data is 0)"


def _resizing(resize: str, size: str) -> str:
    how = "by the mean over the source area when shrinking (cv2.INTER_AREA), bilinearly when enlarging"
    if resize == STRETCH:
        return (
            f"as in training, each image is stretched to {size} (HEIGHTxWIDTH): {how}; the logits are resized "
            "bilinearly (half-pixel centres) to the size of the image"
        )
    if resize == CROP:
        return (
            f"as in an evaluation, each image keeps its aspect and is resized to cover {size} (HEIGHTxWIDTH), whole: "
            f"one side is that of {size}, the other as long or longer; {how}; the logits are resized bilinearly "
            "(half-pixel centres) to the size of the image"
        )
    if way_of(resize) == TILE:
        scale = scale_of(resize)
        seen = "not resized" if scale == 1 else f"resized to {scale:g} of its height and width ({how})"
        after = "" if scale == 1 else "; the averaged logits are resized bilinearly to the size of the image"
        return (
            f"as in an evaluation, windows of {size} (HEIGHTxWIDTH) slide over each image, which is {seen}, and "
            f"overlap by {OVERLAP:.0%} or more; an image that is smaller goes on below and to the right as its "
            "reflection (cv2.BORDER_REFLECT_101); the logits of windows are averaged, where two neighbours share "
            "pixels with a weight that is 0 in the quarter of them at a window's border and rises linearly over the "
            f"half behind it{after}"
        )
    return (
        f"as in training, each image keeps its aspect and is resized to fit within {size} (HEIGHTxWIDTH): {how}; it "
        "lies in the upper left corner, below and to the right of it is its reflection (cv2.BORDER_REFLECT_101); the "
        "logits are resized bilinearly (half-pixel centres) so that those of the image get its size, and the others "
        "are cut off"
    )


def needed(name: str) -> Any:
    """A package of the extra `export`.

    Raises:
        UsageError: If it is not installed.
    """
    try:
        if name == "onnx":
            import onnx as package
        elif name == "onnxscript":
            import onnxscript as package
        else:
            import onnxruntime as package
        return package
    except ImportError as error:
        raise UsageError(
            f"ONNX needs the package {name}: {commands.EXTRA_EXPORT} in the folder of this project's source, or take "
            "--format torch_export"
        ) from error


def first_line(error: BaseException | None) -> str:
    """What an error of a library says first, short."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else ''}"


def _side(name: str, multiple: int, least: int) -> Any:
    if multiple == 1:
        return torch.export.Dim(name, min=least, max=LARGEST_SIDE)
    return multiple * torch.export.Dim(f"{name}_in_{multiple}", min=least // multiple, max=LARGEST_SIDE // multiple)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings and notes of exporters, which tell a user nothing to act on."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
