"""What every registered loss must do, whatever it measures."""

from __future__ import annotations

import pytest
import torch

from trainables.data.base import VOID
from trainables.losses import LOSSES, Loss

N_CLASSES = 5


@pytest.fixture(params=LOSSES.names())
def loss(request: pytest.FixtureRequest) -> Loss:
    return LOSSES.get(request.param)(lambda: torch.tensor([5000, 400, 300, 20, 0]))


def random_batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, N_CLASSES, 8, 9, generator=generator)
    target = torch.randint(0, N_CLASSES, (2, 8, 9), generator=generator)
    target[:, :2] = VOID
    return logits.requires_grad_(), target


def test_all_void_costs_exactly_nothing(loss: Loss) -> None:
    logits, target = random_batch()
    value = loss(logits, torch.full_like(target, VOID))
    value.backward()
    assert value.item() == 0.0
    assert value.shape == ()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_void_pixels_have_no_say(loss: Loss) -> None:
    logits, target = random_batch()
    value = loss(logits, target)
    value.backward()
    void = (target == VOID).unsqueeze(1).expand_as(logits)
    assert torch.equal(logits.grad[void], torch.zeros_like(logits.grad[void]))
    assert logits.grad[~void].abs().max() > 0
    elsewhere = torch.where(void, 100 * torch.randn_like(logits), logits)
    torch.testing.assert_close(loss(elsewhere, target), value)


def test_perfect_prediction_is_preferred_to_a_random_one(loss: Loss) -> None:
    logits, target = random_batch()
    truth = target.where(target != VOID, 0)
    perfect = 20 * torch.nn.functional.one_hot(truth, N_CLASSES).movedim(-1, 1).float()
    assert loss(perfect, target) < 1e-3
    assert loss(logits, target) > 0.1


def test_following_the_gradient_lowers_it(loss: Loss) -> None:
    logits, target = random_batch()
    before = loss(logits, target)
    before.backward()
    assert loss(logits - 5 * logits.grad, target) < before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_computed_in_float32(loss: Loss, dtype: torch.dtype) -> None:
    logits, target = random_batch()
    half = (1000 * logits).detach().to(dtype).requires_grad_()
    value = loss(half, target)
    value.backward()
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(half.detach().float(), target))
    assert torch.isfinite(half.grad).all()


def test_classes_absent_from_the_batch_are_no_fault(loss: Loss) -> None:
    logits, target = random_batch()
    only_one = target.where(target == VOID, 4)
    value = loss(logits, only_one)
    value.backward()
    assert torch.isfinite(value) and value > 0
    assert torch.isfinite(logits.grad).all()
