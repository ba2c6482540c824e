"""A policy built for one image size, and the check that it is the one that was asked for."""

from __future__ import annotations

import contextlib
import itertools
import math
import random
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import albumentations as A
import cv2
import numpy as np

from trainables.augmentations import TRANSFORMS
from trainables.augmentations.color import ColorMatrices, ColorMatrix
from trainables.augmentations.geometry import AROUND, Fit, ScaleCrop
from trainables.augmentations.magnitudes import MAGNITUDES
from trainables.augmentations.mixing import Mixing
from trainables.augmentations.spec import PolicySpec, TransformSpec
from trainables.augmentations.transforms import HIDDEN_COLOR, Built, limit_built, only_rgb
from trainables.data.base import Image, Mask
from trainables.data.resizing import Size
from trainables.data.void import VOID
from trainables.errors import UsageError, WiringError
from trainables.options import STRETCH


class Policy:
    """A policy built for one image size: pure functions of images, masks and seeds.

    Args:
        spec: What to apply.
        size: Height and width of the results in pixels.
        resize: How an image comes to that size, one of `RESIZES`, or `tile@SCALE` for images that have that scale.
        hidden: What hidden pixels of images with other channels than red, green and blue are painted with, one value
            for each channel. None: images are RGB.
        void: Of the masks (`SegmentationData.void`).

    Raises:
        UsageError: If a transformation is only for red, green and blue, and images are something else.
        WiringError: If Albumentations ignores an argument.
    """

    def __init__(
        self,
        spec: PolicySpec,
        size: Size,
        *,
        resize: str = STRETCH,
        hidden: Sequence[int] | None = None,
        void: int = VOID,
    ) -> None:
        self.spec = spec
        self.size = size
        self.hidden = hidden
        self.void = void
        self.channels = 3 if hidden is None else len(hidden)
        if hidden is not None and (refused := refused_for_bands(spec)):
            raise UsageError(refused)
        with library_warnings_are_errors(spec.describe()):
            self._built: dict[str, Built] = {
                item.name: TRANSFORMS.get(item.name)(size, **item.settings()) for item in spec.transforms
            }
            if hidden is not None:
                _hide_with(self._built.values(), hidden)
            _fill_with(self._built.values(), void)
            self._fit = Fit(size, resize)
            self._compose = A.Compose(_steps(self._built, self._fit))
        self._mixings = [built for built in self._built.values() if isinstance(built, Mixing)]

    def __call__(
        self, image: Image, mask: Mask, *, seed: int, around: tuple[int, int] | None = None
    ) -> tuple[Image, Mask]:
        """Transforms an image and its mask in step.

        Args:
            image: Of shape (h, w, C).
            mask: Class ids or void of shape (h, w).
            seed: >= 0; the same seed gives the same result whatever ran before and in whatever process.
            around: Row and column of a pixel that lies in the part which is cut out, where one is (`CUTTING`); what
                moves the part afterwards, such as a rotation, may move it out again.

        Returns:
            Image of shape (*size, C) and mask of shape `size`.
        """
        # Compose.set_random_seed(seed) would seed every transformation alike: all would draw the same first number,
        # so that of two transformations with p=0.5 either both are applied or none. They must share one stream.
        self._compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        place = {} if around is None else {AROUND: around}
        result = self._compose(image=image, mask=mask, **place)
        return result["image"], result["mask"]

    @property
    def resize(self) -> str:
        """How an image comes to the policy's size, by what was built."""
        return self._fit.resize

    @property
    def mixes(self) -> bool:
        """Whether `mix` can change a batch."""
        return bool(self._mixings)

    def mix(self, images: Image, masks: Mask, seeds: Sequence[int]) -> tuple[Image, Mask]:
        """Exchanges regions between the samples of a batch; donors are the samples as they came in.

        Args:
            images: Of shape (B, H, W, C).
            masks: Class ids or void of shape (B, H, W).
            seeds: One per sample, >= 0: decides whether it is mixed, with which other sample, and where.

        Returns:
            Images and masks of the same shapes; the inputs themselves if nothing is mixed or there is one sample.
        """
        if not self._mixings or len(images) < 2:
            return images, masks
        mixed_images, mixed_masks = images.copy(), masks.copy()
        for index, seed in enumerate(seeds):
            generator = np.random.default_rng(seed)
            for mixing in self._mixings:
                if generator.random() < mixing.p:
                    donor = (index + generator.integers(1, len(images))) % len(images)
                    region = mixing.region(masks[donor], generator)
                    cv2.copyTo(images[donor], region, mixed_images[index])
                    cv2.copyTo(masks[donor], region, mixed_masks[index])
        return mixed_images, mixed_masks

    def applied(self) -> dict[str, dict[str, Any]]:
        """What was really built, read back from the objects.

        Returns:
            For each transformation `p`, `magnitude` and the `limit` in its own unit that was built (where it has one),
            `class`, and `arguments`: the object's serialised arguments (primitives, lists and dicts only).
        """
        applied: dict[str, dict[str, Any]] = {}
        for name, built in self._built.items():
            entry: dict[str, Any] = {"p": float(built.p)}
            if name in MAGNITUDES:
                entry["limit"] = limit_built(name, built)
                entry["magnitude"] = MAGNITUDES[name].of_limit(entry["limit"])
            applied[name] = entry | _written(built)
        return applied

    def wiring_faults(self, item: TransformSpec) -> list[str]:
        """The differences between a transformation that was asked for and what was built."""
        if item.name not in self._built:
            return [f"{item.name}: not built"]
        built = self._built[item.name]
        faults = []
        if not math.isclose(built.p, item.p, rel_tol=1e-6):
            faults.append(f"{item.name}.p: asked for {item.p:g}, built {built.p:g}")
        if item.magnitude is not None:
            table = MAGNITUDES[item.name]
            asked, limit = table.limit(item.magnitude), limit_built(item.name, built)
            if not math.isclose(limit, asked, rel_tol=1e-6, abs_tol=1e-9):
                faults.append(
                    f"{item.name}.magnitude: asked for {item.magnitude:g} ({table.text.format(asked)}), "
                    f"built {table.of_limit(limit):g} ({table.text.format(limit)})"
                )
        fills = {part.fill_mask for part in _filling([built])} - {self.void}
        return faults + [f"{item.name}: fills masks with {fill} instead of void ({self.void})" for fill in fills]

    @property
    def names(self) -> list[str]:
        """The transformations that were built, in the order of application."""
        return list(self._built)

    @property
    def probabilities(self) -> dict[str, float]:
        """Of each transformation that was built, in the order of application."""
        return {name: float(built.p) for name, built in self._built.items()}


