"""The transformations by name: how each is built from a probability and a magnitude, and read back."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import albumentations as A

from trainables.augmentations import TRANSFORMS
from trainables.augmentations.color import Brightness, Contrast, Hue, Noise, Saturation
from trainables.augmentations.geometry import Rotate, ScaleCrop, Shift
from trainables.augmentations.magnitudes import MAGNITUDES, Magnitude
from trainables.augmentations.mixing import ClassMix, CutMix, Mixing
from trainables.augmentations.weather import Fog, Glare, Rain, Shadow
from trainables.data.base import VOID
from trainables.data.resizing import Size
from trainables.registry import Hyperparameter, Range, table

Built: TypeAlias = A.BasicTransform | A.BaseCompose | Mixing
"""What a transformation is built as; a `Mixing` works on batches, all others on an image and its mask."""

HIDDEN_COLOR = (124, 116, 104)
"""The RGB mean of ImageNet, about zero after normalisation: what coarse dropout paints."""

_LIMIT_BUILT: dict[str, Callable[[Any], float]] = table()


def transformation(
    name: str,
    *,
    magnitude: Magnitude | None = None,
    limit_built: Callable[[Any], float] = lambda built: float(built.limit),
    only_rgb: str = "",
) -> Callable[[Callable[..., Built]], Callable[..., Built]]:
    """Registers a transformation together with the way to read its limit back from what was built.

    Without a magnitude the factory is `(size, p)`. With one it is `(size, p, limit)` and takes the limit in the
    transformation's own unit; what is registered takes the magnitude.

    Args:
        name: For configurations: `augment.NAME.p`, `augment.NAME.magnitude`.
        magnitude: What a magnitude in 0 .. 1 means, unless `MAGNITUDES` says it.
        limit_built: Reads the limit from what was built.
        only_rgb: Why it is only for images of red, green and blue; empty: it is for any channels.
    """

    def decorate(factory: Callable[..., Built]) -> Callable[..., Built]:
        factory.only_rgb = only_rgb  # type: ignore[attr-defined]
        meaning = MAGNITUDES.get(name) or magnitude
        if meaning is None:
            return TRANSFORMS.register(name)(factory)

        @functools.wraps(factory)
        def build(size: Size, p: float, *, magnitude: float) -> Built:
            return factory(size, p, meaning.limit(magnitude))

        build.hyperparameters = {"magnitude": Hyperparameter("magnitude", float, meaning.default, Range(0, 1))}  # type: ignore[attr-defined]
        registered = TRANSFORMS.register(name)(build)
        MAGNITUDES[name] = meaning
        _LIMIT_BUILT[name] = limit_built
        return registered

    return decorate


def only_rgb(name: str) -> str:
    """Why a transformation is only for images of red, green and blue; empty: it is for any channels."""
    return str(getattr(TRANSFORMS.get(name), "only_rgb", ""))


def limit_built(name: str, built: Built) -> float:
    """The limit of a transformation with a magnitude, in its own unit, read back from what was built."""
    return _LIMIT_BUILT[name](built)


@transformation("scale_crop")
def scale_crop(size: Size, p: float, limit: float) -> Built:
    """Zoom by a log-uniform factor in [1 / limit, limit], then a random crop, or padding at random sides."""
    return ScaleCrop(size, limit, p)


@transformation("hflip")
def hflip(size: Size, p: float) -> Built:
    """Left and right swapped."""
    return A.HorizontalFlip(p=p)


@transformation("rotate")
def rotate(size: Size, p: float, limit: float) -> Built:
    """Rotation about the centre by a uniform angle in [-limit, limit] degrees."""
    return Rotate(limit, p)


@transformation("shift")
def shift(size: Size, p: float, limit: float) -> Built:
    """Shift by a uniform fraction in [-limit, limit] of the width, and another of the height, in whole pixels."""
    return Shift(limit, p)


@transformation("shadow")
def shadow(size: Size, p: float, limit: float) -> Built:
    """A dark band with a soft edge, at any angle and place, that takes a share of the light uniform in [0, limit]."""
    return Shadow(limit, p)


_VEIL = "its veil has the colour that eyes see"
_MIXES = "it mixes red, green and blue"


@transformation("fog", only_rgb=_VEIL)
def fog(size: Size, p: float, limit: float) -> Built:
    """Light grey by Koschmieder's law, in patches, densest at the top: optical depth there uniform in [0, limit]."""
    return Fog(limit, p)


@transformation("rain", only_rgb=_VEIL)
def rain(size: Size, p: float, limit: float) -> Built:
    """Thin bright streaks along one slant, their number uniform in [0, limit]."""
    return Rain(limit, p)


