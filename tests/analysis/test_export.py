"""Exported files compute what the model computes, say what they are, and are refused where they cannot be written."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import re
import sys

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from timm.layers import Conv2dSame
from timm.models.swin_transformer import SwinTransformerBlock

from analysis import export, load_model
from analysis.export import __main__ as command
from analysis.export import card
from analysis.export import graph as graphs
from analysis.export.graph import ExportError, traced
from analysis.export.metadata import metadata_of
from analysis.export.parity import Parity, compare, onnx_runner
from analysis.export.pooling import PoolToCells, pool_in_any_format
from analysis.predicting import Predictor
from trainables.data.resizing import content_size, fit_image
from trainables.latency import Latency
from trainables.loops import to_input
from trainables.models import build_model
from trainables.models.timm_backbones import with_constant_padding
from trainables.options import CROP, LETTERBOX, RESIZES, TILE

from ..copies import copy_run
from .small_run import COUNTS, made_once


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    with made_once(tmp_path_factory) as made:
        yield made


@pytest.fixture(scope="module")
def trained(original):
    return load_model(original[1])


def with_model(trained, model):
    other = copy.copy(trained)
    object.__setattr__(other, "model", model)
    return other


def with_resize(record, resize):
    return dataclasses.replace(record, config=dataclasses.replace(record.config, resize=resize))


@pytest.fixture(scope="module")
def graph(trained):
    return traced(trained)


@pytest.fixture(scope="module")
def written(original, graph, tmp_path_factory):
    """The command, once: what it printed, and its file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "traced", lambda trained, **options: graph)
        out = tmp_path_factory.mktemp("out") / "net.onnx"
        told = io.StringIO()
        patch.setattr(sys, "stdout", told)
        assert export.main([str(original[1]), "--out", str(out)]) == 0
        return out, told.getvalue()


def test_file_takes_any_number_of_images_of_any_size(written, trained):
    session = onnxruntime.InferenceSession(written[0])
    for shape in ((1, 32, 48, 3), (3, 65, 97, 3), (2, 200, 33, 3)):
        images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        (logits,) = session.run(["logits"], {"images": images})
        with torch.no_grad():
            expected = trained.model(to_input(torch.from_numpy(images), trained.normalisation, "cpu"))["out"]
        np.testing.assert_allclose(logits, expected.numpy(), rtol=1e-3, atol=1e-4)
    sides = [
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in _ends(written[0])
    ]
    assert sides == [["batch", "height", "width", 3], ["batch", 3, "height", "width"]]


def test_file_says_what_it_is(written, trained):
    about = onnxruntime.InferenceSession(written[0]).get_modelmeta().custom_metadata_map
    assert json.loads(about["classes"]) == ["left", "right", "dot"] and json.loads(about["ids"]) == [0, 1, 2]
    assert about["input_size"] == "32x48" and "stretched to 32x48" in about["resizing"]
    assert about["checkpoint_sha256"] == trained.record.sha256
    assert about["provenance"].splitlines() == trained.provenance.lines()
    assert "0.4000, on the images that chose it" in about["provenance"]


