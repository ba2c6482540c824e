"""Losses against other libraries, brute-force loops and numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.losses import FocalLoss
from segmentation_models_pytorch.losses import DiceLoss, LovaszLoss, TverskyLoss
from sklearn.metrics import jaccard_score
from torch.nn import functional as F

from trainables.data.base import VOID
from trainables.errors import UnknownNameError
from trainables.losses import LOSSES, Loss
from trainables.losses.base import ClassPixels, WeightedSum
from trainables.losses.cross_entropy import CrossEntropy, WeightedCrossEntropy, class_weights, effective_number

N_CLASSES = 4
COUNTS = torch.tensor([900, 300, 30, 3])


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
    return logits.requires_grad_(), target


def counted_pixels(logits: torch.Tensor, target: torch.Tensor) -> list[tuple[np.ndarray, int]]:
    """The softmax probabilities (float64) and the class of every pixel that counts, one by one."""
    pixels = []
    for n in range(target.shape[0]):
        for y in range(target.shape[1]):
            for x in range(target.shape[2]):
                if target[n, y, x] != VOID:
                    scores = np.exp(logits[n, :, y, x].detach().double().numpy())
                    pixels.append((scores / scores.sum(), int(target[n, y, x])))
    return pixels


def assert_same(ours: torch.Tensor, theirs: torch.Tensor, logits: torch.Tensor) -> None:
    """Equal in value and in gradient."""
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(value, logits)[0] for value in (ours, theirs)]
    torch.testing.assert_close(*gradients)


def test_autocast_is_off_within_a_loss() -> None:
    class Product(Loss):
        def __init__(self, class_pixels: ClassPixels) -> None:
            super().__init__()

        def value(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return (logits.flatten(1) @ logits.flatten(1).T).sum()

    logits, target = batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = Product(no_counts)(logits, target)
    assert torch.equal(value, Product(no_counts)(logits, target))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("seed", range(3))
def test_cross_entropy_equals_torch_where_pixels_count(seed: int, smoothing: float) -> None:
    logits, target = batch(seed)
    expected = F.cross_entropy(logits, target, ignore_index=VOID, label_smoothing=smoothing)
    assert_same(LOSSES.get("cross_entropy")(no_counts, label_smoothing=smoothing)(logits, target), expected, logits)


def test_label_smoothing_of_one_pixel_is_worked_out_by_hand() -> None:
    # Two classes, odds 3 : 1; smoothing 0.2 makes the truth 0.9 and 0.1.
    logits = torch.tensor([math.log(3), 0.0]).view(1, 2, 1, 1)
    loss = LOSSES.get("cross_entropy")(no_counts, label_smoothing=0.2)
    expected = -(0.9 * math.log(0.75) + 0.1 * math.log(0.25))
    assert float(loss(logits, torch.zeros(1, 1, 1, dtype=torch.int64))) == pytest.approx(expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weighted_cross_entropy_equals_torch_with_the_same_weights(smoothing: float) -> None:
    logits, target = batch()
    frequency = COUNTS.numpy() / COUNTS.sum().item()
    unscaled = torch.tensor(frequency**-0.7, dtype=torch.float32)
    expected = F.cross_entropy(logits, target, weight=unscaled, ignore_index=VOID, label_smoothing=smoothing)
    loss = LOSSES.get("weighted_cross_entropy")(lambda: COUNTS, power=0.7, label_smoothing=smoothing)
    assert_same(loss(logits, target), expected, logits)


def test_weighted_cross_entropy_by_effective_numbers_equals_torch_with_the_same_weights() -> None:
    logits, target = batch()
    beta = 1 - 1 / (0.1 * 1233)
    unscaled = torch.tensor([(1 - beta) / (1 - beta**n) for n in COUNTS.tolist()])
    expected = F.cross_entropy(logits, target, weight=unscaled, ignore_index=VOID)
    loss = LOSSES.get("weighted_cross_entropy")(lambda: COUNTS, weighting="effective_number", volume=0.1)
    assert_same(loss(logits, target), expected, logits)


def test_pixels_are_counted_once_when_the_loss_is_built() -> None:
    asked = []
    loss = LOSSES.get("weighted_cross_entropy")(lambda: asked.append(1) or COUNTS)
    for seed in range(2):
        loss(*batch(seed))
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("power", "expected"),
    [(0.0, [1.0, 1.0, 1.0]), (0.5, [0.833333, 2.5, 2.5]), (1.0, [0.555556, 5.0, 5.0])],
)
def test_inverse_frequency_weights_as_worked_out_by_hand(power: float, expected: list[float]) -> None:
    # 0.9 and 0.1 of the pixels; the third class is absent and borrows the rarest one's frequency. power 0.5:
    # 0.9**-0.5 = 1.054093, 0.1**-0.5 = 3.162278; their mean over pixels is 1.264911; divided by it 0.833333 and 2.5.
    weights = class_weights(torch.tensor([900, 100, 0]), "inverse_frequency", power=power, volume=0.01)
    torch.testing.assert_close(weights, torch.tensor(expected), rtol=1e-5, atol=0)


@pytest.mark.parametrize("prototypes", [1.0, 2.5, 40.0, 1e4])
def test_effective_number_equals_the_geometric_series(prototypes: float) -> None:
    """Each further sample is new with a chance that falls by beta: 1 + beta + ... + beta ** (n - 1)."""
    beta = 1 - 1 / prototypes
    samples = [1, 2, 10, 900]
    expected = torch.tensor([sum(beta**i for i in range(n)) for n in samples], dtype=torch.float64)
    actual = effective_number(torch.tensor(samples).double(), torch.tensor(prototypes).double())
    torch.testing.assert_close(actual, expected)


def test_effective_number_keeps_its_digits_at_a_billion_pixels() -> None:
    """n far below N is n, far above it is N; 1 - beta ** n by powers would lose both to rounding."""
    samples = torch.tensor([1e3, 1e9], dtype=torch.float64)
    actual = effective_number(samples, torch.tensor(1e8, dtype=torch.float64))
    # 1e8 (1 - exp(-1e-5)) and 1e8 (1 - exp(-10)), to first order in 1 / N
    torch.testing.assert_close(actual, torch.tensor([999.995, 0.9999546e8], dtype=torch.float64), rtol=1e-7, atol=0)


@pytest.mark.parametrize("scale", [1, 1000, 1_000_000])
def test_volume_caps_the_weights_of_rare_classes_whatever_the_size_of_the_data(scale: int) -> None:
    # Shares 0.9, 0.09, 0.009, 0.001 and N = 0.01 of all: 1 / (1 - exp(-share / 0.01)) is 1, 1.000123, 1.685, 10.508.
    counts = scale * torch.tensor([90_000, 9_000, 900, 100])
    weights = class_weights(counts, "effective_number", power=0.5, volume=0.01)
    expected = torch.tensor([1.0, 1.000123, 1.685118, 10.508332])
    torch.testing.assert_close(weights / weights[0], expected, rtol=3e-3 if scale == 1 else 1e-5, atol=0)
    assert float((weights * counts).sum() / counts.sum()) == pytest.approx(1.0)


@pytest.mark.parametrize("weighting", ["inverse_frequency", "effective_number"])
def test_class_weights_at_the_ends(weighting: str) -> None:
    def weights(*counts: int, volume: float = 1.0) -> torch.Tensor:
        return class_weights(torch.tensor(counts), weighting, power=1.0, volume=volume)

    torch.testing.assert_close(weights(0, 0, 0), torch.ones(3))
    assert weights(900, 100, 0)[2] == weights(900, 100, 0)[1] > weights(900, 100, 0)[0]
    for volume in (1.0, 1e-9, 1e-12):  # the last is less than a pixel
        extreme = weights(10**10, 1, 0, volume=volume)
        assert torch.isfinite(extreme).all() and (extreme > 0).all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_focal_equals_monai_and_a_loop_over_pixels(gamma: float) -> None:
    logits, target = batch()
    ours = LOSSES.get("focal")(no_counts, gamma=gamma)(logits, target)
    pixels = counted_pixels(logits, target)
    expected = np.mean([-((1 - p[label]) ** gamma) * math.log(p[label]) for p, label in pixels])
    assert ours.item() == pytest.approx(expected, rel=1e-5)
    counted = (target != VOID).unsqueeze(1)
    theirs = FocalLoss(gamma=gamma, use_softmax=True, to_onehot_y=True, reduction="none")
    every_class = theirs(logits, target.unsqueeze(1).where(counted, 0))
    assert_same(ours, (every_class * counted).sum() / counted.sum(), logits)


def test_focal_of_an_undecided_pixel_is_worked_out_by_hand() -> None:
    loss = LOSSES.get("focal")(no_counts, gamma=2.0)(torch.zeros(1, 2, 1, 1), torch.zeros(1, 1, 1, dtype=torch.int64))
    assert float(loss) == pytest.approx(0.25 * math.log(2))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_focal_gradient_is_finite_at_certainty(gamma: float) -> None:
    logits = torch.tensor([200.0, -200.0]).view(1, 2, 1, 1).requires_grad_()
    LOSSES.get("focal")(no_counts, gamma=gamma)(logits, torch.zeros(1, 1, 1, dtype=torch.int64)).backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("absent", [None, 2])
def test_dice_equals_smp(absent: int | None) -> None:
    """smp divides by all classes, absent ones too, which it counts as perfect."""
    logits, target = batch(absent=absent)
    theirs = DiceLoss("multiclass", ignore_index=VOID)(logits, target) * N_CLASSES / (N_CLASSES - (absent is not None))
    assert_same(LOSSES.get("dice")(no_counts)(logits, target), theirs, logits)


@pytest.mark.parametrize("absent", [None, 2])
@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 0.7), (0.9, 0.1), (1.0, 1.0), (0.01, 0.02)])
def test_tversky_equals_smp(alpha: float, beta: float, absent: int | None) -> None:
    logits, target = batch(absent=absent)
    theirs = TverskyLoss("multiclass", ignore_index=VOID, alpha=alpha, beta=beta)(logits, target)
    theirs = theirs * N_CLASSES / (N_CLASSES - (absent is not None))
    assert_same(LOSSES.get("tversky")(no_counts, alpha=alpha, beta=beta)(logits, target), theirs, logits)


def test_dice_and_tversky_of_two_pixels_are_worked_out_by_hand() -> None:
    # Both pixels are class 0 with probability 0.5, one of them is class 1 in truth:
    # dice_0 = 2 * 0.5 / (1 + 1) and dice_1 the same, so that the loss is 1 - 0.5; with class 1 absent
    # dice_0 = 2 * 1 / (1 + 2), and the absent class is left out.
    logits, both, one = torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]]), torch.tensor([[[0, 0]]])
    loss = LOSSES.get("dice")(no_counts)
    assert float(loss(logits, both)) == pytest.approx(0.5)
    assert float(loss(logits, one)) == pytest.approx(1 / 3)
    # Tversky of the second: TP 1, FP 0, FN 1, so that only beta has a say.
    loss = LOSSES.get("tversky")(no_counts, alpha=0.3, beta=0.6)
    assert float(loss(logits, one)) == pytest.approx(1 - 1 / 1.6)
    # Of the first, each class: TP 0.5, FP 0.5, FN 0.5.
    assert float(loss(logits, both)) == pytest.approx(1 - 0.5 / (0.5 + 0.3 * 0.5 + 0.6 * 0.5))


def test_dice_counts_a_large_batch_to_the_last_digit() -> None:
    """A running float32 sum of a million equal probabilities is wrong in the third digit."""
    p = 0.3001
    logits = torch.tensor([math.log(p / (1 - p)), 0.0]).view(1, 2, 1, 1).expand(4, 2, 512, 512)
    target = torch.zeros(4, 512, 512, dtype=torch.int64)
    assert float(LOSSES.get("dice")(no_counts)(logits, target)) == pytest.approx(1 - 2 * p / (p + 1), rel=1e-6)


@pytest.mark.parametrize("absent", [None, 2])
@pytest.mark.parametrize("seed", range(3))
def test_lovasz_equals_smp(seed: int, absent: int | None) -> None:
    logits, target = batch(seed, absent)
    theirs = LovaszLoss("multiclass", ignore_index=VOID)(logits, target)
    assert_same(LOSSES.get("lovasz")(no_counts)(logits, target), theirs, logits)


@pytest.mark.parametrize("seed", range(3))
def test_lovasz_of_certain_predictions_is_one_minus_miou(seed: int) -> None:
    """An extension has the set function's values at its corners: the defining property."""
    logits, target = batch(seed)
    predicted = logits.argmax(dim=1)
    certain = 300 * F.one_hot(predicted, N_CLASSES).movedim(-1, 1).float()
    counted = target != VOID
    miou = jaccard_score(target[counted], predicted[counted], average="macro", labels=target[counted].unique())
    assert float(LOSSES.get("lovasz")(no_counts)(certain, target)) == pytest.approx(1 - miou)


