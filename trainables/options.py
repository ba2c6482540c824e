"""Choices that are no components, known without torch: the keys `training.*`, `resize`, and precisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from trainables.hyperparameters import Choice, Range

FREEZE = ("none", "batch_norm", "stages", "backbone")

LOSS_STRIDES = (1, 3)
"""Odd, so that the pixel in the middle of each block has its centre where the resized logits have theirs."""

LETTERBOX, STRETCH, CROP, TILE = "letterbox", "stretch", "crop", "tile"
RESIZES = (LETTERBOX, STRETCH, CROP, TILE)
"""How an image comes to the model's input: as the largest of its own aspect that fits, the rest void (`letterbox`);
with each side resized by itself, whatever becomes of its aspect (`stretch`); as the smallest of its own aspect that
covers the input, of which training cuts a part and an evaluation takes the whole (`crop`); or as it is, of which
training cuts parts and an evaluation slides windows over the whole (`tile`). `tile@0.5` does so with the image at half
its resolution."""
CUTTING = (CROP, TILE)
"""Those of which training sees a part of an image, another one in every epoch."""
LEAST_SCALE = 0.05
"""Of `tile@SCALE`."""


def way_of(resize: str) -> str:
    """Which of `RESIZES` a value of `resize` is: `tile` for `tile@0.5`."""
    return TILE if resize.startswith(f"{TILE}@") else resize


def scale_of(resize: str) -> float:
    """The scale at which tiles show an image: 0.5 for `tile@0.5`, 1 for `tile` and for the other ways."""
    return float(resize.removeprefix(f"{TILE}@")) if resize.startswith(f"{TILE}@") else 1.0


def parse_resize(value: object) -> str:
    """A value of `resize` as it is written: one of `RESIZES`, or `tile@SCALE`.

    Raises:
        ValueError: If it is neither.

    Example:
        >>> parse_resize("crop"), parse_resize("tile@.50"), parse_resize("tile@1")
        ('crop', 'tile@0.5', 'tile')
    """
    if value in RESIZES:
        return str(value)
    way, _, scale = str(value).partition("@")
    try:
        number = float(scale) if way == TILE else 0.0
    except ValueError:
        number = 0.0
    if not LEAST_SCALE <= number <= 1:
        ways = " or ".join(RESIZES)
        raise ValueError(f"must be {ways}, or {TILE}@SCALE with a scale of {LEAST_SCALE:g} to 1, not {value!r}")
    return TILE if number == 1 else f"{TILE}@{number:g}"


PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""Torch's name of the type that convolutions and matrix products are computed in; weights and losses are always
float32."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How a trial is trained beside its optimizer and schedule: the keys `training.*`.

    Attributes:
        backbone_lr: Multiplier of the learning rate for the backbone's weights; with predefined weights the new head
            may learn faster than the backbone. A frozen backbone has no rate.
        decay_norms: Whether weight decay also applies to biases and to the scales of normalisation layers. Without it
            (He et al., "Bag of Tricks for Image Classification", 2019) only weights of two dimensions and more decay.
        clip_norm: Largest Euclidean norm of the whole gradient; 0 leaves it as it is.
        accumulate: Batches whose gradients are averaged before a step; BatchNorm still sees one batch at a time.
        ema: Decay of a `MovingAverage` of the model, which is then what is evaluated and saved; 0 turns it off.
        freeze: What is not updated: nothing (`none`), the running statistics of all BatchNorm layers (`batch_norm`),
            these and the first half of the backbone's layers (`stages`), or the whole backbone, its statistics included
            (`backbone`).
        loss_stride: The loss looks at every n-th row and column of the training mask. A head's logits are eight times
            coarser than the mask or more; on a CPU, enlarging them and the loss take most of a step with a small head.
        class_tiles: With `crop` and `tile`, the share of training parts that are drawn to show a class: one of those in
            the image's mask, all alike, then one of its pixels, then a part in which that pixel lies. 0: parts are
            drawn uniformly.
    """

    backbone_lr: Annotated[float, Range(0, 1, exclusive_low=True)] = 1.0
    decay_norms: bool = False
    clip_norm: Annotated[float, Range(0)] = 0.0
    accumulate: Annotated[int, Range(1, 1024)] = 1
    ema: Annotated[float, Range(0, 0.99999)] = 0.0
    freeze: Annotated[str, Choice(FREEZE)] = "none"
    loss_stride: Annotated[int, Choice(LOSS_STRIDES)] = 1
    class_tiles: Annotated[float, Range(0, 1)] = 0.0
