"""Whether a written file computes what the model computes: on images of val, with the time of both."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from analysis.export.graph import Graph, needed
from analysis.model import TrainedModel
from analysis.predicting import Predictor
from trainables.data.base import Image, Mask
from trainables.data.resizing import Size, content_size, fit_image, resize_image
from trainables.latency import Latency, one_thread, time_calls
from trainables.loaders import mask_tensor
from trainables.logits import predicted_class, resize_logits, seen_share
from trainables.metrics import confusion_matrix, summary
from trainables.options import CROP, TILE, way_of
from trainables.windows import in_tiles

Run = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
"""Images (N, H, W, C) to logits (N, K, H, W), by the file."""
NOISE_IMAGES = 8
"""Images of random numbers that are compared where there is no val to read."""
LEAST_EQUAL = 0.99
"""Share of pixels below which a file is refused: rounding does not change so many."""


@dataclass(frozen=True)
class Parity:
    """A file beside its model.

    Attributes:
        images: How many were compared, each brought to the file's input size as in training.
        pixels: Of these.
        equal: Share of them that get the same class from both, on the same input.
        file_miou: On the images at their own size, by the file and its resizing rule; None without masks.
        report_miou: As `analysis.report` computes it; None without masks.
        of_model: Time for one image by PyTorch.
        of_file: Time for it by the file.
        runtime: What ran the file.
    """

    images: int
    pixels: int
    equal: float
    file_miou: float | None
    report_miou: float | None
    of_model: Latency
    of_file: Latency
    runtime: str

    def lines(self) -> list[str]:
        """What was found, for a terminal and the card."""
        seen = f"{self.images} images of val" if self.file_miou is not None else f"{self.images} images of noise"
        told = [f"the same class as PyTorch in {_percent(self.equal)} of {self.pixels:,} pixels ({seen})"]
        if self.file_miou is not None and self.report_miou is not None:
            difference = self.file_miou - self.report_miou
            told.append(
                f"mIoU {self.file_miou:.4f} by the file, {self.report_miou:.4f} as the report computes it "
                f"(difference {difference:+.4f}) on these images"
            )
        told.append(
            f"{_time(self.of_model)} by PyTorch, {_time(self.of_file)} by {self.runtime}: median for one image, one "
            "thread, with the distance of the quartiles"
        )
        return told


def onnx_runner(content: bytes) -> tuple[Run, str]:
    """What runs an ONNX file with ONNX Runtime on one thread, and what that is called."""
    runtime = needed("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return (lambda images: session.run(["logits"], {"images": images})[0]), f"ONNX Runtime {runtime.__version__}"


def torch_runner(content: bytes) -> tuple[Run, str]:
    """What runs a `.pt2` that this process has just written."""
    module: Any = torch.export.load(io.BytesIO(content)).module()

    def run(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        with torch.no_grad():
            return np.asarray(module(torch.from_numpy(images)))

    return run, f"the program of torch {torch.__version__}"


def compare(
    trained: TrainedModel,
    graph: Graph,
    run: Run,
    runtime: str,
    pairs: Sequence[Callable[[], tuple[Image, Mask]]],
    *,
    advance: Callable[[], None] = lambda: None,
) -> Parity:
    """Compares a file with its model.

    Args:
        trained: The model.
        graph: What was written.
        run: Runs the file.
        runtime: What that is called.
        pairs: Read an image, uint8 (H, W, C), and its mask (H, W); without any, noise is compared.
        advance: Called after each image.
    """
    size, classes = graph.input_size(trained.size), len(trained.classes)
    resize = graph.resize(trained)
    channels = len(trained.normalisation["mean"])
    report = Predictor(trained)
    rng = np.random.default_rng(0)
    same = pixels = 0
    by_file = torch.zeros(classes, classes, dtype=torch.int64)
    as_reported = torch.zeros(classes, classes, dtype=torch.int64)

    def both(images: Tensor) -> Tensor:
        """Logits by the file, after a look at how many pixels get the same class from the model."""
        nonlocal same, pixels
        with torch.no_grad():
            own = graph.module(images)
        logits = torch.from_numpy(run(images.numpy()))
        for one, other in zip(logits, own, strict=True):
            same += int((predicted_class(one) == predicted_class(other)).sum())
            pixels += one[0].numel()
        return logits

    for place in range(len(pairs) or NOISE_IMAGES):
        pair = pairs[place]() if pairs else None
        image = pair[0] if pair else rng.integers(0, 256, (*size, channels), dtype=np.uint8)
        found = torch.cat([predicted_class(band) for band in _logits(both, image, resize, graph, size)])
        if pair:
            target = mask_tensor(pair[1])
            by_file += confusion_matrix(found, target, classes)
            as_reported += confusion_matrix(mask_tensor(report(image).classes), target, classes)
        advance()
    noise = rng.integers(0, 256, (1, *size, channels), dtype=np.uint8)
    tensor = torch.from_numpy(noise)
    with one_thread(), torch.no_grad():
        of_model = time_calls(lambda: graph.module(tensor))
        of_file = time_calls(lambda: run(noise))
    by_both = [summary(matrix.numpy())["val/miou"] if pairs else None for matrix in (by_file, as_reported)]
    images = len(pairs) or NOISE_IMAGES
    return Parity(images, pixels, same / pixels, by_both[0], by_both[1], of_model, of_file, runtime)


def _logits(run: Callable[[Tensor], Tensor], image: Image, resize: str, graph: Graph, size: Size) -> Iterator[Tensor]:
    """Logits (C, H, W) of an image as its file's resizing rule has them, in bands of rows."""
    full = (image.shape[0], image.shape[1])
    if way_of(resize) == TILE:
        yield from in_tiles(run, resize_image(image, content_size(full, size, resize)), size, full, at_once=1)
        return
    shown = fit_image(image, size, resize)
    if resize == CROP:
        shown = resize_image(shown, graph.input_size((shown.shape[0], shown.shape[1])))
    logits = run(torch.from_numpy(np.ascontiguousarray(shown)[None]))[0]
    yield resize_logits(logits, full, seen=seen_share(full, size, resize))


def _percent(share: float) -> str:
    """A share that is not 1 is never shown as 100%."""
    return "100%" if share == 1 else f"{min(share, 0.999999):.4%}"


def _time(latency: Latency) -> str:
    return f"{latency.ms:.1f} ms ± {latency.spread:.0%}"
