"""Whole models of segmentation_models.pytorch by name."""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainables.commands import EXTRA_SMP
from trainables.errors import UsageError, WeightsError
from trainables.models import FILE, WEIGHTS
from trainables.models.backbones import IMAGENET_NORMALISATION
from trainables.models.base import SegmentationModel, Weights
from trainables.models.hub_files import by_hand
from trainables.models.own_weights import load_own
from trainables.models.weight_files import path_of
from trainables.models.weights import described, tensors_digest

PREFIX = "smp/"
"""Begins the name of a whole model of the library: `smp/ARCHITECTURE_ENCODER`."""

_USUAL = f"{PREFIX}segformer_"

REFUSED = {
    "dpt": "takes more of its encoder than feature maps, which no other part of a sweep knows",
    "pan": "pools small images to nothing, and takes none below 128 pixels",
}
"""Architectures of the library that cannot be used, and why."""

POOLED = ("deeplabv3", "deeplabv3plus", "upernet")
"""Architectures that normalise a 1x1 map, which one image alone does not allow."""


def segmentation_models() -> Any:
    """The package segmentation_models_pytorch.

    Raises:
        UsageError: If it is not installed.
    """
    try:
        return importlib.import_module("segmentation_models_pytorch")
    except ImportError as error:
        raise UsageError(
            "this model is built by segmentation-models-pytorch, which is not installed: "
            f"{EXTRA_SMP} in the folder of this project's source, or take the head fcn, deeplabv3 or lraspp on another "
            "backbone"
        ) from error


class _Encoder(nn.Module):
    """An encoder of the library, with names for its feature maps.

    Args:
        body: Images to a list: the images, then maps at stride 2, 4, 8, 16 and 32.
        places: In that list, by the name of the map.
    """

    def __init__(self, body: nn.Module, places: Mapping[str, int]) -> None:
        super().__init__()
        self.body = body
        self.places = dict(places)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Feature maps (N, C, h, w) by name."""
        maps = self.body(images)
        return {name: maps[place] for name, place in self.places.items()}


class _Decoder(nn.Module):
    """The decoder of a whole model and its final layers: feature maps by name, in their order, to logits."""

    def __init__(self, decoder: nn.Module, final: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder
        self.final = final

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Logits (N, C, h, w)."""
        logits: Tensor = self.final(self.decoder(list(features.values())))
        return logits


@dataclass(frozen=True)
class LibraryModel:
    """A whole model of the library: an architecture of it, with its defaults, on an encoder of it."""

    name: str
    architecture: str
    encoder: str

    def build(self, class_names: Sequence[str], *, weights: str) -> SegmentationModel:
        """Builds the model.

        Args:
            class_names: The classes, in the order of their ids.
            weights: One of `WEIGHTS`, or a file's (see `own_weights`).

        Raises:
            UsageError: If the library cannot put this architecture on this encoder, or there are no such weights.
            WeightsError: If the weights cannot be obtained.
        """
        if why := REFUSED.get(self.architecture):
            raise UsageError(f"{self.architecture} {why}: use another architecture, such as {_USUAL}{self.encoder}")
        if weights == "coco_voc":
            raise UsageError(f"{self.name} has no coco_voc weights, only {' or '.join(WEIGHTS[:2])}")
        made, imagenet = segmentation_models().create_model, weights == "imagenet"
        options = {"in_channels": 3, "classes": len(class_names)}
        whole = _with_weights(
            self.encoder,
            lambda kind: made(self.architecture, self.encoder, encoder_weights=kind, **options),
            imagenet=imagenet,
        )
        _drop_idle_layers(whole.encoder)
        model = SegmentationModel(
            _Encoder(whole.encoder, {str(place): place for place in range(len(whole.encoder.out_channels))}),
            _Decoder(whole.decoder, whole.segmentation_head),
            name=self.name,
            head_input=None,
            normalisation=_normalisation(self.encoder, imagenet=imagenet),
            predefined=_loaded(self.encoder, whole.encoder) if imagenet else "",
            multiple=whole.encoder.output_stride if whole.requires_divisible_input_shape else 1,
        )
        if weights.startswith(FILE):
            path = path_of(weights)
            model.predefined = f"{described('file', path)}, {load_own(model, path, self.name)}"
        return model

    def factory(self) -> Callable[..., SegmentationModel]:
        """A function that builds it, whose keyword-only parameters are its hyperparameters."""

        def build(class_names: Sequence[str], *, weights: Weights = "none") -> SegmentationModel:
            return self.build(class_names, weights=weights)

        def ensure_weights(weights: str) -> None:
            if weights != "none":
                self.build(("class",), weights=weights)

        factory: Any = build
        factory.__name__ = self.name
        factory.__doc__ = f"{self.architecture} of segmentation_models.pytorch on {self.encoder}."
        factory.min_train_batch = 2 if self.architecture in POOLED else 1
        factory.ensure_weights = ensure_weights
        factory.may_be_refused = True
        return factory  # type: ignore[no-any-return]


