"""Augmentation policies: what happens to a training image and its mask before the model sees them.

A *transformation* (`TRANSFORMS`) has a probability `p` and, but for the flip, one magnitude; a *policy family*
(`POLICIES`) names the transformations that may be on. `PolicySpec` is a policy as data (flat keys, validated, one
readable line), `Policy` the same policy built with Albumentations - the only place of the project that imports it.

Pixels that the camera never saw become void: what a rotation, shift or zoom-out brings in from beyond the border is
`VOID` in the mask, and so is what coarse dropout hides. In the image, space beyond the border is filled by reflection
rather than by a constant: as no loss is taken there, its only effect is on the statistics of BatchNorm and on the
context of the pixels next to it, and a reflection leaves both as they are in real images.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import os
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, cast

import numpy as np
import numpy.typing as npt

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2

from trainables.data.base import VOID, Image, Mask
from trainables.errors import ConfigError, UnknownNameError, WiringError
from trainables.registry import Parameter, Range, Registry, Scalar

cv2.setNumThreads(0)

Size = tuple[int, int]
"""Height and width in pixels."""

Frame = tuple[int, int, int, int]
"""Pixels added at the top, bottom, left and right."""

HIDDEN_COLOR = (124, 116, 104)
"""The RGB mean of ImageNet, about zero after normalisation: what coarse dropout paints."""

Probability = Annotated[float, Range(0, 1)]
_PROBABILITY = Parameter("p", float, None, Range(0, 1))

TRANSFORMS: Registry[Callable[..., A.BasicTransform]] = Registry("transformation")
"""Factories `(size, p, *, MAGNITUDE) -> transform`, in the order in which a policy applies them."""

_MAGNITUDE_BUILT: dict[str, Callable[[Any], float]] = {}
"""Reads a transformation's magnitude back from the Albumentations object; none for those without a magnitude."""

POLICIES: Registry[Callable[[], dict[str, float]]] = Registry("policy")
"""Families: functions that give the transformations that may be on, each with its default probability."""


def _transformation(
    name: str, *, magnitude_built: Callable[[Any], float] | None = None
) -> Callable[[Callable[..., A.BasicTransform]], Callable[..., A.BasicTransform]]:
    """Registers a transformation together with the way to read its magnitude back from what was built."""

    def decorate(factory: Callable[..., A.BasicTransform]) -> Callable[..., A.BasicTransform]:
        if magnitude_built is not None:
            _MAGNITUDE_BUILT[name] = magnitude_built
        return TRANSFORMS.register(name)(factory)

    return decorate


# Geometric: where the camera stands.


def resize(image: Image, mask: Mask, size: Size) -> tuple[Image, Mask]:
    """Stretches image and mask to `size`: averaging or bilinear for the image, nearest pixel centre for the mask."""
    return _resize_image(image, size), _resize_mask(mask, size)


def _resize_image(image: Image, size: Size) -> Image:
    if image.shape[:2] == size:
        return image
    shrinks = size[0] < image.shape[0] and size[1] < image.shape[1]
    return _uint8(cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR))


def _resize_mask(mask: Mask, size: Size) -> Mask:
    # INTER_NEAREST takes the pixel to the top left, half a pixel away from where the image is sampled.
    return mask if mask.shape == size else _uint8(cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT))


def _pad(array: Image, frame: Frame, border: int, fill: int = 0) -> Image:
    return _uint8(cv2.copyMakeBorder(array, *frame, border, value=fill)) if any(frame) else array


def _uint8(array: Any) -> Image:
    """What OpenCV returns for a uint8 array; its stubs do not know."""
    return cast("Image", array)


class Fit(A.DualTransform):  # type: ignore[misc]
    """Stretches an image that is not of the policy's size yet (no zoom did so) to it."""

    def __init__(self, size: Size) -> None:
        super().__init__(p=1.0)
        self.size = size

    def apply(self, img: Image, **params: Any) -> Image:
        """Resizes the image."""
        return _resize_image(img, self.size)

    def apply_to_mask(self, mask: Mask, **params: Any) -> Mask:
        """Resizes the mask without inventing ids."""
        return _resize_mask(mask, self.size)


