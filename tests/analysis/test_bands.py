"""A model of five bands on its way through evaluation, prediction, export, pictures and factors."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import tifffile
import torch
from PIL import Image

from analysis import load_model, predict
from analysis.audit import factors as audit
from analysis.audit.components import find_parts
from analysis.export import card
from analysis.export.graph import Graph, onnx_bytes, traced
from analysis.export.metadata import metadata_of
from analysis.export.parity import compare, onnx_runner
from analysis.failures.components import find_components
from analysis.failures.factors import FACTORS, measure_factors
from analysis.failures.measure import boundary_width
from analysis.inputs import find_inputs
from analysis.model import TrainedModel
from analysis.predicting import Predictor
from analysis.report.gallery import Source
from tests import mini
from trainables.checkpoint import TRIAL_FILE, publish
from trainables.config import TrialConfig
from trainables.data.bands import Bands
from trainables.data.find import find
from trainables.data.folder import Folder
from trainables.data.layouts.finding import Said
from trainables.data.resizing import fit_image, resize_image
from trainables.errors import CheckpointError, DataError
from trainables.execution import TrialData
from trainables.loaders import evaluation_loader
from trainables.loops import evaluate
from trainables.metrics import ConfusionMatrix
from trainables.options import LETTERBOX, TILE
from trainables.trial import Trial

ORDER = (5, 4, 3, 2, 1)


@dataclass(frozen=True)
class Made:
    data: Folder
    folder: Path
    model: TrainedModel


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """A model trained for an epoch on all five bands in reverse order, and published as a sweep does."""
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("bands")
        patch.setenv("SEGSWEEP_CACHE", str(place / "cache"))
        root = mini.write_bands(place / "data", count=8)
        data = Folder(root, find(root, Said(channels=ORDER)))
        ids = tuple(data.ids())
        flat = {"model.name": "lraspp_mobilenet_v3_small", "image_size": "48x64", "epochs": 1, "batch_size": 4,
                "resize": LETTERBOX}  # fmt: skip
        trial = Trial(TrialConfig.from_flat(flat), TrialData(data, ids[:6], ids[6:]))
        trial.run_epoch()
        assert data.bands is not None
        told = {"name": "folder", "root": str(root), "ids": [0, 1, 2], "image_bits": 12, "bands": data.bands.to_json()}
        publish(trial.save(place / "checkpoints"), place / "model", label="best", data=told)
        yield Made(data, place / "model", load_model(place / "model"))


@pytest.fixture(scope="module")
def graph(made: Made) -> Graph:
    return traced(made.model)


def test_prediction_reads_the_bands_of_training_and_gives_the_masks_of_evaluation(made: Made, tmp_path: Path) -> None:
    inputs = find_inputs(made.data.root / "images", out=tmp_path, trained_bits=12, bands=made.model.bands)
    predictor, ids = Predictor(made.model), list(made.data.ids())
    by_predictor = ConfusionMatrix(3)
    for picture, image_id in zip(inputs.pictures, ids, strict=True):
        image = inputs.read(picture)
        assert np.array_equal(image, made.data.image(image_id))
        assert not np.array_equal(image, image[..., ::-1])
        mask = torch.from_numpy(made.data.mask(image_id))
        by_predictor.update(torch.from_numpy(predictor(image).classes), mask)
    by_loader = ConfusionMatrix(3)
    loader = evaluation_loader(
        made.data, ids, size=(48, 64), batch_size=4, resize=LETTERBOX, normalisation=made.model.record.normalisation
    )
    evaluate(made.model.model, loader, [by_loader])
    assert np.array_equal(by_predictor.value(), by_loader.value())


def test_command_writes_masks_and_tells_which_bands_it_reads(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "a.tif").write_bytes(made.data.paths("im000")[0].read_bytes())
    Image.new("RGB", (64, 48)).save(images / "b.png")
    assert predict.main([str(made.folder), str(images), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 1
    told = " ".join(capsys.readouterr().out.split())
    assert "the model sees bands 5,4,3,2,1 of 5; pictures show bands 1,2,3 as RGB" in told
    assert "1 image with 3 bands, not 5 as in training" in told
    assert "12 bits divided by 16 (as in training" in told
    mask = np.asarray(Image.open(tmp_path / "out" / "masks" / "a.png"))
    assert np.array_equal(mask, Predictor(made.model)(made.data.image("im000")).classes)
    summary = (tmp_path / "out" / "summary.csv").read_text()
    assert "image has 3 bands, and band 5 is wanted" in summary


def test_model_of_pictures_takes_the_three_colours_and_no_others(tmp_path: Path) -> None:
    root = mini.write_bands(tmp_path / "data", count=1)
    path = root / "images" / "im000.tif"
    inputs = find_inputs(root / "images", out=tmp_path, trained_bits=12)
    assert np.array_equal(inputs.read(inputs.pictures[0]), tifffile.imread(path)[..., :3] // 16)
    assert "1 image with more bands than red, green and blue: these three are read" in inputs.notes
    tifffile.imwrite(path, tifffile.imread(path), photometric="minisblack", planarconfig="contig")
    inputs = find_inputs(root / "images", out=tmp_path)
    with pytest.raises(DataError, match="5 bands, and the model was trained on red, green and blue"):
        inputs.read(inputs.pictures[0])


def test_exported_file_computes_what_the_model_computes_on_five_bands(made: Made, graph: Graph) -> None:
    metadata = metadata_of(made.model, graph)
    assert metadata["input"].startswith("images: uint8 (batch, height, width, 5), bands 5,4,3,2,1 of 5 in this order")
    assert "divided by 16" in metadata["input"]
    assert Bands.from_json(json.loads(metadata["bands"])) == made.data.bands
    content = onnx_bytes(graph, metadata)
    last = onnx.load_from_string(content).graph.input[0].type.tensor_type.shape.dim[3].dim_value
    run, runtime = onnx_runner(content)
    pairs = [lambda i=i: (made.data.image(i), made.data.mask(i)) for i in list(made.data.ids())[6:]]
    parity = compare(made.model, graph, run, runtime, pairs)
    assert last == 5
    assert parity.equal > 0.999
    assert parity.file_miou == pytest.approx(parity.report_miou, abs=0.01)
    image = made.data.image("im000")[:40]
    names: dict[str, object] = {"image": image, "cv2": cv2, "np": np}
    exec(card._resizing(LETTERBOX, "48x64", "1", made.data.bands), names)
    assert np.array_equal(names["inputs"], fit_image(image, (48, 64), LETTERBOX))
    assert "uint8 (height, width, 5)" in card._snippet(
        "onnx", LETTERBOX, "m.onnx", "48x64", classes=3, multiple="1", bands=made.data.bands
    )


@pytest.mark.parametrize(("size", "resize"), [((40, 150), TILE), ((90, 140), f"{TILE}@0.5")])
def test_windows_over_five_bands_are_those_of_an_evaluation_by_the_file_and_by_the_card(
    made: Made, graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], resize: str
) -> None:
    record = made.model.record
    tiled = dataclasses.replace(
        made.model, record=dataclasses.replace(record, config=dataclasses.replace(record.config, resize=resize))
    )
    image = resize_image(made.data.image("im000"), size)
    expected = Predictor(tiled)(image)
    assert expected.tiles > 1

    def by_file(images: np.ndarray) -> np.ndarray:
        return np.asarray(graph.module(torch.from_numpy(images)).detach())

    parity = compare(tiled, graph, by_file, "itself", [lambda: (image, expected.classes)])
    assert parity.equal == 1 == parity.report_miou and parity.file_miou is not None and parity.file_miou > 0.95
    monkeypatch.chdir(tmp_path)
    np.save("image.npy", image)
    code = card._snippet("torch_export", resize, "net.pt2", "48x64", classes=3, multiple="1", bands=made.data.bands)
    head, _, rest = code.partition("model = ")
    names: dict[str, object] = {"model": graph.module}
    exec(head + rest.partition("\n")[2], names)
    assert (names["classes"] == expected.classes).mean() > 0.98


@pytest.mark.parametrize("wrong", [{"numbers": [1, 2]}, {"numbers": [9] * 5}, None])
def test_bands_that_are_not_the_models_are_refused(made: Made, tmp_path: Path, wrong: dict[str, object] | None) -> None:
    content = json.loads((made.folder / TRIAL_FILE).read_text())
    content["data"]["bands"] = None if wrong is None else {**content["data"]["bands"], "colours": None, **wrong}
    for path in made.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / TRIAL_FILE).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"normalisation is not|not a choice of bands"):
        load_model(tmp_path)


@pytest.mark.parametrize("bands", [Bands((5, 4, 3, 2, 1), 5, colours=(1, 2, 3)), Bands((5, 4, 3, 2, 1), 5)])
def test_factors_are_measured_on_all_bands_and_found_again_by_the_audit(made: Made, bands: Bands) -> None:
    image, mask = made.data.image("im000"), made.data.mask("im000")
    kinds = np.array([1, 1, 2])
    _, found = measure_factors(image, find_components(mask), kinds, boundary_width(mask.shape), bands)
    again = audit.measure(image, mask, find_parts(mask), kinds, bands)
    assert np.allclose(found, again, atol=1e-6, equal_nan=True)
    column = [factor.name for factor in FACTORS].index("saturation")
    assert np.isnan(found[:, column]).all() == (bands.colours is None)
    light = [factor.name for factor in FACTORS].index("light")
    assert found[0, light] == pytest.approx(image.mean() / 255, abs=0.002)


def test_pictures_say_which_bands_they_show(made: Made) -> None:
    assert made.data.bands is not None
    assert made.data.bands.short_caption() == "bands 1,2,3 (2% to 98%)"
    assert Source(None, made.data.mask, lambda key, image_id: made.data.mask(image_id)).shown == "image"
