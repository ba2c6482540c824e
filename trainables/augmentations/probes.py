"""What a transformation really does to images and masks, tried on drawn ones before a sweep depends on it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from trainables.augmentations import TRANSFORMS
from trainables.augmentations.magnitudes import MAGNITUDES
from trainables.augmentations.policy import (
    Policy,
    library_warnings_are_errors,
    refused_for_bands,
    verify_applied,
)
from trainables.augmentations.spec import PolicySpec
from trainables.augmentations.transforms import TRIVIAL
from trainables.data.base import Image, Mask
from trainables.data.resizing import Size, resize_mask
from trainables.data.void import mask_type, void_id, void_of
from trainables.errors import UsageError, WiringError

SIDE = 128
"""Longer side of the drawn images in pixels: enough for every fault, and a whole space takes less than a second."""

CELLS = 6
"""Cells along each side of a drawn image with few ids."""

UNIQUE_CELLS = 10
"""Cells along each side of a drawn image where each has an id of its own."""

COLOR_STEP = 20
"""Least difference between the colours of two ids, in the channel where they differ most."""

SEEDS = range(8)

BATCH = 4
"""Images of a drawn batch."""

HIDDEN = 124
"""What hidden pixels of probes with other channels than red, green and blue are painted with."""

PIECE = 6
"""Pixels that make a piece of a cell; a seam may leave less on its other side."""

SMOOTH = 2.5
"""Standard deviation in pixels of what is smoothed away before edges are compared."""

IN_STEP = 0.98
"""Least share of the pixels away from seams whose mask can be recomputed from the image."""

IN_PLACE = 0.6
"""Least correlation of an image's edges before and after a change of its colours: the darkest shadow and the strongest
blur leave 0.74, edges four pixels off 0.4, a mirrored image 0.1."""


@dataclass(frozen=True)
class Probe:
    """A quilt of single-coloured cells, whose mask can be recomputed from the image.

    Attributes:
        image: Of shape (H, W, C): red, green and blue in turn.
        mask: Of shape (H, W).
        ids: The ids in the mask, each with its colour.
    """

    image: Image
    mask: Mask
    ids: dict[int, tuple[int, int, int]]

    @classmethod
    def draw(cls, size: Size, cells: Mask, ids: dict[int, tuple[int, int, int]], channels: int) -> Probe:
        """Stretches cells of ids to an image and its mask of that size."""
        mask = resize_mask(cells, size)
        return cls(_colors(ids, channels, mask)[mask], mask, ids)

    def sample(self) -> tuple[Image, Mask]:
        """Copies of image and mask: a transformation may work in place."""
        return self.image.copy(), self.mask.copy()

    def agrees(self, image: Image, mask: Mask) -> npt.NDArray[np.bool_]:
        """Where a pixel has the colour of its id, nearer than any two colours are to each other."""
        return np.asarray(
            cv2.absdiff(image, _colors(self.ids, image.shape[2], mask)[mask]).reshape(image.shape).max(axis=2)
            < COLOR_STEP // 2
        )


def _colors(ids: dict[int, tuple[int, int, int]], channels: int, mask: Mask) -> npt.NDArray[np.uint8]:
    """The colour of every number that a mask can hold, shape (numbers, channels)."""
    table = np.zeros((void_of(mask) + 1, 3), np.uint8)
    table[list(ids)] = list(ids.values())
    return table[:, [channel % 3 for channel in range(channels)]]


def preflight(specs: Iterable[PolicySpec], size: Size, classes: int, channels: int | None = None) -> None:
    """Tries every transformation of some policies, alone, always on and at full magnitude, before a sweep uses them.

    Of each: what was built is what was asked for; image and mask stay in step; what comes from beyond the border is
    void; no id is invented; `p` decides; every seed - so every epoch and sample - draws differently, and only the
    seed decides, not the worker; the library does not warn.

    Args:
        specs: Policies that a sweep can reach.
        size: Height and width of training images; the drawn images have its aspect, up to 2:1.
        classes: Number of classes of the data set.
        channels: Of its images; None: red, green and blue.

    Raises:
        UsageError: If one is only for red, green and blue, and images are something else.
        WiringError: Naming every transformation and fault.
    """
    specs = list(specs)
    if channels is not None:
        everything = PolicySpec("free", tuple(item for spec in specs for item in spec.transforms))
        if refused := refused_for_bands(everything):
            raise UsageError(refused)
    reached = {item.name for spec in specs for item in spec.transforms}
    if "trivial" in reached:
        reached |= set(TRIVIAL)
    height, width = (max(SIDE // 2, round(side * SIDE / max(size))) for side in size)
    faults = [
        fault for name in TRANSFORMS if name in reached for fault in _faults(name, (height, width), classes, channels)
    ]
    if faults:
        raise WiringError(
            "augmentations do not do what they say; leave them out (--set augment.NAME.p=0) or fix them:\n"
            + "\n".join(f"  {fault}" for fault in faults)
        )


def _faults(name: str, size: Size, classes: int, channels: int | None) -> list[str]:
    """Everything that is wrong with a transformation."""
    try:
        with library_warnings_are_errors(name):
            always, sometimes = (_built(_alone(name, p), size, channels, void_id(classes)) for p in (1.0, 0.5))
            for policy in (always, sometimes):
                verify_applied(policy.spec, policy)
            if always.mixes:
                found = [*_batch_faults(always, classes), *_draw_faults(name, always, sometimes, _mixed)]
            else:
                found = [*_sample_faults(always, classes), *_draw_faults(name, always, sometimes, _changed)]
    except WiringError as error:
        found = [str(error)]
    return [f"{name}: {fault}" for fault in dict.fromkeys(found)]


def _built(spec: PolicySpec, size: Size, channels: int | None, void: int) -> Policy:
    return Policy(spec, size, hidden=None if channels is None else (HIDDEN,) * channels, void=void)


def _alone(name: str, p: float) -> PolicySpec:
    full = {"magnitude": 1.0} if name in MAGNITUDES else {}
    return PolicySpec.from_list([{"transform": name, "p": p, **full}])


@functools.cache
def _quilt(size: Size, classes: int, channels: int, *, seed: int = 0) -> Probe:
    """Up to four of the classes, as far apart as their ids can be, and void, in no order."""
    ids = np.unique(np.linspace(0, classes - 1, 4).round().astype(mask_type(classes)))
    colors = ((50, 70, 60), (110, 90, 120), (140, 160, 130), (190, 170, 210), (90, 130, 40))
    void = void_id(classes)
    known = dict(zip([*map(int, ids), void], colors, strict=False))
    cells = np.random.default_rng(seed).choice([*ids, *ids, void], (CELLS, CELLS)).astype(mask_type(classes))
    return Probe.draw(size, cells, known, channels)


@functools.cache
def _unique(size: Size, channels: int, void: int) -> Probe:
    """Every cell an id of its own, from 1."""
    cells = np.arange(1, UNIQUE_CELLS**2 + 1, dtype=np.min_scalar_type(void)).reshape(UNIQUE_CELLS, UNIQUE_CELLS)
    known = {
        int(cells[row, column]): (40 + COLOR_STEP * row, 40 + COLOR_STEP * column, 128)
        for row, column in np.ndindex(*cells.shape)
    }
    return Probe.draw(size, cells, known, channels)


def _sample_faults(policy: Policy, classes: int) -> Iterator[str]:
    """What a transformation does wrong to an image and its mask."""
    quilt, unique = (
        _quilt(policy.size, classes, policy.channels),
        _unique(policy.size, policy.channels, policy.void),
    )
    alone = classes - 1
    for seed in SEEDS:
        image, mask = policy(*quilt.sample(), seed=seed)
        forms = [f"{array.dtype} of {array.shape}" for array in (image, mask, quilt.image, quilt.mask)]
        if forms[:2] != forms[2:]:
            yield "gives image {} and mask {} instead of {} and {}".format(*forms)
            return
        _, padded = policy(quilt.image.copy(), np.full_like(quilt.mask, alone), seed=seed)
        fills = set(np.unique(padded).tolist()) - {alone, policy.void}
        if len(fills) == 1:
            yield f"pads masks with {fills.pop()} instead of void ({policy.void})"
        invented = sorted(fills | set(np.unique(mask).tolist()) - quilt.ids.keys())
        if invented:
            yield f"invents class ids ({', '.join(map(str, invented[:5]))} ...): masks must not be interpolated"
        seen = mask != policy.void
        if np.array_equal(mask[seen], quilt.mask[seen]):
            if _edge_correlation(quilt.image, image, seen) < IN_PLACE:
                yield "moves the image and not its mask"
        else:
            yield from _motion_faults(unique, *policy(*unique.sample(), seed=seed))


def _motion_faults(unique: Probe, image: Image, mask: Mask) -> Iterator[str]:
    """What is wrong with a mask that was moved, where every cell has an id of its own."""
    void = void_of(mask)
    neighbours = np.ones((3, 3), np.uint8)
    inside = (cv2.dilate(mask, neighbours) == cv2.erode(mask, neighbours)) & (mask != void)
    agreeing = unique.agrees(image, mask)[inside].mean() if inside.any() else 0.0
    if agreeing < IN_STEP:
        yield f"image and mask are out of step: {agreeing:.0%} of the pixels away from seams agree"
        return
    pieces = cv2.connectedComponents(inside.astype(np.uint8), connectivity=4)[1]
    parts, pixels = np.unique((void + 1) * pieces[inside] + mask[inside], return_counts=True)
    whole = parts[pixels >= PIECE] % (void + 1)
    if len(whole) > len(np.unique(whole)) + 1:
        yield f"labels the mirror image beyond the border, which must be void ({void})"


def _edge_correlation(before: Image, after: Image, seen: npt.NDArray[np.bool_]) -> float:
    """Cosine between the smoothed Laplacians of two images: 1 where edges have not moved, about 0 where they have."""
    weight = cv2.erode(seen.astype(np.float32), np.ones((9, 9), np.uint8))
    first, second = (
        weight * cv2.Laplacian(cv2.GaussianBlur(image.astype(np.float32).mean(axis=2), (0, 0), SMOOTH), cv2.CV_32F)
        for image in (before, after)
    )
    norm = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / norm if norm > 0 else 1.0


def _batch(size: Size, classes: int, channels: int) -> tuple[Image, Mask]:
    quilts = [_quilt(size, classes, channels, seed=index) for index in range(BATCH)]
    return np.stack([quilt.image for quilt in quilts]), np.stack([quilt.mask for quilt in quilts])


def _batch_faults(policy: Policy, classes: int) -> Iterator[str]:
    """What a mixing does wrong to a batch: pixels move with their labels, exactly, or not at all."""
    colors = _quilt(policy.size, classes, policy.channels)
    for seed in SEEDS:
        mixed = policy.mix(*_batch(policy.size, classes, policy.channels), range(BATCH * seed, BATCH * (seed + 1)))
        agreeing = np.mean([colors.agrees(image, mask) for image, mask in zip(*mixed, strict=True)])
        if agreeing < 1:
            yield f"images and masks are out of step: {agreeing:.1%} of the pixels agree"


Draw = Callable[[Policy, int], bytes]
"""What a policy makes of the same input with a seed."""


def _changed(policy: Policy, seed: int) -> bytes:
    image, mask = policy(*_unique(policy.size, policy.channels, policy.void).sample(), seed=seed)
    return bytes(image.tobytes() + mask.tobytes())


def _mixed(policy: Policy, seed: int) -> bytes:
    images, masks = policy.mix(*_batch(policy.size, BATCH, policy.channels), [seed, *range(BATCH - 1)])
    return bytes(images[0].tobytes() + masks[0].tobytes())


def _draw_faults(name: str, always: Policy, sometimes: Policy, draw: Draw) -> Iterator[str]:
    """Where draws do not come from the seed, and from it alone."""
    first = [draw(always, seed) for seed in SEEDS]
    if [draw(always, seed) for seed in reversed(SEEDS)] != first[::-1]:
        yield "depends on what was drawn before and so on the worker, not on the seed alone"
        return
    varies = name in MAGNITUDES or always.mixes
    if varies and len(set(first)) == 1:
        yield "draws the same for every seed, so in every epoch, for every sample and in every worker"
        return
    channels = None if always.hidden is None else always.channels
    untouched = draw(_built(PolicySpec("none", ()), always.size, channels, always.void), 0)
    changed = [draw(sometimes, seed) != untouched for seed in SEEDS]
    if len(set(changed)) == 1:
        yield f"ignores its probability: at p=0.5 {'all' if changed[0] else 'none'} of {len(changed)} draws changed it"