class ScaleCrop(A.DualTransform):  # type: ignore[misc]
    """Zooms by a log-uniform factor and crops or pads to `size`, at a uniform position.

    The factor is relative to the image stretched to `size`. Zooming in cuts the window out of the original image and
    resizes only that; zooming out shrinks the image and pads it.

    Args:
        size: Height and width of the result in pixels.
        scale_limits: Smallest and largest factor.
        p: Probability.
    """

    def __init__(self, size: Size, scale_limits: tuple[float, float], p: float) -> None:
        super().__init__(p=p)
        self.size = size
        self.scale_limits = scale_limits

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draws the window that is cut out of the image, and the frame that is put around the result."""
        low, high = self.scale_limits
        scale = math.exp(self.py_random.uniform(math.log(low), math.log(high)))
        source = params["shape"][:2]
        window = [max(1, round(side / max(scale, 1.0))) for side in source]
        inner = [max(1, round(side * min(scale, 1.0))) for side in self.size]
        corner = [self.py_random.randint(0, side - part) for side, part in zip(source, window, strict=True)]
        before = [self.py_random.randint(0, side - part) for side, part in zip(self.size, inner, strict=True)]
        after = [side - part - first for side, part, first in zip(self.size, inner, before, strict=True)]
        rows, columns = (slice(first, first + part) for first, part in zip(corner, window, strict=True))
        return {"cut": (rows, columns), "inner": tuple(inner), "frame": (before[0], after[0], before[1], after[1])}

    def apply(self, img: Image, cut: tuple[slice, slice], inner: Size, frame: Frame, **params: Any) -> Image:
        """Cuts, resizes and pads the image by reflection."""
        part = _resize_image(img[cut], inner)
        return _pad(part, frame, cv2.BORDER_REFLECT_101)

    def apply_to_mask(self, mask: Mask, cut: tuple[slice, slice], inner: Size, frame: Frame, **params: Any) -> Mask:
        """Cuts, resizes and pads the mask with void."""
        part = _resize_mask(mask[cut], inner)
        return _pad(part, frame, cv2.BORDER_CONSTANT, VOID)


class Warp(A.DualTransform):  # type: ignore[misc]
    """Rotates about the centre and shifts; the image is filled by reflection, the mask with void.

    `albumentations.Affine` has one border mode for both, so that under reflection it labels the mirror image.

    Args:
        rotate_limit: Largest angle in degrees, either way.
        shift_limit: Largest shift as a fraction of the width and of the height, either way.
        p: Probability.
    """

    def __init__(self, *, rotate_limit: float = 0.0, shift_limit: float = 0.0, p: float) -> None:
        super().__init__(p=p)
        self.rotate_limit = rotate_limit
        self.shift_limit = shift_limit

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draws the angle and the shifts, as a matrix from source to result in (x, y) pixel coordinates."""
        height, width = params["shape"][:2]
        angle = self.py_random.uniform(-self.rotate_limit, self.rotate_limit)
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
        matrix[0, 2] += self.py_random.uniform(-self.shift_limit, self.shift_limit) * width
        matrix[1, 2] += self.py_random.uniform(-self.shift_limit, self.shift_limit) * height
        return {"matrix": matrix}

    def apply(self, img: Image, matrix: npt.NDArray[np.float64], **params: Any) -> Image:
        """Warps the image bilinearly."""
        size = img.shape[1::-1]
        return _uint8(cv2.warpAffine(img, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101))

    def apply_to_mask(self, mask: Mask, matrix: npt.NDArray[np.float64], **params: Any) -> Mask:
        """Warps the mask by nearest neighbour."""
        nearest, constant = cv2.INTER_NEAREST, cv2.BORDER_CONSTANT
        size = mask.shape[1::-1]
        return _uint8(cv2.warpAffine(mask, matrix, size, flags=nearest, borderMode=constant, borderValue=VOID))


