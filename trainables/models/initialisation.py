"""What training from scratch needs that a model tuned for predefined weights does not have."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

FROM_SCRATCH_MOMENTUM = 0.1


def set_batch_norm_momentum(model: nn.Module, *, momentum: float = FROM_SCRATCH_MOMENTUM) -> None:
    """Sets the momentum of all BatchNorm layers.

    torchvision's MobileNetV3 has 0.01, meant for hundreds of thousands of steps: after a few hundred from scratch the
    running statistics still remember their initial values and evaluation looks dead.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = momentum
