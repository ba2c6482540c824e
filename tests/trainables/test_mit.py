"""SegFormer's encoders: another implementation computes the same, and weights come from the hub's cache."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainables.errors import UsageError, WeightsError
from trainables.models import build_model, ensure_weights, mit
from trainables.models.weight_files import value_of

transformers = pytest.importorskip("transformers")

CHANNELS = (8, 16, 20, 32)
NAME = "fcn_mit_b0"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(mit.SIZES, "mit_b0", ((1, 2, 1, 1), CHANNELS))  # type: ignore[arg-type]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, without network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def published(kind: str = "ForImageClassification") -> Any:
    torch.manual_seed(3)
    config = transformers.SegformerConfig(depths=[1, 2, 1, 1], hidden_sizes=list(CHANNELS), num_labels=5)
    model = getattr(transformers, f"Segformer{kind}")(config)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.normal_(std=0.3)
    return model.eval()


def put_in_hub(hub: Path, file: Path) -> Path:
    """As the hub's own client lays it out: a blob by its content, a link to it in the snapshot of a commit."""
    folder, commit = hub / "models--nvidia--mit-b0", "0e7a0f7b2ee3bd1c4bc1fb4ccd2e01e3ae8b1d61"
    for part in ("blobs", "refs", f"snapshots/{commit}"):
        (folder / part).mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    (folder / "blobs" / "abc").write_bytes(file.read_bytes())
    link = folder / "snapshots" / commit / file.name
    link.symlink_to("../../blobs/abc")
    return link


def in_smps_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As the authors' code, which segmentation_models.pytorch has, names and joins the tensors."""
    pairs = [
        (r"stages\.(\d)\.patch_embeddings\.layer_norm", r"patch_embed\1.norm"),
        (r"stages\.(\d)\.patch_embeddings", r"patch_embed\1"),
        (r"stages\.(\d)\.layer_norm", r"norm\1"),
        (r"stages\.(\d)\.blocks", r"block\1"),
        (r"layernorm_before", "norm1"),
        (r"layernorm_after", "norm2"),
        (r"attention\.sequence_reduction\.sequence_reduction", "attn.sr"),
        (r"attention\.sequence_reduction\.layer_norm", "attn.norm"),
        (r"attention\.q_proj", "attn.q"),
        (r"attention\.o_proj", "attn.proj"),
        (r"attention\.k_proj", "attn.kv"),
    ]
    named = {}
    for key, tensor in state.items():
        if "v_proj" in key:
            continue
        if "k_proj" in key:
            tensor = torch.cat([tensor, state[key.replace("k_proj", "v_proj")]])
        for pattern, put in pairs:
            key = re.sub(pattern, put, key)
        key = re.sub(r"^(patch_embed|block|norm)(\d)", lambda found: f"{found[1]}{int(found[2]) + 1}", key)
        named[key] = tensor
    return named


def test_another_implementation_computes_the_same_maps() -> None:
    module = pytest.importorskip("segmentation_models_pytorch").encoders.mix_transformer
    theirs = module.MixVisionTransformerEncoder(
        out_channels=(3, 0, *CHANNELS), embed_dims=CHANNELS, num_heads=(1, 2, 5, 8), depths=(1, 2, 1, 1), qkv_bias=True
    ).eval()
    ours = build_model("unet_mit_b0", ("a", "b")).backbone.eval()
    ours.body.load_state_dict(published("Model").state_dict())
    theirs.load_state_dict(in_smps_names(ours.body.state_dict()))
    images = torch.randn(2, 3, 65, 130)
    with torch.no_grad():
        found, expected = ours(images), theirs(images)[2:]
    assert list(found) == ["stride4", "stride8", "stride16", "stride32"]
    for one, other in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_weights_of_the_hubs_cache_are_loaded_and_told(file: str, hub: Path, tmp_path: Path) -> None:
    original = published()
    original.save_pretrained(tmp_path / "saved")
    source = tmp_path / "saved" / "model.safetensors"
    if file.endswith(".bin"):
        state = load_file(source)
        source = tmp_path / file
        torch.save(state, source)
    put_in_hub(hub, source)
    ensure_weights(NAME, "imagenet")
    model = build_model(NAME, ("a", "b"), weights="imagenet")
    assert re.fullmatch(rf"imagenet: nvidia/mit-b0/{file} sha256:[0-9a-f]{{8}}", model.predefined)
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = original.segformer(images).last_hidden_state
        assert torch.equal(model.eval().backbone(images)["out"], expected)


def test_weights_that_are_missing_are_told_with_a_place_that_works(hub: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no ImageNet weights for mit_b0 .*--weights none") as caught:
        ensure_weights(NAME, "imagenet")
    address, place, word, ref = re.findall(r"copy (\S+) as (\S+), with the word (\S+) in (\S+) \(", str(caught.value))[
        0
    ]
    assert address == "https://huggingface.co/nvidia/mit-b0/resolve/main/model.safetensors"
    published().save_pretrained(Path(place).parent)
    Path(ref).parent.mkdir(parents=True)
    Path(ref).write_text(word)
    ensure_weights(NAME, "imagenet")
    assert build_model(NAME, ("a", "b"), weights="imagenet").predefined


@pytest.mark.parametrize("what", ["torn", "another model's"])
def test_weights_that_do_not_fit_are_refused(what: str, hub: Path, tmp_path: Path) -> None:
    published().save_pretrained(tmp_path / "saved")
    file = tmp_path / "saved" / "model.safetensors"
    if what == "torn":
        file.write_bytes(file.read_bytes()[:-100])
    else:
        save_file({"encoder.weight": torch.zeros(3)}, file)
    put_in_hub(hub, file)
    with pytest.raises(WeightsError, match=r"cannot be read|does not fit mit_b0"):
        build_model(NAME, ("a", "b"), weights="imagenet")


def test_a_file_of_any_segformer_of_the_hub_is_taken(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    original = published("ForSemanticSegmentation")
    original.save_pretrained(tmp_path / "saved")
    capfd.readouterr()
    told = ensure_weights(NAME, value_of(tmp_path / "saved" / "model.safetensors"))
    assert told.startswith("model.safetensors sha256:") and "100% of the backbone's numbers" in told
    assert "not used" in told and "decode_head" in told
    model = build_model(NAME, ("a", "b"), weights=value_of(tmp_path / "saved" / "model.safetensors"))
    for one, other in zip(model.backbone.body.parameters(), original.segformer.parameters(), strict=True):
        assert torch.equal(one, other)
    assert capfd.readouterr() == ("", ""), "transformers tells what it loads"


def test_own_checkpoint_is_taken_too(tmp_path: Path) -> None:
    model = build_model(NAME, ("a", "b"))
    torch.save(model.state_dict(), tmp_path / "own.pth")
    torch.manual_seed(9)
    again = build_model(NAME, ("a", "b"), weights=value_of(tmp_path / "own.pth"))
    for key, tensor in again.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[key]), key


def test_without_the_package_the_extra_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match=r"pip install '\.\[transformers\]' in the folder"):
        build_model(NAME, ("a", "b"))