@_transformation("scale_crop", magnitude_built=lambda built: built.scale_limits[1] - 1)
def scale_crop(
    size: Size, p: float, *, limit: Annotated[float, Range(0, 3, exclusive_low=True)] = 0.5
) -> A.BasicTransform:
    """Zoom by a log-uniform factor in [1 / (1 + limit), 1 + limit], then a random crop, or padding at random sides."""
    return ScaleCrop(size, (1 / (1 + limit), 1 + limit), p)


@_transformation("hflip")
def hflip(size: Size, p: float) -> A.BasicTransform:
    """Left and right swapped."""
    return A.HorizontalFlip(p=p)


@_transformation("rotate", magnitude_built=lambda built: built.rotate_limit)
def rotate(
    size: Size, p: float, *, limit: Annotated[float, Range(0, 180, exclusive_low=True)] = 10.0
) -> A.BasicTransform:
    """Rotation about the centre by a uniform angle in [-limit, limit] degrees."""
    return Warp(rotate_limit=limit, p=p)


@_transformation("shift", magnitude_built=lambda built: built.shift_limit)
def shift(
    size: Size, p: float, *, limit: Annotated[float, Range(0, 0.9, exclusive_low=True)] = 0.1
) -> A.BasicTransform:
    """Shift by a uniform fraction in [-limit, limit] of the width, and another of the height."""
    return Warp(shift_limit=limit, p=p)


# Photometric: the light and the sensor's colours.


def _color_jitter(p: float, **ranges: tuple[float, float]) -> A.ColorJitter:
    unchanged = {"brightness": (1.0, 1.0), "contrast": (1.0, 1.0), "saturation": (1.0, 1.0), "hue": (0.0, 0.0)}
    return A.ColorJitter(**(unchanged | ranges), p=p)


@_transformation("brightness", magnitude_built=lambda built: built.brightness[1] - 1)
def brightness(
    size: Size, p: float, *, limit: Annotated[float, Range(0, 1, exclusive_low=True)] = 0.3
) -> A.BasicTransform:
    """All values times a uniform factor in [1 - limit, 1 + limit]."""
    return _color_jitter(p, brightness=(1 - limit, 1 + limit))


@_transformation("contrast", magnitude_built=lambda built: built.contrast[1] - 1)
def contrast(
    size: Size, p: float, *, limit: Annotated[float, Range(0, 1, exclusive_low=True)] = 0.3
) -> A.BasicTransform:
    """Distance from the image's mean grey times a uniform factor in [1 - limit, 1 + limit]."""
    return _color_jitter(p, contrast=(1 - limit, 1 + limit))


@_transformation("saturation", magnitude_built=lambda built: built.saturation[1] - 1)
def saturation(
    size: Size, p: float, *, limit: Annotated[float, Range(0, 1, exclusive_low=True)] = 0.3
) -> A.BasicTransform:
    """Distance from the pixel's own grey times a uniform factor in [1 - limit, 1 + limit]."""
    return _color_jitter(p, saturation=(1 - limit, 1 + limit))


@_transformation("hue", magnitude_built=lambda built: built.hue[1])
def hue(size: Size, p: float, *, limit: Annotated[float, Range(0, 0.5, exclusive_low=True)] = 0.03) -> A.BasicTransform:
    """Hue turned by a uniform fraction in [-limit, limit] of the colour circle."""
    return _color_jitter(p, hue=(-limit, limit))


@_transformation("gamma", magnitude_built=lambda built: built.gamma_limit[1] / 100 - 1)
def gamma(size: Size, p: float, *, limit: Annotated[float, Range(0, 3, exclusive_low=True)] = 0.3) -> A.BasicTransform:
    """Values (0 .. 1) to the power of a uniform exponent in [1 / (1 + limit), 1 + limit]."""
    return A.RandomGamma(gamma_limit=(100 / (1 + limit), 100 * (1 + limit)), p=p)


# Blur, noise, compression: the lens, the sensor, the file.


@_transformation("blur", magnitude_built=lambda built: built.sigma_limit[1])
def blur(size: Size, p: float, *, sigma: Annotated[float, Range(0.5, 10)] = 1.0) -> A.BasicTransform:
    """Gaussian blur with a standard deviation uniform in [0, sigma] pixels; below 0.29 it changes nothing."""
    return A.GaussianBlur(blur_limit=0, sigma_limit=(0.0, sigma), p=p)


