"""Weights from a user's file: what fits is loaded and told, what does not is refused."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from sweep.config import from_command_line
from trainables.config import TrialConfig
from trainables.errors import UsageError, WeightsError
from trainables.execution import Execution, TrialData
from trainables.models import build_model, ensure_weights, knows_images
from trainables.models.weight_files import shown, value_of
from trainables.trial import Trial

MODEL = "fcn_resnet18"
CLASSES = ["ground", "road", "car"]
State = Mapping[str, Tensor]


def classifier() -> dict[str, Tensor]:
    torch.manual_seed(7)
    return torchvision.models.resnet18(weights=None).state_dict()


def saved(state: Any, path: Path) -> str:
    torch.save(state, path)
    return value_of(path)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: state,
        lambda state: {"epoch": 3, "state_dict": {f"module.{key}": one for key, one in state.items()}},
        lambda state: {"model": {f"encoder.{key}": one for key, one in state.items()}},
    ],
)
def test_backbone_of_a_classifier_is_loaded_and_the_head_stays_fresh(
    tmp_path: Path, wrapped: Callable[[State], Any]
) -> None:
    state = classifier()
    weights = saved(wrapped(state), tmp_path / "resnet18.pth")
    torch.manual_seed(0)
    model = build_model(MODEL, CLASSES, weights=weights)
    own = model.state_dict()
    for key, tensor in state.items():
        if not key.startswith("fc."):
            torch.testing.assert_close(own[f"backbone.{key}"], tensor, rtol=0, atol=0)
    torch.manual_seed(0)
    fresh = build_model(MODEL, CLASSES).state_dict()
    assert all(torch.equal(own[key], fresh[key]) for key in own if key.startswith("classifier."))
    assert model.predefined.startswith("file: resnet18.pth sha256:")
    assert "100% of the backbone's numbers, fresh:" in model.predefined
    assert "not used: 2 tensors (" in model.predefined and "fc)" in model.predefined
    assert ensure_weights(MODEL, weights) and knows_images(weights)


@pytest.mark.parametrize(
    ("model", "state"),
    [
        ("lraspp_mobilenet_v3_small", lambda: torchvision.models.mobilenet_v3_small(weights=None).state_dict()),
        ("fcn_test_resnet", lambda: timm.create_model("test_resnet", pretrained=False).state_dict()),
        ("unet_test_convnext", lambda: timm.create_model("test_convnext", pretrained=False).state_dict()),
        ("linear_test_vit", lambda: timm.create_model("test_vit", pretrained=False).state_dict()),
        ("smp/unet_resnet18", lambda: segmentation_models_pytorch.Unet("resnet18", encoder_weights=None).state_dict()),
    ],
)
def test_names_of_torchvision_and_timm_are_understood(
    tmp_path: Path, model: str, state: Callable[[], dict[str, Tensor]]
) -> None:
    told = ensure_weights(model, saved(state(), tmp_path / "backbone.pt"))
    assert "100% of the backbone's numbers" in told


def test_whole_model_of_another_run_is_loaded_but_for_a_final_layer_of_other_classes(tmp_path: Path) -> None:
    torch.manual_seed(3)
    other = build_model(MODEL, [*CLASSES, "sky"], aux_weight=0.0)
    path = tmp_path / "model.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in other.state_dict().items()}, path)
    model = build_model(MODEL, CLASSES, weights=value_of(path), aux_weight=0.0)
    different = [key for key, one in model.state_dict().items() if not torch.equal(one, other.state_dict()[key])]
    assert different == ["classifier.4.weight", "classifier.4.bias"]
    assert "fresh: 2 tensors (classifier.4), not used: 2 tensors (classifier.4)" in model.predefined
    assert ensure_weights(MODEL, value_of(path), [*CLASSES, "sky"]).count("fresh") == 1, "the auxiliary head alone"


def test_what_is_no_file_of_this_model_is_refused(tmp_path: Path) -> None:
    weights = saved(torchvision.models.resnet34(weights=None).state_dict(), tmp_path / "resnet34.pth")
    with pytest.raises(WeightsError, match=r"does not fit lraspp_mobilenet_v3_small: it gives \d+% of its backbone"):
        ensure_weights("lraspp_mobilenet_v3_small", weights)
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(WeightsError, match="cannot be read as a weights file"):
        ensure_weights(MODEL, value_of(tmp_path / "text.pth"))
    with pytest.raises(WeightsError, match="holds no state dict"):
        ensure_weights(MODEL, saved({"epoch": 3}, tmp_path / "none.pth"))


class Trap:
    """What would run code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch trapped",)


def test_no_code_of_a_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=r"cannot be read as a weights file.*save model\.state_dict"):
        ensure_weights(MODEL, saved({"state_dict": classifier(), "trap": Trap()}, tmp_path / "trap.pth"))
    assert not Path("trapped").exists()


def test_readers_see_the_name_of_a_file_and_not_its_place(tmp_path: Path) -> None:
    weights = saved(classifier(), tmp_path / "mine.pth")
    assert shown(weights) == f"mine.pth sha256:{weights[-12:]}" and shown("imagenet") == "imagenet"


def test_file_that_changed_since_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "resnet18.pth"
    weights = saved(classifier(), path)
    other = {key: tensor + 1 for key, tensor in classifier().items()}
    torch.save(other, path)
    with pytest.raises(WeightsError, match="is not the one that this run began with"):
        build_model(MODEL, CLASSES, weights=weights)
    path.unlink()
    with pytest.raises(WeightsError, match="every machine that trains needs it"):
        build_model(MODEL, CLASSES, weights=weights)


def test_flag_takes_a_file_and_tells_a_typing_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = saved(classifier(), tmp_path / "my@weights.pth")
    asked = ["--space", "full", "--models", MODEL, "--weights"]
    assert from_command_line([*asked, str(tmp_path / "my@weights.pth")]).weights == weights
    assert from_command_line([*asked, weights]).weights == weights, "as a manifest has it"
    with pytest.raises(SystemExit):
        from_command_line([*asked, str(tmp_path / "none.pth")])
    assert "cannot be read (No such file" in capsys.readouterr().err
    with pytest.raises(UsageError, match="did you mean imagenet"):
        from_command_line([*asked, "imagnet"])


def test_trial_trains_from_a_file(mini_data: TrialData, tmp_path: Path) -> None:
    weights = saved(classifier(), tmp_path / "resnet18.pth")
    flat = {"model.name": MODEL, "model.weights": weights, "image_size": "32x32", "epochs": 1, "batch_size": 2,
            "training.freeze": "backbone"}  # fmt: skip
    trial = Trial(TrialConfig.from_flat(flat), mini_data, execution=Execution())
    trial.run_epoch()
    told = trial.applied["model"]["weights"]
    assert told.startswith("file: resnet18.pth")
    torch.testing.assert_close(trial.model.state_dict()["backbone.conv1.weight"], classifier()["conv1.weight"])