def refused_for_bands(spec: PolicySpec) -> str:
    """Which transformations of a policy are only for red, green and blue, and why; empty if none is."""
    refused = [f"{item.name} ({why})" for item in spec.transforms if (why := only_rgb(item.name))]
    if not refused:
        return ""
    off = " ".join(f"--set augment.{item.name}.p=0" for item in spec.transforms if only_rgb(item.name))
    return f"images have other channels than red, green and blue, which is not for {', '.join(refused)}: {off}"


def _hide_with(parts: Iterable[Built], color: Sequence[int]) -> None:
    for part in parts:
        if getattr(part, "fill", None) == HIDDEN_COLOR:
            part.fill = tuple(color)  # type: ignore[union-attr]


def _fill_with(parts: Iterable[Built], void: int) -> None:
    """Transformations are built without a data set, for masks of bytes."""
    for part in _filling(parts):
        if part.fill_mask == VOID:
            part.fill_mask = void


def _filling(parts: Iterable[Built]) -> list[Any]:
    """Those that fill masks with a number, also where they are some of several that one is drawn from."""
    members = [member for part in parts for member in (part, *getattr(part, "transforms", ()))]
    return [member for member in members if hasattr(member, "fill_mask")]


def verify_applied(spec: PolicySpec, policy: Policy) -> None:
    """Checks that a policy was built as specified: probabilities, magnitudes, and void as the masks' filling.

    Raises:
        WiringError: If not; lists every difference.
    """
    faults = [fault for item in spec.transforms for fault in policy.wiring_faults(item)]
    asked = {item.name for item in spec.transforms}
    faults += [f"{name}: built but not asked for" for name in policy.names if name not in asked]
    if faults:
        raise WiringError("the augmentation policy was not built as configured: " + "; ".join(sorted(faults)))


def _steps(built: Mapping[str, Built], fit: Fit) -> list[A.BasicTransform | A.BaseCompose]:
    """What is done to one image: zoom, which reads the original pixels, resizing, all else; colours in one pass."""
    single = {name: part for name, part in built.items() if not isinstance(part, Mixing)}
    zoom = [single.pop("scale_crop")] if "scale_crop" in single else []
    for part in zoom:
        if isinstance(part, ScaleCrop):
            part.resize = fit.resize
    steps: list[A.BasicTransform | A.BaseCompose] = [*zoom, fit]
    for colors, run in itertools.groupby(single.values(), key=lambda part: isinstance(part, ColorMatrix)):
        parts = list(run)
        steps += [ColorMatrices(parts)] if colors else parts
    return steps


@contextlib.contextmanager
def library_warnings_are_errors(what: str) -> Iterator[None]:
    """Albumentations only warns about arguments that it does not know, and goes on without them.

    Args:
        what: What is being built or run, for the message.

    Raises:
        WiringError: For a warning, or an argument that is refused.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            yield
        except (Warning, ValueError, TypeError) as error:
            raise WiringError(
                f"Albumentations {A.__version__} does not do as asked ({error}): {what}; install the version that the "
                "project pins"
            ) from error


def _written(built: Any) -> dict[str, Any]:
    """Class and arguments of a transformation, and of its members where it chooses among several."""
    if isinstance(built, A.BaseCompose):
        arguments: Any = {"transforms": [_written(member) for member in built.transforms]}
    else:
        arguments = {} if isinstance(built, Mixing) else _primitive(built.get_transform_init_args())
    return {"class": type(built).__name__, "arguments": arguments}


def _primitive(value: Any) -> Any:
    """Mappings, sequences and numbers as JSON has them."""
    if isinstance(value, Mapping):
        return {str(key): _primitive(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_primitive(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return value
