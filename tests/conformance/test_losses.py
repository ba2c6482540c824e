"""What every registered loss, and every weighted sum of two, must do, whatever it measures."""

from __future__ import annotations

import inspect
from itertools import combinations

import pytest
import torch
from torch.nn import functional as F

from trainables.data.base import VOID
from trainables.losses import LOSSES, Loss
from trainables.registry import Choice, Scalar

N_CLASSES = 5
SUMS = [
    LOSSES.example,
    "dice+cross_entropy",
    "cross_entropy+lovasz",
    "focal+tversky",
    "weighted_cross_entropy+dice",
    "ohem_cross_entropy+lovasz",
]
ELSEWHERE: dict[str, Scalar] = {
    "label_smoothing": 0.1,
    "power": 1.0,
    "volume": 0.5,
    "gamma": 0.5,
    "alpha": 0.6,
    "beta": 0.2,
    "threshold": 0.1,
    "min_kept": 0.9,
    "second_share": 0.1,
}
"""A value of each number that changes the loss of the random batch."""
TOGETHER: dict[str, dict[str, Scalar]] = {
    "volume": {"weighting": "effective_number"},
    "min_kept": {"threshold": 0.1},
}
"""What else must be set for a hyperparameter to have an effect."""
COUNTED = {"weighting", "power", "volume"}
"""Those that are spent on the class weights when the loss is built."""


def class_pixels() -> torch.Tensor:
    return torch.tensor([5000, 400, 300, 20, 0])


def build(name: str, **params: Scalar) -> Loss:
    return LOSSES.get(name)(class_pixels, **params)


@pytest.fixture(params=[*LOSSES, *SUMS])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def loss(name: str) -> Loss:
    return build(name)


def random_batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, N_CLASSES, 8, 9, generator=generator)
    target = torch.randint(0, N_CLASSES, (2, 8, 9), generator=generator)
    target[:, :2] = VOID
    return logits.requires_grad_(), target


def perfect_logits(target: torch.Tensor, height: float) -> torch.Tensor:
    truth = target.where(target != VOID, 0)
    return height * F.one_hot(truth, N_CLASSES).movedim(-1, 1).float()


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


def test_only_the_counted_pixels_make_the_value(loss: Loss) -> None:
    """Void is as if it had been cut out, so that a batch does not weigh less the more of it is void."""
    logits, target = random_batch()
    torch.testing.assert_close(loss(logits, target), loss(logits[:, :, 2:], target[:, 2:]))


def test_perfect_prediction_is_preferred_to_a_random_one(loss: Loss) -> None:
    logits, target = random_batch()
    assert loss(perfect_logits(target, 20.0), target) < 1e-3
    assert loss(logits, target) > 0.1


def test_following_the_gradient_lowers_it(loss: Loss) -> None:
    logits, target = random_batch()
    before = loss(logits, target)
    before.backward()
    assert loss(logits - 5 * logits.grad, target) < before


def test_gradient_equals_numerical_differences(loss: Loss) -> None:
    """In double precision, away from the ties where Lovász and OHEM have no derivative."""
    logits, target = random_batch()
    double = loss.double()
    small = logits[:1, :, 1:4, :3].detach().double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: double.value(x, target[:1, 1:4, :3]), (small,))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_computed_in_float32(loss: Loss, dtype: torch.dtype) -> None:
    logits, target = random_batch()
    for scale in (1, 1000):
        half = (scale * logits).detach().to(dtype).requires_grad_()
        value = loss(half, target)
        value.backward()
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, loss(half.detach().float(), target))
        assert torch.isfinite(half.grad).all()


def test_bfloat16_logits_cost_what_float32_ones_do(loss: Loss) -> None:
    """bfloat16 keeps 8 bits: half a percent of a logit."""
    logits, target = random_batch()
    torch.testing.assert_close(loss(logits.bfloat16(), target), loss(logits, target), rtol=0.01, atol=0.01)


def test_autocast_changes_no_digit(loss: Loss) -> None:
    logits, target = random_batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits, target)
    assert torch.equal(value, loss(logits, target))


def test_classes_absent_from_the_batch_are_no_fault(loss: Loss) -> None:
    logits, target = random_batch()
    only_one = target.where(target == VOID, 4)
    value = loss(logits, only_one)
    value.backward()
    assert torch.isfinite(value) and value > 0
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("height", [50.0, -50.0])
def test_gradient_is_finite_at_certainty_right_and_wrong(loss: Loss, height: float) -> None:
    _, target = random_batch()
    logits = perfect_logits(target, height).requires_grad_()
    value = loss(logits, target)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()


