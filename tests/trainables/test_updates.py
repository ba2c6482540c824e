from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainables.errors import ConfigError
from trainables.models import build_model
from trainables.optimizers import OPTIMIZERS, SCHEDULES
from trainables.options import FREEZE, TrainingOptions
from trainables.updates import (
    MovingAverage,
    Updater,
    freeze,
    parameter_groups,
    training_mode,
)


class Net(nn.Module):
    """A backbone of two convolutions and a head of two, with BatchNorm behind all but the last."""

    def __init__(self, *, norm: bool = True) -> None:
        super().__init__()
        layer = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 4, 3), copy.deepcopy(layer), nn.ReLU(), nn.Conv2d(4, 4, 1), copy.deepcopy(layer), nn.ReLU()
        )
        self.classifier = nn.Sequential(nn.Conv2d(4, 4, 1), copy.deepcopy(layer), nn.ReLU(), nn.Conv2d(4, 2, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.backbone(images))  # type: ignore[no-any-return]


@pytest.fixture
def net() -> Net:
    torch.manual_seed(1)
    return Net()


def groups_of(model: nn.Module, **overrides: float) -> list[dict[str, object]]:
    return parameter_groups(
        model, **{"lr": 0.1, "weight_decay": 0.01, "backbone_lr": 1.0, "decay_norms": False, **overrides}
    )


def updater_of(model: nn.Module, *, lr: float = 0.1, optimizer: str = "sgd", **options: object) -> Updater:
    training = TrainingOptions(**options)  # type: ignore[arg-type]
    built = OPTIMIZERS.get(optimizer)(
        parameter_groups(
            model, lr=lr, weight_decay=0.0, backbone_lr=training.backbone_lr, decay_norms=training.decay_norms
        ),
        lr=lr,
        weight_decay=0.0,
        **({"momentum": 0.0} if optimizer == "sgd" else {}),
    )
    return Updater(model, built, SCHEDULES.get("constant")(1000), training)


def batches(count: int, *, size: int = 2, seed: int = 1) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        yield torch.randn(size, 3, 8, 8, generator=generator)


def test_each_weight_is_in_one_group_and_only_matrices_decay(net: Net) -> None:
    groups = groups_of(net, backbone_lr=0.2)
    members = [id(p) for group in groups for p in group["params"]]
    assert sorted(members) == sorted(id(p) for p in net.parameters())
    for name, parameter in net.named_parameters():
        (group,) = [g for g in groups if any(p is parameter for p in g["params"])]
        assert group["lr"] == pytest.approx(0.02 if name.startswith("backbone") else 0.1)
        assert group["weight_decay"] == (0.01 if parameter.ndim == 4 else 0.0)
    assert {g["name"] for g in groups} == {
        "backbone, decay", "backbone, no decay", "head, decay", "head, no decay"
    }  # fmt: skip


def test_norms_decay_where_that_is_asked_for(net: Net) -> None:
    assert {g["weight_decay"] for g in groups_of(net, decay_norms=True)} == {0.01}


def test_a_rate_for_a_backbone_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="no backbone"):
        groups_of(nn.Conv2d(3, 2, 1), backbone_lr=0.5)
    with pytest.raises(ConfigError, match="no backbone"):
        freeze(nn.Conv2d(3, 2, 1), "backbone")


def test_accumulated_batches_step_as_one_large_batch_does() -> None:
    torch.manual_seed(0)
    model = Net(norm=False)
    twin = copy.deepcopy(model)
    parts = list(batches(3))
    whole, together = updater_of(model, accumulate=3), updater_of(twin)
    for part in parts:
        whole.backward(model(part).square().mean() / len(parts))
    whole.step()
    together.backward(twin(torch.cat(parts)).square().mean())
    together.step()
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("limit", [0.5, 1e6, 0.0])
def test_clipping_scales_the_whole_gradient_to_its_limit(net: Net, limit: float) -> None:
    before = [p.detach().clone() for p in net.parameters()]
    updater = updater_of(net, lr=1.0, clip_norm=limit)
    (image,) = batches(1)
    updater.backward(100 * net(image).square().mean())
    gradients = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    norm = float(sum(g.double().square().sum() for g in gradients) ** 0.5)
    assert norm > 1
    updater.step()
    factor = limit / norm if 0 < limit < norm else 1.0
    for old, new, gradient in zip(before, net.parameters(), gradients, strict=True):
        torch.testing.assert_close(old - new.detach(), factor * gradient, rtol=1e-4, atol=1e-6)


def test_the_rate_of_each_step_is_the_schedules(net: Net) -> None:
    schedule = SCHEDULES.get("cosine")(6, warmup=0.3)
    optimizer = OPTIMIZERS.get("adamw")(groups_of(net, backbone_lr=0.1), lr=0.1, weight_decay=0.01)
    updater = Updater(net, optimizer, schedule, TrainingOptions())
    for step in range(6):
        updater.backward(net(next(batches(1))).mean())
        updater.step()
        for group in optimizer.param_groups:
            base = 0.01 if group["name"].startswith("backbone") else 0.1
            assert group["lr"] == pytest.approx(base * schedule(step))
            assert group["initial_lr"] == pytest.approx(base)