@transformation("glare", only_rgb=_VEIL)
def glare(size: Size, p: float, limit: float) -> Built:
    """Round veil of a low sun, its centre in the upper half and covered by a share uniform in [0, limit]."""
    return Glare(limit, p)


@transformation("brightness")
def brightness(size: Size, p: float, limit: float) -> Built:
    """All values times a uniform factor in [1 - limit, 1 + limit]."""
    return Brightness(limit, p)


@transformation("contrast")
def contrast(size: Size, p: float, limit: float) -> Built:
    """Distance from the image's mean grey times a uniform factor in [1 - limit, 1 + limit]."""
    return Contrast(limit, p)


@transformation("saturation", only_rgb=_MIXES)
def saturation(size: Size, p: float, limit: float) -> Built:
    """Distance from the pixel's own grey times a uniform factor in [1 - limit, 1 + limit]."""
    return Saturation(limit, p)


@transformation("hue", only_rgb=_MIXES)
def hue(size: Size, p: float, limit: float) -> Built:
    """Chroma turned at constant luma (in YIQ) by a uniform angle in [-limit, limit] degrees."""
    return Hue(limit, p)


@transformation("gamma", limit_built=lambda built: float(built.gamma_limit[1]) / 100)
def gamma(size: Size, p: float, limit: float) -> Built:
    """Values (0 .. 1) to the power of a uniform exponent in [1 / limit, limit]."""
    return A.RandomGamma(gamma_limit=(100 / limit, 100 * limit), p=p)


@transformation("blur", limit_built=lambda built: float(built.sigma_limit[1]))
def blur(size: Size, p: float, limit: float) -> Built:
    """Gaussian blur with a standard deviation uniform in [0.1, limit] pixels; below 0.29 it changes nothing."""
    return A.GaussianBlur(blur_limit=0, sigma_limit=(0.1, limit), p=p)


@transformation("noise")
def noise(size: Size, p: float, limit: float) -> Built:
    """Gaussian noise, independent in every channel, with a standard deviation uniform in [0, limit] of full scale."""
    return Noise(limit, p)


@transformation(
    "jpeg", limit_built=lambda built: float(built.quality_range[0]), only_rgb="JPEG keeps red, green and blue"
)
def jpeg(size: Size, p: float, limit: float) -> Built:
    """JPEG compression with a quality uniform in [limit, 100]."""
    return A.ImageCompression(compression_type="jpeg", quality_range=(int(limit), 100), p=p)


@transformation("dropout", limit_built=lambda built: float(built.hole_height_range[1]))
def dropout(size: Size, p: float, limit: float) -> Built:
    """One to four rectangles hidden, each side uniform in [limit / 4, limit] of the image's; hidden pixels are void.

    DeVries and Taylor, "Cutout", 2017. The rectangle is void so that the model learns to do without a part of the
    context, and is not asked to guess what is behind the rectangle.
    """
    sides = (limit / 4, limit)
    return A.CoarseDropout(
        num_holes_range=(1, 4),
        hole_height_range=sides,
        hole_width_range=sides,
        fill=HIDDEN_COLOR,
        fill_mask=VOID,
        p=p,
    )


TRIVIAL = (
    *("scale_crop", "rotate", "shift"),
    *("brightness", "contrast", "saturation", "hue", "gamma"),
    *("blur", "noise", "jpeg", "dropout"),
)
"""What `trivial` draws from, beside leaving the image as it is."""


def _trivial_limit(built: Any) -> float:
    members = zip(TRIVIAL, built.transforms[1:], strict=True)
    magnitudes = [MAGNITUDES[name].of_limit(limit_built(name, member)) for name, member in members]
    # A limit that is a whole number gives its magnitude only to half a step.
    agree = all(math.isclose(magnitude, magnitudes[0], abs_tol=0.01) for magnitude in magnitudes)
    return magnitudes[0] if agree else math.nan


@transformation("trivial", limit_built=_trivial_limit, only_rgb="it draws from changes of colours, too")
def trivial(size: Size, p: float, limit: float) -> Built:
    """One transformation per image, drawn uniformly (or none), its strength uniform up to the same share of its range.

    Müller and Hutter, "TrivialAugment", 2021, on this project's transformations; on top of flips, as there.
    """
    members = [TRANSFORMS.get(name)(size, 1.0, magnitude=limit) for name in TRIVIAL]
    return A.OneOf([A.NoOp(p=1.0), *members], p=p)


@transformation("cutmix")
def cutmix(size: Size, p: float) -> Built:
    """A rectangle of image and mask, void included, from another sample of the batch (Yun et al., 2019)."""
    return CutMix(p)


@transformation("classmix")
def classmix(size: Size, p: float) -> Built:
    """Half of the classes of another sample of the batch, with their pixels (Olsson et al., 2021; by true masks)."""
    return ClassMix(p)
