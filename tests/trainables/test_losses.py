"""Losses against brute-force loops, torch's own functions and numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from trainables.data.base import VOID
from trainables.losses import LOSSES, inverse_frequency_weights

N_CLASSES = 4


def no_counts() -> torch.Tensor:
    raise AssertionError("this loss must not count pixels")


def batch(seed: int = 0, absent: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (2, C, 5, 6) and a target with some void and, if asked for, one class missing."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, N_CLASSES, 5, 6, generator=generator)
    target = torch.randint(0, N_CLASSES, (2, 5, 6), generator=generator)
    if absent is not None:
        target[target == absent] = 0
    target[torch.rand(target.shape, generator=generator) < 0.2] = VOID
    return logits, target


def counted_pixels(logits: torch.Tensor, target: torch.Tensor) -> list[tuple[np.ndarray, int]]:
    """The softmax probabilities (float64) and the class of every pixel that counts, one by one."""
    pixels = []
    for n in range(target.shape[0]):
        for y in range(target.shape[1]):
            for x in range(target.shape[2]):
                if target[n, y, x] != VOID:
                    scores = np.exp(logits[n, :, y, x].double().numpy())
                    pixels.append((scores / scores.sum(), int(target[n, y, x])))
    return pixels


def dice_by_loops(logits: torch.Tensor, target: torch.Tensor) -> float:
    pixels = counted_pixels(logits, target)
    coefficients = []
    for c in range(N_CLASSES):
        truth = sum(1 for _, label in pixels if label == c)
        if truth:
            overlap = sum(p[c] for p, label in pixels if label == c)
            coefficients.append(2 * overlap / (sum(p[c] for p, _ in pixels) + truth))
    return 1 - float(np.mean(coefficients))


@pytest.mark.parametrize("seed", range(3))
def test_cross_entropy_equals_torch_where_pixels_count(seed: int) -> None:
    logits, target = batch(seed)
    expected = F.cross_entropy(logits, target, ignore_index=VOID)
    torch.testing.assert_close(LOSSES.get("cross_entropy")(no_counts)(logits, target), expected)


def test_weighted_cross_entropy_equals_torch_with_the_same_weights() -> None:
    logits, target = batch()
    counts = torch.tensor([900, 300, 30, 3])
    frequency = counts.numpy() / counts.sum().item()
    unscaled = torch.tensor(frequency**-0.7, dtype=torch.float32)
    expected = F.cross_entropy(logits, target, weight=unscaled, ignore_index=VOID)
    loss = LOSSES.get("weighted_cross_entropy")(lambda: counts, power=0.7)
    torch.testing.assert_close(loss(logits, target), expected)


@pytest.mark.parametrize(
    ("power", "expected"),
    [(0.0, [1.0, 1.0, 1.0]), (0.5, [0.833333, 2.5, 2.5]), (1.0, [0.555556, 5.0, 5.0])],
)
def test_class_weights_as_worked_out_by_hand(power: float, expected: list[float]) -> None:
    # 0.9 and 0.1 of the pixels; the third class is absent and borrows the rarest one's frequency. power 0.5:
    # 0.9**-0.5 = 1.054093, 0.1**-0.5 = 3.162278; their mean over pixels is 1.264911; divided by it 0.833333 and 2.5.
    weights = inverse_frequency_weights(torch.tensor([900, 100, 0]), power)
    torch.testing.assert_close(weights, torch.tensor(expected), rtol=1e-5, atol=0)


def test_class_weights_of_nothing_counted_are_equal() -> None:
    torch.testing.assert_close(inverse_frequency_weights(torch.zeros(3, dtype=torch.int64), 1.0), torch.ones(3))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_focal_equals_a_loop_over_pixels(gamma: float) -> None:
    logits, target = batch()
    pixels = counted_pixels(logits, target)
    expected = np.mean([-((1 - p[label]) ** gamma) * math.log(p[label]) for p, label in pixels])
    assert float(LOSSES.get("focal")(no_counts, gamma=gamma)(logits, target)) == pytest.approx(expected, rel=1e-5)


def test_focal_of_an_undecided_pixel_is_worked_out_by_hand() -> None:
    loss = LOSSES.get("focal")(no_counts, gamma=2.0)(torch.zeros(1, 2, 1, 1), torch.zeros(1, 1, 1, dtype=torch.int64))
    assert float(loss) == pytest.approx(0.25 * math.log(2))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_focal_gradient_is_finite_at_certainty(gamma: float) -> None:
    logits = torch.tensor([200.0, -200.0]).view(1, 2, 1, 1).requires_grad_()
    LOSSES.get("focal")(no_counts, gamma=gamma)(logits, torch.zeros(1, 1, 1, dtype=torch.int64)).backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("absent", [None, 2])
def test_dice_equals_a_loop_over_classes_and_pixels(absent: int | None) -> None:
    logits, target = batch(absent=absent)
    assert float(LOSSES.get("dice")(no_counts)(logits, target)) == pytest.approx(dice_by_loops(logits, target))


def test_dice_of_two_pixels_is_worked_out_by_hand() -> None:
    # Both pixels are class 0 with probability 0.5, one of them is class 1 in truth:
    # dice_0 = 2 * 0.5 / (1 + 1) and dice_1 the same, so that the loss is 1 - 0.5; with class 1 absent
    # dice_0 = 2 * 1 / (1 + 2), and the absent class is left out.
    logits = torch.zeros(1, 2, 1, 2)
    loss = LOSSES.get("dice")(no_counts)
    assert float(loss(logits, torch.tensor([[[0, 1]]]))) == pytest.approx(0.5)
    assert float(loss(logits, torch.tensor([[[0, 0]]]))) == pytest.approx(1 / 3)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_sum_of_cross_entropy_and_dice_is_weighted(weight: float) -> None:
    logits, target = batch()
    expected = (1 - weight) * float(F.cross_entropy(logits, target, ignore_index=VOID))
    expected += weight * dice_by_loops(logits, target)
    loss = LOSSES.get("cross_entropy_dice")(no_counts, dice_weight=weight)
    assert float(loss(logits, target)) == pytest.approx(expected, rel=1e-5)
