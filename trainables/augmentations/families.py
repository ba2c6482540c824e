"""Families of policies: which transformations may be on together."""

from __future__ import annotations

from trainables.augmentations import POLICIES, TRANSFORMS


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


@POLICIES.register("weather")
def weather() -> dict[str, float]:
    """Sun, fog and rain, for cameras outdoors."""
    return {"shadow": 0.3, "fog": 0.3, "rain": 0.3, "glare": 0.3}


@POLICIES.register("trivial")
def trivial() -> dict[str, float]:
    """Mirrored or not, then one transformation at random: TrivialAugment, nothing to tune."""
    return {"hflip": 0.5, "trivial": 1.0}


@POLICIES.register("mix")
def mix() -> dict[str, float]:
    """Mirrored or not, then regions exchanged between the images of a batch."""
    return {"hflip": 0.5, "cutmix": 0.5, "classmix": 0.5}


@POLICIES.register("all")
def all_transformations() -> dict[str, float]:
    """Every transformation of a single image at once, each with less probability than in its own family."""
    return {
        **{"scale_crop": 0.6, "hflip": 0.5, "rotate": 0.3, "shift": 0.3},
        **{"shadow": 0.15, "fog": 0.15, "rain": 0.15, "glare": 0.15},
        **{"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.3, "gamma": 0.3},
        **{"blur": 0.15, "noise": 0.15, "jpeg": 0.15},
        "dropout": 0.3,
    }


@POLICIES.register("free")
def free() -> dict[str, float]:
    """Nothing by default: any transformation may be turned on by its probability."""
    return dict.fromkeys(TRANSFORMS, 0.0)


def family_transforms(family: str) -> dict[str, float]:
    """The transformations that a family may contain, in the order of application, with their default probabilities.

    Raises:
        UnknownNameError: If there is no such family; lists the close names.
    """
    probabilities = POLICIES.get(family)()
    return {name: probabilities[name] for name in TRANSFORMS if name in probabilities}
