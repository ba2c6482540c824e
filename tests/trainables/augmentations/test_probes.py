"""Preflight passes what is right and names each fault that was built in on purpose."""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable
from typing import Any

import albumentations as A
import cv2
import numpy as np
import pytest

from trainables.augmentations import POLICIES, TRANSFORMS, PolicySpec, preflight
from trainables.augmentations.geometry import Rotate, ScaleCrop, Shift
from trainables.augmentations.mixing import ClassMix, CutMix
from trainables.data.base import VOID
from trainables.errors import WiringError

from .drawn import alone

SIZE = (96, 128)
EVERYTHING = [PolicySpec.from_flat({"policy": family}) for family in POLICIES]


@pytest.mark.parametrize(("size", "classes"), [((96, 128), 2), ((480, 480), 21), ((300, 60), 3), ((60, 300), 150)])
def test_the_projects_own_transformations_pass(size: tuple[int, int], classes: int) -> None:
    preflight(EVERYTHING, size, classes)


def test_whole_space_takes_less_than_a_second() -> None:
    started = time.process_time()
    preflight(EVERYTHING, (480, 480), 21)
    assert time.process_time() - started < 1.0


class FlippedImage(A.ImageOnlyTransform):
    def apply(self, img: Any, **params: Any) -> Any:
        return np.ascontiguousarray(img[:, ::-1])


class Nudged(Shift):
    """The mask a few pixels behind the image."""

    def apply_to_mask(self, mask: Any, **params: Any) -> Any:
        return np.roll(super().apply_to_mask(mask, **params), 3, axis=1)


class PaddedWithZero(Rotate):
    def apply_to_mask(self, mask: Any, matrix: Any, **params: Any) -> Any:
        return cv2.warpAffine(mask, matrix, mask.shape[::-1], flags=cv2.INTER_NEAREST)


class Mirrored(Shift):
    def apply_to_mask(self, mask: Any, cut: Any, frame: Any, **params: Any) -> Any:
        return cv2.copyMakeBorder(mask[cut], *frame, cv2.BORDER_REFLECT_101)


class MirroredRotation(Rotate):
    def apply_to_mask(self, mask: Any, matrix: Any, **params: Any) -> Any:
        size = mask.shape[::-1]
        return cv2.warpAffine(mask, matrix, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101)


class Interpolated(Rotate):
    def apply_to_mask(self, mask: Any, matrix: Any, **params: Any) -> Any:
        return cv2.warpAffine(mask, matrix, mask.shape[::-1], flags=cv2.INTER_LINEAR, borderValue=VOID)


class InterpolatedZoom(ScaleCrop):
    def apply_to_mask(self, mask: Any, cut: Any, inner: Any, frame: Any, **params: Any) -> Any:
        zoomed = cv2.resize(mask[cut], inner[::-1], interpolation=cv2.INTER_LINEAR)
        return cv2.copyMakeBorder(zoomed, *frame, cv2.BORDER_CONSTANT, value=VOID)


class Uncropped(A.ImageOnlyTransform):
    def apply(self, img: Any, **params: Any) -> Any:
        return img[2:]


class FixedDraw(Rotate):
    def get_params_dependent_on_data(self, params: Any, data: Any) -> Any:
        self.py_random = random.Random(3)
        return super().get_params_dependent_on_data(params, data)


class OwnStream(Rotate):
    stream = random.Random(3)

    def get_params_dependent_on_data(self, params: Any, data: Any) -> Any:
        self.py_random = self.stream
        return super().get_params_dependent_on_data(params, data)


class GlobalStream(A.ImageOnlyTransform):
    def apply(self, img: Any, **params: Any) -> Any:
        return cv2.add(img, float(np.random.default_rng().integers(1, 50)))


class AlwaysOn(Shift):
    def should_apply(self, force_apply: bool = False) -> bool:
        return True


class NeverOn(Shift):
    def should_apply(self, force_apply: bool = False) -> bool:
        return False


class Warning_(Shift):
    def apply(self, img: Any, **params: Any) -> Any:
        warnings.warn("this argument will be removed", FutureWarning, stacklevel=1)
        return super().apply(img, **params)


