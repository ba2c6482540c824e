"""Building a model by name, and what must be known about it before it is built."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch

from trainables.errors import UnknownNameError
from trainables.models import FILE, MODELS, WEIGHTS
from trainables.models.architectures import Architecture, architecture
from trainables.models.base import SegmentationModel
from trainables.models.weights import ensure_file
from trainables.registry import Scalar


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
    names = [str(index) for index in range(n_classes)]
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                model = MODELS.get(name)(names, weights="none", **params)
        except NotImplementedError:  # torchvision's RegNets compute their widths with tensors
            model = MODELS.get(name)(names, weights="none", **params)
    return sum(parameter.numel() for parameter in model.parameters())


def _architecture(name: str) -> Architecture:
    found = architecture(name)
    if found is None:
        raise UnknownNameError(MODELS.kind, name, MODELS, pattern=MODELS.pattern)
    return found