def test_nan_is_not_hidden(loss: Loss) -> None:
    """Divergence is found by the loss: a pixel that is NaN may not be sorted away as an easy one."""
    logits, target = random_batch()
    broken = logits.detach().clone()
    broken[0, :, 5, 5] = torch.nan
    assert loss(broken, target).isnan()


def test_memory_layout_does_not_matter(loss: Loss) -> None:
    logits, target = random_batch()
    value = loss(logits, target)
    (gradient,) = torch.autograd.grad(value, logits)
    strided = torch.stack((logits, logits), dim=-1)[..., 0]
    assert not strided.is_contiguous()
    for other in (strided, logits.contiguous(memory_format=torch.channels_last)):
        again = loss(other, target.movedim(1, 2).contiguous().movedim(2, 1))
        torch.testing.assert_close(again, value)
        torch.testing.assert_close(torch.autograd.grad(again, logits)[0], gradient)


def test_batch_of_one_image_and_of_one_pixel(loss: Loss) -> None:
    logits, target = random_batch()
    for part in (slice(2, None), slice(2, 3)):
        value = loss(logits[:1, :, part, part], target[:1, part, part])
        assert value > 0 and torch.isfinite(torch.autograd.grad(value, logits)[0]).all()


def test_order_of_images_does_not_matter(loss: Loss) -> None:
    logits, target = random_batch()
    torch.testing.assert_close(loss(logits.flip(0), target.flip(0)), loss(logits, target))


def test_unknown_class_id_is_an_error(loss: Loss) -> None:
    logits, target = random_batch()
    target[0, 5, 5] = N_CLASSES
    with pytest.raises((IndexError, RuntimeError)):
        loss(logits, target)


def test_leaves_its_arguments_alone(loss: Loss) -> None:
    logits, target = random_batch()
    before = logits.detach().clone(), target.clone()
    loss(logits, target).backward()
    assert torch.equal(logits, before[0]) and torch.equal(target, before[1])


def test_has_nothing_to_save_or_to_train(loss: Loss) -> None:
    """Class weights follow `.to(device)`, but no checkpoint carries them: they are counted anew."""
    assert loss.state_dict() == {}
    assert list(loss.parameters()) == []
    assert all(value.device.type == "meta" for value in loss.to("meta").buffers())


def test_name_is_read_back(name: str, loss: Loss) -> None:
    assert LOSSES.name_of(loss) == name


def test_every_hyperparameter_is_read_back_and_changes_the_value(name: str) -> None:
    logits, target = random_batch()
    for key, parameter in LOSSES.parameters(name).items():
        bounds = parameter.bounds
        other = bounds.values[-1] if isinstance(bounds, Choice) else ELSEWHERE[key]
        together = TOGETHER.get(key, {})
        default, changed = build(name, **together), build(name, **together, **{key: other})
        expected = {k: p.default for k, p in LOSSES.parameters(name).items()} | together
        assert default.applied() == expected
        assert changed.applied() == expected | {key: other}
        assert changed(logits, target) != default(logits, target), key
        if key not in COUNTED:
            for module in default.modules():
                if hasattr(module, key):
                    setattr(module, key, other)
            assert default(logits, target) == changed(logits, target), f"{key} is read from somewhere else"


def test_no_loss_takes_what_it_does_not_know(name: str) -> None:
    with pytest.raises(TypeError, match="epsilon"):
        build(name, epsilon=1.0)


def test_shared_names_mean_the_same_thing() -> None:
    """A sum gives a hyperparameter that both parts have to both: bounds and default must agree."""
    for first, second in combinations(LOSSES, 2):
        ours, theirs = LOSSES.parameters(first), LOSSES.parameters(second)
        for key in ours.keys() & theirs.keys():
            assert ours[key] == theirs[key]
    assert not any("second_share" in LOSSES.parameters(name) for name in LOSSES)


@pytest.mark.parametrize("registered", LOSSES.names())
def test_says_what_it_is_and_what_its_hyperparameters_do(registered: str) -> None:
    doc = inspect.getdoc(LOSSES.get(registered)) or ""
    assert doc.splitlines()[0].rstrip().endswith((".", ":"))
    assert all(f"{key}:" in doc for key in LOSSES.parameters(registered))