def test_moving_average_is_that_of_a_loop_in_numpy(net: Net) -> None:
    updater = updater_of(net, ema=0.6)
    expected = {name: value.numpy().astype(np.float64) for name, value in copy.deepcopy(net.state_dict()).items()}
    for step, image in enumerate(batches(8), 1):
        updater.backward(net(image).square().mean())
        updater.step()
        kept = min(0.6, (1 + step) / (10 + step))
        for name, value in net.state_dict().items():
            current = value.numpy().astype(np.float64)
            whole = name.endswith("num_batches_tracked")
            expected[name] = current.copy() if whole else kept * expected[name] + (1 - kept) * current
    averaged = updater.evaluated.state_dict()
    for name, value in expected.items():
        np.testing.assert_allclose(averaged[name].numpy(), value, rtol=1e-5, atol=1e-6, err_msg=name)
    assert updater.evaluated is not net
    assert not any(p.requires_grad for p in updater.evaluated.parameters())
    with torch.no_grad():
        assert not torch.equal(updater.evaluated.eval()(image), net.eval()(image))


def test_without_averaging_the_model_itself_is_evaluated(net: Net) -> None:
    assert updater_of(net).evaluated is net


def test_average_follows_through_frozen_weights(net: Net) -> None:
    freeze(net, "backbone")
    average = MovingAverage(net, 0.9)
    average.update(1)
    for name, value in net.state_dict().items():
        assert torch.equal(average.module.state_dict()[name], value)


@pytest.mark.parametrize("what", FREEZE)
def test_what_is_frozen_stays_as_it_was(net: Net, what: str) -> None:
    freeze(net, what)
    before = copy.deepcopy(net.state_dict())
    updater = updater_of(net, freeze=what)
    for image in batches(2):
        training_mode(net, updater.frozen)
        updater.backward(net(image).square().mean())
        updater.step()
    moved = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    statistics = {name for name in before if "running" in name or "tracked" in name}
    backbone = {name for name in before if name.startswith("backbone")}
    first_half = {name for name in before if name.startswith(("backbone.0.", "backbone.1."))}
    frozen = {"none": set(), "batch_norm": statistics, "stages": statistics | first_half, "backbone": backbone}[what]
    assert not moved & frozen
    # A bias before BatchNorm has no gradient; all else moves.
    assert moved >= set(before) - frozen - {"backbone.0.bias", "backbone.3.bias", "classifier.0.bias"}


@pytest.mark.parametrize(
    ("model", "first_trained"),
    [
        ("lraspp_efficientnet_lite0", "backbone.body.blocks.4.0.conv_pw.weight"),
        ("fcn_resnet50", "backbone.layer3.0.conv3.weight"),
        ("lraspp_mobilenet_v3_large", "backbone.9.block.1.0.weight"),
    ],
)
def test_first_half_of_the_layers_is_what_the_image_goes_through_first(model: str, first_trained: str) -> None:
    """Of 48, 53 and 62 convolutions the first 24, 26 and 31, with their norms: a tenth of the weights or less."""
    built = build_model(model, ["a", "b"], weights="none")
    freeze(built, "stages")
    trained = [name for name, weight in built.named_parameters() if weight.requires_grad]
    assert trained[0] == first_trained
    still = [weight for weight in built.backbone.parameters() if not weight.requires_grad]
    assert 0.04 < sum(map(torch.Tensor.numel, still)) / sum(map(torch.Tensor.numel, built.backbone.parameters())) < 0.1
    assert sum(weight.ndim > 1 for weight in still) == {"fcn_resnet50": 26, "lraspp_mobilenet_v3_large": 31}.get(
        model, 24
    )


def test_bf16_keeps_weights_and_gradients_in_float32(net: Net) -> None:
    twin = copy.deepcopy(net)
    (image,) = batches(1)
    updater = Updater(
        net, OPTIMIZERS.get("sgd")(groups_of(net)), SCHEDULES.get("constant")(9), TrainingOptions(), precision="bf16"
    )
    with updater.autocast():
        output = net(image)
    assert output.dtype is torch.bfloat16
    updater.backward(output.float().square().mean())
    assert {p.dtype for p in net.parameters()} | {p.grad.dtype for p in net.parameters()} == {torch.float32}
    torch.testing.assert_close(output.float(), twin(image), rtol=0.1, atol=0.1)


def test_scaled_loss_is_clipped_as_an_unscaled_one(net: Net) -> None:
    twin = copy.deepcopy(net)
    (image,) = batches(1)
    for model, precision in ((net, "fp16"), (twin, "fp32")):
        optimizer = OPTIMIZERS.get("sgd")(groups_of(model), lr=0.1, weight_decay=0.0)
        constant = SCHEDULES.get("constant")(9)
        updater = Updater(model, optimizer, constant, TrainingOptions(clip_norm=0.5), precision=precision)
        updater.backward(100 * model(image).square().mean())
        updater.step()
    for one, other in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other)