@_transformation("noise", magnitude_built=lambda built: built.std_range[1])
def noise(size: Size, p: float, *, std: Annotated[float, Range(0, 0.5, exclusive_low=True)] = 0.05) -> A.BasicTransform:
    """Gaussian noise, independent in every channel, with a standard deviation uniform in [0, std] of full scale."""
    return A.GaussNoise(std_range=(0.0, std), mean_range=(0.0, 0.0), per_channel=True, p=p)


@_transformation("jpeg", magnitude_built=lambda built: 100 - built.quality_range[0])
def jpeg(size: Size, p: float, *, compression: Annotated[int, Range(1, 95)] = 60) -> A.BasicTransform:
    """JPEG compression with a quality uniform in [100 - compression, 100]."""
    return A.ImageCompression(compression_type="jpeg", quality_range=(100 - compression, 100), p=p)


# Erasing: something stands in between.


@_transformation("dropout", magnitude_built=lambda built: built.hole_height_range[1])
def dropout(
    size: Size, p: float, *, extent: Annotated[float, Range(0, 0.9, exclusive_low=True)] = 0.25
) -> A.BasicTransform:
    """One to four rectangles hidden, each side uniform in [extent / 4, extent] of the image's; hidden pixels are void.

    DeVries and Taylor, "Cutout", 2017. Void, because a class that cannot be seen cannot be asked for: the model learns
    to do without a part of the context, not to guess what is behind the rectangle.
    """
    sides = (extent / 4, extent)
    return A.CoarseDropout(
        num_holes_range=(1, 4),
        hole_height_range=sides,
        hole_width_range=sides,
        fill=HIDDEN_COLOR,
        fill_mask=VOID,
        p=p,
    )


@POLICIES.register("none")
def none() -> dict[str, float]:
    """Images as they are."""
    return {}


@POLICIES.register("flip")
def flip() -> dict[str, float]:
    """Mirrored or not: the baseline of most segmentation papers."""
    return {"hflip": 0.5}


@POLICIES.register("geometric")
def geometric() -> dict[str, float]:
    """Where the camera stands: zoom, mirror, roll, position."""
    return {"scale_crop": 0.8, "hflip": 0.5, "rotate": 0.5, "shift": 0.5}