class LabelsLeftBehind(CutMix):
    """A region of the image that is not the mask's: another draw each time it is asked for."""

    def region(self, donor: Any, generator: Any) -> Any:
        donor[:10] = 0
        return super().region(donor, generator)


class SameClasses(ClassMix):
    def region(self, donor: Any, generator: Any) -> Any:
        return super().region(donor, np.random.default_rng(0))


def shift(made: Callable[..., Any]) -> Callable[..., Any]:
    """A factory as `TRANSFORMS` holds it, of a class that takes a limit."""
    return lambda size, p, magnitude: made(0.3 * magnitude, p)


def rotation(made: Callable[..., Any]) -> Callable[..., Any]:
    return lambda size, p, magnitude: made(30.0 * magnitude, p)


def zoom(made: Callable[..., Any]) -> Callable[..., Any]:
    return lambda size, p, magnitude: made(size, 3.0**magnitude, p)


def plain(made: Callable[..., Any]) -> Callable[..., Any]:
    return lambda size, p: made(p=p)


def replace(monkeypatch: pytest.MonkeyPatch, name: str, factory: Any) -> None:
    """Registers a factory in the place of another, with the same hyperparameters."""
    factory.hyperparameters = TRANSFORMS.parameters(name)
    monkeypatch.setitem(TRANSFORMS._entries, name, factory)


@pytest.mark.parametrize(
    ("name", "factory", "said"),
    [
        ("hflip", plain(FlippedImage), "moves the image and not its mask"),
        ("shift", shift(Nudged), "image and mask are out of step: [0-9]+% of the pixels"),
        ("rotate", rotation(PaddedWithZero), r"pads masks with 0 instead of void \(255\)"),
        ("shift", shift(Mirrored), "labels the mirror image beyond the border"),
        ("rotate", rotation(MirroredRotation), "labels the mirror image beyond the border"),
        ("rotate", rotation(Interpolated), r"invents class ids \([0-9]+"),
        ("scale_crop", zoom(InterpolatedZoom), r"invents class ids \([0-9]+"),
        ("hflip", plain(Uncropped), r"gives image uint8 of \(94, 128, 3\)"),
        ("rotate", rotation(FixedDraw), "draws the same for every seed"),
        ("rotate", rotation(OwnStream), "depends on what was drawn before"),
        ("hflip", plain(GlobalStream), "depends on what was drawn before"),
        ("shift", shift(AlwaysOn), "ignores its probability: at p=0.5 all of"),
        ("hflip", plain(lambda p: A.NoOp(p=p)), "ignores its probability: at p=0.5 none of"),
        ("shift", shift(NeverOn), "draws the same for every seed"),
        ("shift", shift(lambda limit, p: Shift(0.1, p)), "shift.magnitude: asked for 1"),
        ("rotate", rotation(lambda limit, p: Rotate(limit, 1.0)), "rotate.p: asked for"),
        ("shift", shift(Warning_), "this argument will be removed"),
        ("noise", shift(lambda limit, p: A.GaussNoise(var_limit=(0, limit), p=p)), "var_limit"),
        ("cutmix", plain(LabelsLeftBehind), "images and masks are out of step"),
        ("classmix", plain(lambda p: CutMix(1.0)), "classmix.p: asked for 0.5, built 1"),
    ],
)
def test_fault_is_named(name: str, factory: Any, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    replace(monkeypatch, name, factory)
    with pytest.raises(WiringError, match=f"(?m)^  {name}: .*{said}") as caught:
        preflight([alone("hflip"), alone(name), alone("brightness")], SIZE, 21)
    assert "--set augment.NAME.p=0" in str(caught.value)
    assert "brightness: " not in str(caught.value)


def test_members_of_trivial_are_tried_too(monkeypatch: pytest.MonkeyPatch) -> None:
    replace(monkeypatch, "rotate", rotation(PaddedWithZero))
    with pytest.raises(WiringError, match="rotate: pads masks with 0"):
        preflight([PolicySpec.from_flat({"policy": "trivial"})], SIZE, 21)


def test_what_no_policy_reaches_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    replace(monkeypatch, "rotate", rotation(PaddedWithZero))
    preflight([PolicySpec.from_flat({"policy": "geometric", "rotate.p": 0})], SIZE, 21)
    preflight([], SIZE, 21)
