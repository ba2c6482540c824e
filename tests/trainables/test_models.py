"""Models against torchvision's own, and what must be known about them before they are built."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision import models as torchvision_models

from trainables.errors import UnknownNameError
from trainables.models import MODELS, build_model, min_train_batch, parameter_count, predefined_categories
from trainables.models.architectures import ARCHITECTURES

CLASSES = ("road", "car", "sky")


@pytest.mark.parametrize("name", ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large", "fcn_resnet50"])
def test_output_is_that_of_torchvisions_model_with_the_same_parameters(name: str) -> None:
    torch.manual_seed(0)
    ours = build_model(name, CLASSES).eval()
    options = {"aux_loss": True} if "aux_weight" in MODELS.parameters(name) else {}
    theirs = torchvision_models.get_model(name, weights=None, weights_backbone=None, num_classes=3, **options).eval()
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(ours(images)["out"], theirs(images)["out"])


def test_auxiliary_head_works_in_training_only() -> None:
    model = build_model("deeplabv3_mobilenet_v3_large", CLASSES, aux_weight=0.3)
    images = torch.randn(2, 3, 64, 64)
    assert model.aux_weight == 0.3
    assert model(images)["aux"].shape == (2, 3, 64, 64)
    assert set(model.eval()(images)) == {"out"}


def test_no_auxiliary_head_without_weight() -> None:
    model = build_model("deeplabv3_mobilenet_v3_large", CLASSES, aux_weight=0.0)
    assert set(model(torch.randn(2, 3, 64, 64))) == {"out"}
    assert not any(name.startswith("aux") for name in model.state_dict())


def test_models_without_auxiliary_head_take_no_weight_for_it() -> None:
    assert "aux_weight" not in MODELS.parameters("lraspp_mobilenet_v3_large")
    with pytest.raises(TypeError):
        build_model("lraspp_mobilenet_v3_large", CLASSES, aux_weight=0.4)


def test_running_statistics_follow_within_few_steps_when_trained_from_scratch() -> None:
    model = build_model("lraspp_mobilenet_v3_large", CLASSES)
    momenta = {module.momentum for module in model.modules() if isinstance(module, nn.BatchNorm2d)}
    assert momenta == {0.1}


@pytest.mark.parametrize("name", MODELS.names())
def test_parameters_are_counted_as_torchvision_documents_them(name: str) -> None:
    assert parameter_count(name, 21) == ARCHITECTURES[name].whole_weights.meta["num_params"]


def test_counting_parameters_is_building_without_the_cost() -> None:
    name = "deeplabv3_mobilenet_v3_large"
    before = torch.random.get_rng_state()
    counted = parameter_count(name, 5, aux_weight=0.0)
    assert torch.equal(torch.random.get_rng_state(), before)
    built = build_model(name, list("abcde"), aux_weight=0.0)
    assert counted == sum(parameter.numel() for parameter in built.parameters())
    assert parameter_count(name, 5) > counted


def test_categories_of_predefined_weights_are_vocs() -> None:
    categories = predefined_categories("fcn_resnet50")
    assert len(categories) == 21
    assert categories[0] == "__background__" and categories[15] == "person"


def test_unknown_model_is_told_with_the_close_names() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown model 'fcn_resnet5'.*fcn_resnet50"):
        build_model("fcn_resnet5", CLASSES)
    with pytest.raises(UnknownNameError, match="deeplabv3_resnet50"):
        min_train_batch("deeplab3_resnet50")


def test_another_seed_is_another_initialisation() -> None:
    torch.manual_seed(0)
    first = build_model("lraspp_mobilenet_v3_large", CLASSES).state_dict()
    second = build_model("lraspp_mobilenet_v3_large", CLASSES).state_dict()
    for layer in ("backbone.0.0.weight", "classifier.low_classifier.weight"):
        assert not torch.equal(first[layer], second[layer])
