"""Losses on a GPU are those of the CPU."""

from __future__ import annotations

import pytest
import torch

from trainables.data.base import VOID
from trainables.losses import LOSSES

CLASSES = 5
SUMS = ("cross_entropy+dice", "cross_entropy+lovasz", "ohem_cross_entropy+lovasz")


def value_and_gradient(name: str, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """On the same batch, with a class that is nowhere and void pixels."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(3, CLASSES, 24, 32, generator=generator)
    target = torch.randint(0, CLASSES - 1, (3, 24, 32), generator=generator)
    target[:, :5] = VOID
    loss = LOSSES.get(name)(lambda: torch.tensor([5000, 400, 300, 20, 0])).to(device)
    logits = logits.to(device).requires_grad_()
    value = loss(logits, target.to(device))
    value.backward()
    assert value.device.type == device and logits.grad is not None
    return value.detach().cpu(), logits.grad.cpu()


@pytest.mark.parametrize("name", [*LOSSES, *SUMS])
def test_value_and_gradient_are_those_of_the_cpu(name: str, gpu: None) -> None:
    value, gradient = value_and_gradient(name, "cpu")
    on_gpu, gradient_on_gpu = value_and_gradient(name, "cuda")
    # The same sums in another order: float32 keeps five to six digits of them.
    assert float(on_gpu) == pytest.approx(float(value), rel=1e-5)
    torch.testing.assert_close(gradient_on_gpu, gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max()))