def library_model(name: str) -> Callable[..., SegmentationModel] | None:
    """The factory of the library's model of a name `smp/ARCHITECTURE_ENCODER`, or None.

    Where the library is not installed, every such name is one: building it tells what is missing.
    """
    if not name.startswith(PREFIX):
        return None
    architecture, _, encoder = name.removeprefix(PREFIX).partition("_")
    try:
        library = segmentation_models()
    except UsageError:
        return LibraryModel(name, architecture, encoder).factory()
    of_timm = encoder.startswith("tu-") and _is_of_timm(encoder.removeprefix("tu-"))
    if architecture in library.MODEL_ARCHITECTURES_MAPPING and (
        of_timm or encoder in library.encoders.get_encoder_names()
    ):
        return LibraryModel(name, architecture, encoder).factory()
    return None


@functools.cache
def _is_of_timm(name: str) -> bool:
    from trainables.models.timm_backbones import timm_backbone

    return timm_backbone(name) is not None


def _with_weights(encoder: str, make: Callable[[str | None], Any], *, imagenet: bool) -> Any:
    """What `make` builds, with the kind of weights of the library or None.

    Raises:
        UsageError: If the library cannot build it.
        NotImplementedError: If it cannot on the device `meta`, which says nothing about others.
        WeightsError: If the weights cannot be obtained.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return make("imagenet" if imagenet else None)
        except Exception as error:  # each of its parts refuses in a way of its own
            if torch.get_default_device().type == "meta":
                raise NotImplementedError(f"{encoder} cannot be built without values") from error
            told = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            if imagenet:
                raise WeightsError(
                    f"no ImageNet weights for {encoder} of segmentation_models.pytorch ({told}); connect to the "
                    f"network once{_by_hand(encoder)}, or train from scratch with --weights none"
                ) from error
            raise UsageError(
                f"segmentation_models.pytorch cannot build this on {encoder} ({told}): take another encoder"
            ) from error


def _drop_idle_layers(encoder: nn.Module) -> None:
    """Takes away the layers of an encoder that none of its maps needs: PSPNet asks for three stages of five."""
    called: set[nn.Module] = set()
    hooks = [one.register_forward_hook(lambda layer, _, __: called.add(layer)) for one in encoder.modules()]
    training = encoder.training
    with torch.no_grad():
        encoder.eval()(torch.zeros(1, 3, 64, 64, device=next(encoder.parameters()).device))
    encoder.train(training)
    for hook in hooks:
        hook.remove()

    def idle(layer: nn.Module) -> bool:
        return called.isdisjoint(layer.modules()) and next(layer.parameters(), None) is not None

    for parent in [one for one in encoder.modules() if not idle(one)]:
        for name, child in parent.named_children():
            if idle(child):
                setattr(parent, name, nn.Identity())


def _by_hand(encoder: str) -> str:
    """Where an encoder's weights come from and where they go, to stand within an error; empty where it has none."""
    if encoder.startswith("tu-"):
        from trainables.models.timm_backbones import weights_by_hand

        return weights_by_hand(encoder.removeprefix("tu-"))
    told = segmentation_models().encoders.encoders.get(encoder, {}).get("pretrained_settings", {}).get("imagenet")
    if told is None:
        return ""
    return f", or {by_hand(told['repo_id'], ['config.json', 'model.safetensors'], told['revision'])}"


def _loaded(encoder: str, body: nn.Module) -> str:
    return f"imagenet: smp-hub/{encoder} tensors sha256:{tensors_digest(body)[:8]}"


def _normalisation(encoder: str, *, imagenet: bool) -> Mapping[str, Sequence[float]]:
    """What images are normalised with for an encoder.

    Raises:
        UsageError: If its weights want images of another kind than RGB on the scale 0 .. 1.
    """
    if not imagenet and not encoder.startswith("tu-"):
        return IMAGENET_NORMALISATION
    try:
        told = segmentation_models().encoders.get_preprocessing_params(encoder)
    except ValueError:  # of timm, without weights
        return IMAGENET_NORMALISATION
    if told["input_space"] != "RGB" or told["input_range"][-1] != 1:
        raise UsageError(
            f"the weights of {encoder} want {told['input_space']} images on the scale {told['input_range']}, which is "
            "not supported: take another encoder"
        )
    return {"mean": tuple(told["mean"]), "std": tuple(told["std"])}
