"""What every registered model must do, whatever its architecture."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from trainables.models import MODELS, SegmentationModel, build_model, min_train_batch

CLASSES = ("road", "car", "sky", "tree", "pole")


@pytest.fixture(scope="module", params=MODELS.names())
def named(request: pytest.FixtureRequest) -> Iterator[tuple[str, SegmentationModel]]:
    """A model's name and the model from seed 0, built once for all tests."""
    torch.manual_seed(0)
    yield request.param, build_model(request.param, CLASSES)


def test_odd_sizes_and_a_batch_of_one_are_evaluated(named: tuple[str, SegmentationModel]) -> None:
    _, model = named
    with torch.no_grad():
        output = model.eval()(torch.randn(1, 3, 33, 47))
    assert set(output) == {"out"}
    assert output["out"].shape == (1, len(CLASSES), 33, 47)
    assert torch.isfinite(output["out"]).all()


def test_smallest_batch_can_be_trained_on_and_none_smaller(named: tuple[str, SegmentationModel]) -> None:
    name, model = named
    model.train()
    smallest = min_train_batch(name)
    output = model(torch.randn(smallest, 3, 32, 32))
    sum(logits.mean() for logits in output.values()).backward()
    assert all(logits.shape == (smallest, len(CLASSES), 32, 32) for logits in output.values())
    assert all(parameter.grad is not None for parameter in model.parameters())
    model.zero_grad(set_to_none=True)
    if smallest > 1:
        with pytest.raises(ValueError, match="more than 1 value per channel"), torch.no_grad():
            model(torch.randn(smallest - 1, 3, 32, 32))


def test_seed_decides_the_initial_parameters_and_state_dict_carries_them_all(
    named: tuple[str, SegmentationModel],
) -> None:
    name, model = named
    torch.manual_seed(0)
    other = build_model(name, CLASSES)
    for parameter, same in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(parameter, same)
    with torch.no_grad():
        for tensor in other.state_dict().values():
            tensor.fill_(1)
    other.load_state_dict(model.state_dict())
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model.eval()(images)["out"], other.eval()(images)["out"])