def test_lovasz_of_three_pixels_is_worked_out_by_hand() -> None:
    # Probabilities of class 0: 0.8, 0.4, 0.3; truth 0, 0, 1.
    # Class 0: errors 0.2, 0.6, 0.3. Wrong one after the other: the second (Jaccard loss 1/2), the third (1 - 1/3), the
    # first (1): 0.6 * 1/2 + 0.3 * 1/6 + 0.2 * 1/3. Class 1: the same errors; the second (0 of 2 more: 1 - 1/2), the
    # third (1), the first (1): 0.6 * 1/2 + 0.3 * 1/2 + 0.
    p = torch.tensor([0.8, 0.4, 0.3])
    logits = torch.stack((p.log(), (1 - p).log())).view(1, 2, 1, 3)
    expected = ((0.3 + 0.05 + 0.2 / 3) + 0.45) / 2
    loss = LOSSES.get("lovasz")(no_counts)
    assert float(loss(logits, torch.tensor([[[0, 0, 1]]]))) == pytest.approx(expected)


def test_lovasz_gradient_keeps_its_digits_in_a_large_batch() -> None:
    """Differences of neighbouring Jaccard losses, as algorithm 1 has them, lose theirs in float32."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 3, 300, 300, generator=generator)
    target = torch.randint(0, 3, (1, 300, 300), generator=generator)
    gradients = []
    for dtype in (torch.float32, torch.float64):
        own = logits.to(dtype, copy=True).requires_grad_()
        (gradient,) = torch.autograd.grad(LOSSES.get("lovasz")(no_counts).value(own, target), own)
        gradients.append(gradient.double())
    relative = (gradients[0] - gradients[1]).abs().quantile(0.999) / gradients[1].abs().median()
    assert relative < 1e-4


def ohem_by_loops(logits: torch.Tensor, target: torch.Tensor, threshold: float, min_kept: float) -> float:
    probabilities = sorted(p[label] for p, label in counted_pixels(logits, target))
    least = max(1, math.ceil(min_kept * len(probabilities)))
    kept = [p for index, p in enumerate(probabilities) if p < threshold or index < least]
    return float(np.mean([-math.log(p) for p in kept]))


@pytest.mark.parametrize("min_kept", [0.0, 0.0625, 0.5, 1.0])
@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.7, 1.0])
def test_ohem_equals_a_loop_over_pixels(threshold: float, min_kept: float) -> None:
    logits, target = batch()
    value = LOSSES.get("ohem_cross_entropy")(no_counts, threshold=threshold, min_kept=min_kept)(logits, target)
    assert value.item() == pytest.approx(ohem_by_loops(logits, target, threshold, min_kept), rel=1e-5)


def test_ohem_turns_easy_pixels_off_and_leaves_the_others_their_cross_entropy() -> None:
    # Two pixels at 0.9 and 0.6 of their class: the first is easy.
    p = torch.tensor([0.9, 0.6])
    logits = torch.stack((p.log(), (1 - p).log())).view(1, 2, 1, 2).requires_grad_()
    target = torch.zeros(1, 1, 2, dtype=torch.int64)
    loss = LOSSES.get("ohem_cross_entropy")(no_counts, threshold=0.7, min_kept=0.1)(logits, target)
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(0.6))
    torch.testing.assert_close(logits.grad[0, :, 0], torch.tensor([[0.0, -0.4], [0.0, 0.4]]))


def test_ohem_keeps_all_that_tie_with_the_hardest() -> None:
    logits = torch.zeros(1, 2, 1, 3)
    logits[0, 0, 0, 0] = 5.0
    target = torch.zeros(1, 1, 3, dtype=torch.int64)
    loss = LOSSES.get("ohem_cross_entropy")(no_counts, threshold=0.0, min_kept=0.3)(logits, target)
    assert float(loss) == pytest.approx(math.log(2))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("first", "second"), [("cross_entropy", "dice"), ("focal", "lovasz")])
def test_sum_weighs_its_parts(first: str, second: str, share: float) -> None:
    logits, target = batch()
    loss = LOSSES.get(f"{first}+{second}")(no_counts, second_share=share)
    parts = [LOSSES.get(name)(no_counts)(logits, target) for name in (first, second)]
    assert_same(loss(logits, target), (1 - share) * parts[0] + share * parts[1], logits)


def test_sum_is_even_by_default() -> None:
    logits, target = batch()
    loss = LOSSES.get("cross_entropy+dice")(no_counts)
    assert loss.applied()["second_share"] == 0.5
    parts = [LOSSES.get(name)(no_counts)(logits, target) for name in ("cross_entropy", "dice")]
    torch.testing.assert_close(loss(logits, target), (parts[0] + parts[1]) / 2)


def test_sum_gives_each_part_its_hyperparameters_and_both_the_shared_ones() -> None:
    assert list(LOSSES.parameters("weighted_cross_entropy+cross_entropy")) == [
        *("second_share", "weighting", "power", "volume", "label_smoothing"),
    ]
    loss = LOSSES.get("weighted_cross_entropy+cross_entropy")(lambda: COUNTS, power=0.9, label_smoothing=0.1)
    assert isinstance(loss, WeightedSum)
    assert isinstance(loss.first, WeightedCrossEntropy) and isinstance(loss.second, CrossEntropy)
    assert (loss.first.power, loss.first.label_smoothing, loss.second.label_smoothing) == (0.9, 0.1, 0.1)


@pytest.mark.parametrize(
    "name", ["dice+dice", "dice+dise", "dice+", "+dice", "+", "dice+focal+lovasz", "cross_entropy + dice"]
)
def test_only_two_different_losses_make_a_sum(name: str) -> None:
    assert name not in LOSSES
    with pytest.raises(UnknownNameError, match=r"A\+B, a weighted sum of two different ones"):
        LOSSES.get(name)
