"""Building a model by name, and what must be known about it before it is built."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import nn

from trainables.data.bands import Bands
from trainables.errors import SegsweepError, UnknownNameError
from trainables.models import FILE, MODELS, WEIGHTS
from trainables.models.architectures import Architecture, architecture
from trainables.models.bands import RGB, widen
from trainables.models.base import SegmentationModel
from trainables.models.own_weights import load_own
from trainables.models.weight_files import path_of
from trainables.models.weights import described, ensure_file
from trainables.registry import Scalar

_TRIED_SIZES = ((96, 128), (97, 131))
"""Height and width on which a model is tried: usual sides, and odd ones."""


def build_model(name: str, class_names: Sequence[str], **params: Scalar) -> SegmentationModel:
    """Builds a model with one output channel per class; initialised from torch's global generator (seed it first).

    Args:
        name: A name in `MODELS`, listed there or of the form HEAD_BACKBONE.
        class_names: The data set's classes, in the order of their ids.
        **params: The model's hyperparameters, e.g. `weights`, `aux_weight`.

    Raises:
        UnknownNameError: If there is no such model.
        UsageError: If a package is missing, the backbone cannot serve the head, or there are no such weights for it.
        WeightsError: If predefined weights were asked for and cannot be obtained.
    """
    return MODELS.get(name)(class_names, **params)


def build_for_bands(name: str, class_names: Sequence[str], bands: Bands, **params: Scalar) -> SegmentationModel:
    """Builds a model for images of other channels than red, green and blue, by the rule of `trainables.models.bands`.

    Args:
        name: As for `build_model`.
        class_names: As there.
        bands: What the channels are. What they are normalised with is the caller's to set.
        **params: As there.

    Raises:
        UsageError: If the model cannot take so many channels.
    """
    model = build_model(name, class_names, **params)
    if bands.channels == RGB:
        return model
    weights = str(params.get("weights", "none"))
    widen(model, bands, fresh=weights == "none")
    if weights.startswith(FILE):
        _load_wide(model, weights, name)
    if model.predefined:
        model.predefined = f"{model.predefined}, for {bands.channels} channels"
    return model


def _load_wide(model: SegmentationModel, weights: str, name: str) -> None:
    """Takes what a user's file has of a model of this many channels, where it is of one."""
    path = path_of(weights)
    loaded = load_own(model, path, name)
    inputs = {f"{key}.weight" for key, layer in model.named_modules() if getattr(layer, "in_channels", RGB) != RGB}
    if not inputs & set(loaded.fresh):
        model.predefined = f"{described('file', path)}, {loaded}"


def ensure_weights(model_name: str, weights: str, class_names: Sequence[str] = ("class",)) -> str:
    """Makes sure that a model's predefined weights are on this machine, downloading them once if necessary.

    A model without head and backbone may do so by an attribute `ensure_weights` of its factory, a function of the
    kind of weights.

    Args:
        model_name: A name in `MODELS`.
        weights: One of `WEIGHTS`, or a file's.
        class_names: The data set's classes, which decide whether the head of a file fits.

    Returns:
        Of a user's file what of it the model takes; else nothing.

    Raises:
        UnknownNameError: If there is no such model or kind of weights.
        UsageError: If the model has no weights of this kind, or a package is missing.
        WeightsError: If they are damaged, or neither in the cache nor downloadable.
    """
    factory = MODELS.get(model_name)
    if weights.startswith(FILE):
        return build_model(model_name, class_names, weights=weights).predefined.partition(": ")[2]
    if weights not in WEIGHTS:
        raise UnknownNameError("kind of weights", weights, WEIGHTS)
    model = architecture(model_name)
    if model is None:
        getattr(factory, "ensure_weights", lambda weights: None)(weights)
    elif weights == "imagenet":
        model.backbone.ensure_weights()
    elif weights == "coco_voc":
        ensure_file(model_name, model.whole_weights)
    return ""


def predefined_categories(model_name: str) -> tuple[str, ...]:
    """The classes that a model's `coco_voc` weights were trained for: VOC's 21, background first.

    Raises:
        UsageError: If it has no such weights.
    """
    return tuple(_architecture(model_name).whole_weights.meta["categories"])


@lru_cache
def why_not_for(name: str, bands: Bands) -> str:
    """Why a model cannot take images of other channels than red, green and blue; empty if it can."""
    try:
        model = _outline(name, 2)
        with torch.random.fork_rng(devices=[]), next(model.parameters()).device:
            widen(model, bands, fresh=True)
    except SegsweepError as error:
        return str(error)
    return ""


@lru_cache
def parameter_count(name: str, n_classes: int, *, aux_weight: float | None = None) -> int:
    """How many parameters a model has, where possible without allocating them.

    Args:
        name: A name in `MODELS`.
        n_classes: Number of classes.
        aux_weight: As the model's hyperparameter: the auxiliary head is counted unless this is 0. With 0 the count is
            that of the model in use, since the auxiliary head serves training only. Ignored by models without one.
    """
    takes_aux = "aux_weight" in MODELS.parameters(name)
    params = {"aux_weight": aux_weight} if takes_aux and aux_weight is not None else {}
    model = _outline(name, n_classes, **params)
    return sum(parameter.numel() for parameter in model.parameters())


@lru_cache
def why_refused(name: str, weights: str = "none") -> str:
    """Why a model cannot be used; empty if it can.

    It is built and run on images of two sizes, where possible without computing anything. The registered models are
    known to run, and what a plugin registers is its own affair.

    Args:
        name: A name in `MODELS`.
        weights: One of `WEIGHTS`, or a file's.
    """
    try:
        if weights == "coco_voc":
            _ = _architecture(name).whole_weights
        if name in MODELS.names() or not getattr(MODELS.get(name), "may_be_refused", False):
            return ""
        model = _outline(name, 2).eval()
        device = next(model.parameters()).device
        for height, width in _TRIED_SIZES:
            with torch.no_grad(), device:
                model(torch.zeros(1, 3, height, width))
    except SegsweepError as error:
        return str(error)
    except Exception as error:  # parts of libraries that do not fit tell it in many ways
        told = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        return f"its parts do not fit together ({told}): take another head or backbone"
    return ""


def _outline(name: str, n_classes: int, **params: Scalar) -> nn.Module:
    """A model from scratch, without values where it can be built without."""
    names = [str(index) for index in range(n_classes)]
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return MODELS.get(name)(names, weights="none", **params)
        except NotImplementedError:  # some compute with tensors while they are built
            return MODELS.get(name)(names, weights="none", **params)


def _architecture(name: str) -> Architecture:
    found = architecture(name)
    if found is None:
        raise UnknownNameError(MODELS.kind, name, MODELS, pattern=MODELS.pattern)
    return found