@pytest.mark.parametrize("resize", [way for way in RESIZES if way != TILE])
@pytest.mark.parametrize("size", [(40, 90), (90, 60), (33, 48), (64, 96)])
def test_resizing_on_the_card_gives_the_input_that_the_model_was_trained_on(resize, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    names: dict[str, object] = {"image": image, "cv2": cv2, "np": np}
    exec(card._resizing(resize, "32x48", "1", None), names)
    np.testing.assert_array_equal(names["inputs"], fit_image(image, (32, 48), resize))
    if resize == LETTERBOX:
        assert (names["rows"], names["columns"]) == content_size(size, (32, 48), resize)
        assert "rows, :columns" in card._snippet("onnx", resize, "net.onnx", "32x48", classes=3, multiple="1")


@pytest.mark.parametrize(
    ("size", "resize"), [((40, 90), TILE), ((20, 200), TILE), ((20, 30), TILE), ((75, 231), f"{TILE}@0.5")]
)
def test_windows_on_the_card_are_those_of_an_evaluation(size, resize, trained, graph, monkeypatch, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    tiled = dataclasses.replace(trained, record=with_resize(trained.record, resize))
    expected = Predictor(tiled)(image)
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("image.png", image[..., ::-1])
    code = card._snippet("torch_export", resize, "net.pt2", "32x48", classes=3, multiple="1")
    head, _, rest = code.partition("model = ")
    names: dict[str, object] = {"model": lambda images: graph.module(images)}
    exec(head + rest.partition("\n")[2].replace("image.jpg", "image.png"), names)
    # The file enlarges logits to each window; an evaluation does so from the head's resolution: not the same digits.
    assert (names["classes"] == expected.classes).mean() > 0.99
    parity = compare(tiled, graph, lambda images: graph.module(torch.from_numpy(images)).detach().numpy(), "itself",
                     [lambda: (image, expected.classes)])  # fmt: skip
    assert parity.equal == 1 and parity.file_miou > 0.98 and parity.report_miou == 1
    assert parity.pixels == expected.tiles * 32 * 48


@pytest.mark.parametrize("resize", [CROP, TILE, f"{TILE}@0.5"])
def test_files_of_models_that_were_trained_on_parts_say_how_whole_images_are_seen(resize, trained, graph):
    about = metadata_of(dataclasses.replace(trained, record=with_resize(trained.record, resize)), graph)
    assert about["resize"] == resize and "as in an evaluation" in about["resizing"]
    assert ("windows of 32x48" in about["resizing"]) is (resize != CROP)
    assert ("resized to 0.5 of its height and width" in about["resizing"]) is (resize not in (CROP, TILE))


def test_comparison_on_val_is_told_with_its_numbers(written):
    told = written[1]
    pixels = COUNTS["val"] * 32 * 48
    equal = re.search(
        rf"the same class as PyTorch in (\S+)% of {pixels:,} pixels \({COUNTS['val']} images of val\)", told
    )
    assert equal and float(equal[1]) > 99.9
    scores = re.search(r"mIoU (\S+) by the file, (\S+) as the report computes it \(difference (\S+)\)", told)
    assert scores and abs(float(scores[1]) - float(scores[2])) < 0.02
    assert float(scores[3]) == pytest.approx(float(scores[1]) - float(scores[2]), abs=2e-4)
    assert re.search(r"\d ms ± \d+% by PyTorch, \S+ ms ± \d+% by ONNX Runtime", told)


def test_code_on_the_card_predicts_as_predict_does(written, trained, original, tmp_path, monkeypatch):
    card = written[0].with_name("net.onnx.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    image = original[0].image("val01")
    Image.fromarray(image).save(tmp_path / "image.png")
    monkeypatch.chdir(written[0].parent)
    names: dict[str, object] = {}
    exec(code.replace("image.jpg", str(tmp_path / "image.png")), names)
    expected = Predictor(trained)(image).classes
    assert names["classes"].shape == expected.shape
    assert (names["ids"] == expected).mean() > 0.95, "logits are enlarged in two steps there, in one here"
    for told in (
        *("trial 0001-finish (label best)", trained.record.sha256, "a candidate, not confirmed"),
        *("val: 5 images, chose the configuration", "test: 42 images, sealed until a report opens it"),
        *("mIoU 0.4000", "| dot | 2 | 2 | `#00c800` |", "To be written by whoever", "a warning about the split"),
    ):
        assert told in card
    assert cv2.__name__ in names


def test_program_of_torch_is_written_too(original, graph, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "traced", lambda trained, **options: graph)
    out = tmp_path / "net.pt2"
    moved = copy_run(original[1] / "best" / "best", tmp_path / "elsewhere")
    assert export.main([str(moved), "--format", "torch_export", "--out", str(out)]) == 0
    assert "8 images of noise" in capsys.readouterr().out
    extra = {graphs.METADATA_FILE: ""}
    module = torch.export.load(out, extra_files=extra).module()
    assert json.loads(extra[graphs.METADATA_FILE])["input_size"] == "32x48"
    assert module(torch.zeros(1, 70, 41, 3, dtype=torch.uint8)).shape == (1, 3, 70, 41)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--opset", "17"], 2, "write 18 to"),
        (["--out", "{taken}"], 2, "is there already"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(original, graph, tmp_path, monkeypatch, capsys, arguments, code, told):
    monkeypatch.setattr(command, "traced", lambda trained, **options: graph)
    taken = tmp_path / "taken.onnx"
    taken.write_text("mine")
    words = [word.format(taken=taken) for word in arguments]
    place = [] if "--out" in words else ["--out", str(tmp_path / "net.onnx")]
    assert export.main([str(original[1]), "--images", "0", *words, *place]) == code
    assert told in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken.onnx"] and taken.read_text() == "mine"


def test_without_the_packages_one_sentence_says_how_to_get_them(graph, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(graphs.UsageError, match=r"needs the package onnxscript: pip install '\.\[export\]'"):
        graphs.onnx_bytes(graph, {})


def test_a_file_that_computes_something_else_is_not_kept(original, graph, tmp_path, monkeypatch, capsys):
    wrong = Parity(8, 100, 0.5, None, None, Latency(1.0), Latency(1.0), "x")
    monkeypatch.setattr(command, "traced", lambda trained, **options: graph)
    monkeypatch.setattr(command, "compare", lambda *arguments, **options: wrong)
    monkeypatch.setattr(command, "onnx_bytes", lambda *arguments, **options: b"")
    monkeypatch.setattr(command, "onnx_runner", lambda content: (None, ""))
    assert export.main([str(original[1]), "--images", "0", "--out", str(tmp_path / "net.onnx")]) == 1
    assert "is not kept: the same class as PyTorch in 50.0000% of 100 pixels" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


class Stubborn(torch.nn.Module):
    def forward(self, images, *, resize=True):
        if float(images.sum()) > 0:
            return {"out": images}
        return {"out": -images}


def test_a_model_that_cannot_be_traced_is_one_clear_error(trained):
    with pytest.raises(ExportError, match=r"lraspp_mobilenet_v3_large cannot be traced for images of any size"):
        traced(with_model(trained, Stubborn()))


def test_tensorflows_padding_is_constant_where_strides_divide_the_sides():
    torch.manual_seed(0)
    model = build_model("lraspp_efficientnet_lite0", ["a", "b"], weights="none").eval()
    fixed = copy.deepcopy(model)
    assert with_constant_padding(fixed) and not with_constant_padding(build_model("lraspp_resnet18", ["a", "b"]))
    images = torch.randn(1, 3, 96, 160)
    with torch.no_grad():
        assert torch.equal(fixed(images)["out"], model(images)["out"])


class Small(torch.nn.Module):
    """A model of one layer between two convolutions."""

    def __init__(self, layer):
        super().__init__()
        self.normalisation = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
        self.first, self.layer, self.last = torch.nn.Conv2d(3, 8, 3, padding=1), layer, torch.nn.LazyConv2d(3, 1)

    def forward(self, images, *, resize=True):
        logits = self.last(self.layer(self.first(images)))
        return {"out": torch.nn.functional.interpolate(logits, images.shape[-2:], mode="bilinear")}


KINDS = {
    "padding that depends on the size": (lambda: Small(Conv2dSame(8, 8, 3, stride=2)), 32),
    "pooling to several cells": (lambda: Small(torch.nn.AdaptiveAvgPool2d(3)), 1),
    "patches": (lambda: build_model("linear_test_vit", ["left", "right", "dot"]), 16),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_models_are_written_for_any_size(kind, trained):
    make, multiple = KINDS[kind]
    torch.manual_seed(0)
    model = make().eval()
    with torch.no_grad():
        model(torch.zeros(1, 3, 96, 96))  # lazy layers get their sizes
    net = with_model(trained, model)
    graph = traced(net)
    assert graph.module.multiple == multiple and graph.input_size((100, 300))[0] % multiple == 0
    about = metadata_of(net, graph)
    assert ("multiples of" in about["input"]) is (multiple > 1)
    run, _ = onnx_runner(graphs.onnx_bytes(graph, about))
    for size in ((96, 224), (192, 64)):
        images = np.random.default_rng(0).integers(0, 256, (1, *size, 3), dtype=np.uint8)
        with torch.no_grad():
            expected = model(to_input(torch.from_numpy(images), net.normalisation, "cpu"))["out"].numpy()
            program = graph.program.module()(torch.from_numpy(images)).numpy()
        np.testing.assert_allclose(program, expected, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(run(images), expected, rtol=1e-3, atol=1e-4)


def _ends(path):
    loaded = onnx.load(path)
    return loaded.graph.input[0], loaded.graph.output[0]


@pytest.mark.parametrize("cells", [2, 3, 6, (3, None), (4, 5)])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (12, 8)])
def test_pooling_to_cells_is_torchs_own(cells, size):
    holder = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(cells), torch.nn.AdaptiveAvgPool2d(1))
    maps = torch.randn(2, 3, *size)
    expected = holder[0](maps)
    pool_in_any_format(holder)
    assert isinstance(holder[0], PoolToCells) and isinstance(holder[1], torch.nn.AdaptiveAvgPool2d)
    torch.testing.assert_close(holder[0](maps), expected)


class OfOneSize(torch.nn.Module):
    """Its graph holds the size, as the position codes of some transformers do."""

    def forward(self, images, *, resize=True):
        places = torch.arange(images.shape[-1], dtype=torch.float32) / float(images.shape[-1])
        return {"out": images[:, :3] + places}


def test_a_model_whose_graph_holds_its_size_is_written_for_that_size(original, tmp_path, monkeypatch, capsys):
    real = command.load_model
    monkeypatch.setattr(
        command, "load_model", lambda *place, **options: with_model(real(*place, **options), OfOneSize())
    )
    out = tmp_path / "net.onnx"
    words = [str(original[1]), "--images", "2", "--out", str(out)]
    assert export.main(words) == 1
    told = capsys.readouterr().err
    assert "cannot be traced for images of any size" in told and told.endswith(
        ": --fixed-size writes it for images of one size\n"
    )
    assert not list(tmp_path.iterdir())
    assert export.main([*words, "--fixed-size"]) == 0
    assert "of 32x48 pixels and of no other size" in capsys.readouterr().out
    assert [one.dim_param or one.dim_value for one in _ends(out)[0].type.tensor_type.shape.dim] == ["batch", 32, 48, 3]


def test_models_with_shifted_windows_are_refused_before_torch_traces_them_without_an_end(trained):
    model = OfOneSize()
    model.block = SwinTransformerBlock(4, (8, 8), num_heads=1)
    with pytest.raises(ExportError, match=r"of any size .*shifted windows .*: --fixed-size writes it"):
        traced(with_model(trained, model))
    assert traced(with_model(trained, model), fixed=(32, 48)).fixed == (32, 48)


def test_a_file_of_one_size_keeps_the_aspect_of_images_as_their_training_did(trained):
    cropping = with_model(dataclasses.replace(trained, record=with_resize(trained.record, CROP)), trained.model)
    graph = traced(with_model(cropping, OfOneSize()), fixed=(32, 48))
    assert metadata_of(cropping, graph)["resize"] == LETTERBOX and graph.input_size((90, 200)) == (32, 48)