@POLICIES.register("photometric")
def photometric() -> dict[str, float]:
    """The light and the sensor's colours."""
    return {"brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.5, "gamma": 0.5}


@POLICIES.register("blur_noise")
def blur_noise() -> dict[str, float]:
    """The lens, the sensor's noise, the file's compression."""
    return {"blur": 0.3, "noise": 0.3, "jpeg": 0.3}


@POLICIES.register("erasing")
def erasing() -> dict[str, float]:
    """Parts of the image hidden."""
    return {"dropout": 0.5}


@POLICIES.register("all")
def all_transformations() -> dict[str, float]:
    """Every transformation at once, each with less probability than in its own family."""
    return {
        "scale_crop": 0.6,
        "hflip": 0.5,
        "rotate": 0.3,
        "shift": 0.3,
        "brightness": 0.3,
        "contrast": 0.3,
        "saturation": 0.3,
        "hue": 0.3,
        "gamma": 0.3,
        "blur": 0.15,
        "noise": 0.15,
        "jpeg": 0.15,
        "dropout": 0.3,
    }


def family_transforms(family: str) -> dict[str, float]:
    """The transformations that a family may contain, in the order of application, with their default probabilities.

    Raises:
        UnknownNameError: If there is no such family; lists the close names.
    """
    probabilities = POLICIES.get(family)()
    return {name: probabilities[name] for name in TRANSFORMS if name in probabilities}


@dataclass(frozen=True)
class TransformSpec:
    """One transformation that is on: its probability (0 < p <= 1) and its magnitude, if it has one."""

    name: str
    p: float
    params: Mapping[str, Scalar] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class PolicySpec:
    """A policy as data: the transformations that are on, in the order of application."""

    family: str
    transforms: tuple[TransformSpec, ...]

    @classmethod
    def from_flat(cls, flat: Mapping[str, Any]) -> PolicySpec:
        """Reads a policy from keys without their `augment.` prefix.

        Transformations of the family that are not mentioned have the family's defaults; `p` 0 turns one off.

        Args:
            flat: E.g. `{"policy": "geometric", "rotate.p": 0.5, "rotate.limit": 20}`; values may be text.

        Raises:
            ConfigError: If anything is wrong; lists all faults under their full keys.
        """
        family = str(flat.get("policy", "none"))
        try:
            probabilities = family_transforms(family)
        except UnknownNameError as error:
            raise ConfigError(f"augment.policy: {error}") from error
        settings: dict[str, dict[str, Any]] = {name: {} for name in probabilities}
        faults: list[str] = []
        for key, value in flat.items():
            if key == "policy":
                continue
            name, _, parameter = key.partition(".")
            fault = _key_fault(key, family, probabilities)
            if fault is None:
                settings[name][parameter] = value
            else:
                faults.append(fault)
        transforms = []
        for name, p in probabilities.items():
            spec = _read_transform(name, p, settings[name], faults)
            if spec is not None:
                transforms.append(spec)
        if faults:
            raise ConfigError("\n".join(faults))
        return cls(family, tuple(transforms))

    def flat(self) -> dict[str, Scalar]:
        """All of the policy as keys without prefix; `from_flat` reads the same policy from it."""
        flat: dict[str, Scalar] = {"policy": self.family}
        on = {spec.name: spec for spec in self.transforms}
        for name in family_transforms(self.family):
            flat[f"{name}.p"] = on[name].p if name in on else 0.0
            if name in on:
                flat |= {f"{name}.{parameter}": value for parameter, value in on[name].params.items()}
        return flat

    def describe(self) -> str:
        """One readable line, e.g. `geometric: hflip p=0.50 · rotate p=0.50 limit=20`."""
        words = [
            " ".join([spec.name, f"p={spec.p:.2f}", *(f"{name}={value:.3g}" for name, value in spec.params.items())])
            for spec in self.transforms
        ]
        return f"{self.family}: {' · '.join(words) or 'images as they are'}"


def _key_fault(key: str, family: str, members: Mapping[str, float]) -> str | None:
    """Says what is wrong with a key of a policy of that family, or returns None."""
    name = key.partition(".")[0]
    if name in TRANSFORMS and name not in members:
        return f"augment.{key}: {name} is not in policy {family!r}, which has {', '.join(members) or 'none'}"
    known = [f"{member}.{option}" for member in members for option in ("p", *TRANSFORMS.parameters(member))]
    if key in known:
        return None
    close = [f"augment.{match}" for match in difflib.get_close_matches(key, known, n=3, cutoff=0.6)]
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known) or 'none in this policy'}"
    return f"augment.{key}: unknown; {hint}"


def _read_transform(name: str, p: float, settings: Mapping[str, Any], faults: list[str]) -> TransformSpec | None:
    """Validates one transformation's settings; adds what is wrong to `faults`. None if it is off."""
    values: dict[str, Scalar] = {"p": p}
    parameters = TRANSFORMS.parameters(name)
    values |= {option: parameter.default for option, parameter in parameters.items() if parameter.default is not None}
    for option, value in settings.items():
        parameter = _PROBABILITY if option == "p" else parameters[option]
        try:
            values[option] = parameter.parse(value)
        except ValueError as error:
            faults.append(f"augment.{name}.{option}: {error}, not {value!r}")
    probability = float(values.pop("p"))
    if probability > 0:
        return TransformSpec(name, probability, values)
    faults.extend(
        f"augment.{name}.{option}: {name} is off (augment.{name}.p is 0); leave it out"
        for option in settings
        if option != "p"
    )
    return None


