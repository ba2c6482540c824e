"""SegFormer's encoders, the Mix Transformers `mit_b0` to `mit_b5`, of the package transformers."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from trainables.commands import EXTRA_TRANSFORMERS
from trainables.errors import UsageError, WeightsError
from trainables.models.backbones import IMAGENET_NORMALISATION, Features
from trainables.models.hub_files import by_hand
from trainables.models.own_weights import read_state
from trainables.models.weight_files import digest

_SMALL, _LARGE = (32, 64, 160, 256), (64, 128, 320, 512)
SIZES: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "mit_b0": ((2, 2, 2, 2), _SMALL),
    "mit_b1": ((2, 2, 2, 2), _LARGE),
    "mit_b2": ((3, 4, 6, 3), _LARGE),
    "mit_b3": ((3, 4, 18, 3), _LARGE),
    "mit_b4": ((3, 8, 27, 3), _LARGE),
    "mit_b5": ((3, 6, 40, 3), _LARGE),
}
"""Blocks and channels of the four stages (Xie et al., "SegFormer", 2021, table 6); transformers has the rest."""
_FILES = ("model.safetensors", "pytorch_model.bin")
"""Of a repository of the hub: the first that it has. Neither is read by running code that stands in it."""
_STAGES = {"low": 1, "aux": 2, "out": 3, "high": 3, "stride4": 0, "stride8": 1, "stride16": 2, "stride32": 3}


class MixTransformerFeatures(nn.Module):
    """An encoder of transformers with names for its feature maps.

    Args:
        body: A `SegformerModel`.
        levels: Names of the maps (see `Backbone`), from the shallowest to the deepest.
    """

    def __init__(self, body: nn.Module, levels: Sequence[str]) -> None:
        super().__init__()
        self.body = body
        self.levels = tuple(levels)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Feature maps (N, C, h, w) by level."""
        maps = self.body(images, output_hidden_states=True).hidden_states
        return {level: maps[_STAGES[level]] for level in self.levels}

    def in_own_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict of any SegFormer of transformers (this encoder, or a model on it), in this module's names.

        Args:
            state: Perhaps of something else, and then it is returned as it is.
        """
        converted, rest = converted_state(self.body.config, state)
        if not converted:
            return dict(state)
        return {f"body.{key}": tensor for key, tensor in converted.items()} | {key: state[key] for key in rest}


def converted_state(config: Any, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """What transformers makes of a state dict, whose names have changed between its versions.

    Args:
        config: Of a `SegformerModel`.
        state: As in files of the hub.

    Returns:
        A state dict of that model, empty if one of its tensors is missing; and the names that it does not use.
    """
    with _quiet(), torch.random.fork_rng(devices=[]), torch.device("cpu"):
        made, told = transformers().SegformerModel.from_pretrained(
            None, config=config, state_dict=dict(state), output_loading_info=True, ignore_mismatched_sizes=True
        )
    if told["missing_keys"] or told["mismatched_keys"]:
        return {}, []
    return dict(made.state_dict()), sorted(told["unexpected_keys"])


@dataclass(frozen=True)
class MixTransformer:
    """One of `SIZES` as a `Backbone`."""

    name: str

    normalisation: ClassVar[Mapping[str, Sequence[float]]] = IMAGENET_NORMALISATION
    strides: ClassVar[tuple[int, ...]] = (4, 8, 16, 32)
    multiple: ClassVar[int] = 1
    min_train_batch: ClassVar[int] = 1

    @property
    def repository(self) -> str:
        """Of the hub, with the weights of the paper's authors."""
        return f"nvidia/{self.name.replace('_', '-')}"

    def build(self, levels: Sequence[str], *, dilated: bool, imagenet: bool) -> Features:
        """As `Backbone.build`; it has no dilated form."""
        depths, channels = SIZES[self.name]
        package = transformers()
        config = package.SegformerConfig(depths=list(depths), hidden_sizes=list(channels))
        features = MixTransformerFeatures(package.SegformerModel(config), sorted(levels, key=_STAGES.__getitem__))
        if not imagenet:
            return Features(features)
        path = self.weights_file()
        converted, _ = converted_state(config, read_state(path, "delete it so that it is downloaded again"))
        if not converted:
            raise WeightsError(f"{path} does not fit {self.name}; is it another model's file?")
        features.body.load_state_dict(converted)
        return Features(features, f"imagenet: {self.repository}/{path.name} sha256:{digest(path)[:8]}")

    def ensure_weights(self) -> None:
        """As `Backbone.ensure_weights`."""
        transformers()
        self.weights_file()

    def weights_file(self) -> Path:
        """The file of the ImageNet weights in the hub's cache, downloaded once if it is not there.

        Raises:
            WeightsError: If it is neither there nor can be downloaded.
        """
        from huggingface_hub import errors, hf_hub_download, try_to_load_from_cache

        for name in _FILES:
            if isinstance(cached := try_to_load_from_cache(self.repository, name), str):
                return Path(cached)
        told: Exception | None = None
        for name in _FILES:
            try:
                return Path(hf_hub_download(self.repository, name))
            except errors.LocalEntryNotFoundError as error:
                told = error
                break
            except errors.EntryNotFoundError as error:
                told = error
            except (OSError, ValueError) as error:
                told = error
                break
        raise WeightsError(
            f"no ImageNet weights for {self.name} ({type(told).__name__}: {' '.join(str(told).split())[:200]}); "
            f"connect to the network once, or {by_hand(self.repository, [_FILES[0]])} (or its {_FILES[1]}, beside it), "
            "or train from scratch with --weights none"
        ) from told


def mit_backbone(name: str) -> MixTransformer | None:
    """The encoder of SegFormer of that name, or None."""
    return MixTransformer(name) if name in SIZES else None


def transformers() -> Any:
    """The package transformers.

    Raises:
        UsageError: If it is not installed.
    """
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise UsageError(
            f"SegFormer's encoders are those of transformers, which is not installed: {EXTRA_TRANSFORMERS} in the "
            "folder of this project's source, or take another backbone, such as resnet18"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' report of what it loads and its progress bar."""
    logging = transformers().logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
