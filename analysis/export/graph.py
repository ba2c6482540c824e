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

from analysis.export.pooling import pool_in_any_format
from analysis.model import TrainedModel
from trainables import commands
from trainables.config import format_size
from trainables.errors import SegsweepError, UsageError
from trainables.models.base import SegmentationModel
from trainables.models.timm_backbones import with_constant_padding
from trainables.options import CROP, LETTERBOX

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
_ENDLESS = ("SwinTransformerBlock",)
"""Modules of timm whose shapes torch 2.15 was still working out after 3.5 minutes of processor time."""
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
        pool_in_any_format(self.model)
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
        fixed: The one size that it takes, or None where it takes others.
    """

    program: torch.export.ExportedProgram
    module: RawImages
    least: int
    fixed: tuple[int, int] | None = None

    def input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size nearest to a wanted one that the graph takes."""
        return self.fixed or _rounded(size, self.module.multiple, self.least)

    def resize(self, trained: TrainedModel) -> str:
        """How images are brought to the graph's input.

        That of the model; where it keeps the aspect of images and the graph takes one size, they are letterboxed.
        """
        return LETTERBOX if self.fixed and trained.resize == CROP else trained.resize


def traced(trained: TrainedModel, *, fixed: tuple[int, int] | None = None) -> Graph:
    """Traces a model for any number of images.

    Args:
        trained: The model.
        fixed: Height and width of the only images that the graph must take, rounded to what the model takes; by
            default it takes any size.

    Raises:
        ExportError: If torch cannot.
    """
    module = RawImages(trained).eval()
    batch, channels = torch.export.Dim("batch", min=1, max=4096), module.mean.shape[1]
    if fixed is not None:
        size = _rounded(fixed, module.multiple, 1)
        try:
            with _quiet(), torch.no_grad():
                example = (torch.zeros(2, *size, channels, dtype=torch.uint8),)
                program = torch.export.export(module, example, dynamic_shapes={"images": {0: batch}})
        except Exception as error:
            raise ExportError(_refusal(trained, f"of {format_size(size)}", first_line(error))) from error
        return Graph(program, module, min(size), size)
    if any(type(part).__name__ in _ENDLESS for part in module.modules()):
        raise ExportError(_one_size_alone(trained, "its shifted windows take torch minutes without an end"))
    fault: Exception | None = None
    for least, multiple in _ways(module.multiple):
        sides = {place + 1: _side(name, multiple, least) for place, name in enumerate(("height", "width"))}
        height, width = (math.ceil(side / multiple) * multiple for side in _EXAMPLE)
        example = (torch.zeros(2, height, width + (height == width) * multiple, channels, dtype=torch.uint8),)
        try:
            with _quiet(), torch.no_grad():
                program = torch.export.export(module, example, dynamic_shapes={"images": {0: batch, **sides}})
                # Some graphs hold the sizes of the example, and say so only when they are run.
                program.module()(torch.zeros(1, 2 * least, 3 * least, channels, dtype=torch.uint8))
        except Exception as error:
            fault = error
        else:
            module.multiple = multiple
            return Graph(program, module, least)
    raise ExportError(_one_size_alone(trained, first_line(fault)))


def _rounded(size: tuple[int, int], multiple: int, least: int) -> tuple[int, int]:
    height, width = (max(least, multiple * max(1, round(side / multiple))) for side in size)
    return height, width


def _refusal(trained: TrainedModel, what: str, why: str) -> str:
    name = trained.record.config.model.name
    return f"{name} cannot be traced for images {what} by torch {torch.__version__} ({why})"


def _one_size_alone(trained: TrainedModel, why: str) -> str:
    return f"{_refusal(trained, 'of any size', why)}: --fixed-size writes it for images of one size"


def _ways(multiple: int) -> list[tuple[int, int]]:
    """What is tried in turn: the least side of an image, and what sides must be multiples of."""
    return [
        (multiple * math.ceil(least / multiple), multiple)
        for multiple in dict.fromkeys((multiple, math.lcm(multiple, STRIDE)))
        for least in _LEAST_SIDES
    ]


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
    free = ("batch",) if graph.fixed else ("batch", "height", "width")
    for value, axes in ((proto.graph.input[0], (0, 1, 2)), (proto.graph.output[0], (0, 2, 3))):
        for axis, name in zip(axes, free, strict=False):
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