class Policy:
    """A policy built for one image size: a pure function of image, mask and seed.

    Args:
        spec: What to apply.
        size: Height and width of the results in pixels.

    Raises:
        WiringError: If Albumentations ignores an argument.
    """

    def __init__(self, spec: PolicySpec, size: Size) -> None:
        self.spec = spec
        self.size = size
        with _library_warnings_are_errors(spec):
            self._built = {
                item.name: TRANSFORMS.get(item.name)(size, item.p, **item.params) for item in spec.transforms
            }
            self._compose = A.Compose(_with_fit(self._built, size))

    def __call__(self, image: Image, mask: Mask, *, seed: int) -> tuple[Image, Mask]:
        """Transforms an image and its mask in step.

        Args:
            image: RGB of shape (h, w, 3); stretched to `size` unless a zoom takes it there.
            mask: Class ids or `VOID` of shape (h, w).
            seed: >= 0; the same seed gives the same result whatever ran before and in whatever process.

        Returns:
            Image of shape (*size, 3) and mask of shape `size`.
        """
        # Compose.set_random_seed(seed) would seed every transformation alike: all would draw the same first number,
        # so that of two transformations with p=0.5 either both are applied or none. They must share one stream.
        self._compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        result = self._compose(image=image, mask=mask)
        return result["image"], result["mask"]

    def applied(self) -> dict[str, dict[str, Any]]:
        """What was really built, read back from the Albumentations objects.

        Returns:
            For each transformation `p`, its magnitude under its own name, `class`, and `arguments`: the object's
            serialised arguments (primitives, lists and dicts only).
        """
        applied: dict[str, dict[str, Any]] = {}
        for name, built in self._built.items():
            entry: dict[str, Any] = {"p": float(built.p)}
            if name in _MAGNITUDE_BUILT:
                (magnitude,) = TRANSFORMS.parameters(name)
                entry[magnitude] = float(_MAGNITUDE_BUILT[name](built))
            entry["class"] = type(built).__name__
            entry["arguments"] = _primitive(built.get_transform_init_args())
            applied[name] = entry
        return applied


def verify_applied(spec: PolicySpec, policy: Policy) -> None:
    """Checks that a policy was built as specified: probabilities, magnitudes, and void as the masks' filling.

    Raises:
        WiringError: If not; lists every difference.
    """
    applied = policy.applied()
    wanted: dict[str, Mapping[str, Scalar]] = {item.name: {"p": item.p, **item.params} for item in spec.transforms}
    faults = [f"{name}: not built" for name in wanted if name not in applied]
    faults += [f"{name}: built but not asked for" for name in applied if name not in wanted]
    for name in wanted.keys() & applied.keys():
        faults += [
            f"{name}.{option}: asked for {value}, built {applied[name].get(option)}"
            for option, value in wanted[name].items()
            if not math.isclose(float(value), applied[name].get(option, math.nan), rel_tol=1e-6)
        ]
        fill = applied[name]["arguments"].get("fill_mask", VOID)
        if fill != VOID:
            faults.append(f"{name}: fills masks with {fill} instead of void ({VOID})")
    if faults:
        raise WiringError("the augmentation policy was not built as configured: " + "; ".join(sorted(faults)))


def _with_fit(built: Mapping[str, A.BasicTransform], size: Size) -> list[A.BasicTransform]:
    """Puts the resizing after the zoom, which reads the original pixels, and before all else."""
    zoom = [built[name] for name in built if name == "scale_crop"]
    return [*zoom, Fit(size), *(built[name] for name in built if name != "scale_crop")]


@contextlib.contextmanager
def _library_warnings_are_errors(spec: PolicySpec) -> Iterator[None]:
    """Albumentations only warns about arguments that it does not know, and goes on without them."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            yield
        except (UserWarning, DeprecationWarning, FutureWarning, ValueError, TypeError) as error:
            raise WiringError(
                f"Albumentations {A.__version__} does not build this policy as asked ({error}): {spec.describe()}; "
                "install the version that the project pins"
            ) from error


def _primitive(value: Any) -> Any:
    """Mappings, sequences and numbers as JSON has them."""
    if isinstance(value, Mapping):
        return {str(key): _primitive(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_primitive(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return value
