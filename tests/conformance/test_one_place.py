"""A component of each kind, added by one decorated function or class in a file of its own, and found everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from analysis.report.drawing import save_figures
from analysis.report.gallery import Gallery
from analysis.report.page import Material, render_page
from analysis.report.parts import Parts
from search_spaces import SPACES
from sweep import run
from sweep.objectives import objective_of
from sweep.optuna_study import Suggestions
from sweep.schedulers import SCHEDULERS
from trainables import components, plugins
from trainables.augmentations import Policy, PolicySpec, preflight
from trainables.augmentations import __main__ as augmentation
from trainables.config import TrialConfig
from trainables.data import check
from trainables.execution import TrialData
from trainables.trial import Trial

from ..analysis.synthetic_run import make_results
from ..plugin import LOSS, nothing_left_behind, write

ROOT = Path(__file__).resolve().parents[2]

SOURCES = {
    "loss": LOSS,
    "optimizer": '''
import torch
from trainables.optimizers import OPTIMIZERS, LearningRate, WeightDecay

@OPTIMIZERS.register("radam")
def radam(parameters, *, lr: LearningRate = 1e-3, weight_decay: WeightDecay = 1e-4) -> torch.optim.Optimizer:
    """Adam whose first steps are rectified (Liu et al., 2020)."""
    return torch.optim.RAdam(parameters, lr=lr, weight_decay=weight_decay)
''',
    "schedule": '''
from dataclasses import dataclass
from trainables.optimizers import SCHEDULES, Schedule

@SCHEDULES.register("straight")
@dataclass(frozen=True)
class Straight(Schedule):
    """A straight line towards zero."""

    def decay(self, progress: float) -> float:
        return 1 - progress
''',
    "transformation": '''
import albumentations as A
from trainables.augmentations import Magnitude, transformation

class Redden(A.ImageOnlyTransform):
    def __init__(self, limit, p):
        super().__init__(p=p)
        self.limit = limit

    def get_params(self):
        return {"shift": self.py_random.uniform(0, self.limit)}

    def apply(self, img, shift, **params):
        image = img.astype("float32")
        image[..., 0] = (image[..., 0] + shift).clip(0, 255)
        return image.astype("uint8")

@transformation("redden", magnitude=Magnitude("red added", 0, 60, 0.5, "≤{:.0f}", "beyond, all classes look alike"))
def redden(size, p, limit):
    """Evening light."""
    return Redden(limit, p)
''',
    "policy": '''
from trainables.augmentations import POLICIES

@POLICIES.register("tilted")
def tilted() -> dict[str, float]:
    """A camera that is not held straight."""
    return {"rotate": 0.5}
''',
    "head": '''
from torch import nn
from trainables.models import HEADS, Head

HEADS.register("onelayer")(
    Head(
        "One convolution",
        lambda channels, n_classes: nn.Conv2d(channels["out"], n_classes, 1),
        levels=("out",),
        dilated=False,
        final_layers=("classifier",),
    )
)
''',
    "model": '''
from torch import nn
from trainables.models import MODELS, SegmentationModel
from trainables.models.base import Weights

class _Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, images):
        return {"out": self.layer(images).relu()}

@MODELS.register("smallest")
def smallest(class_names, *, weights: Weights = "none"):
    """Two convolutions."""
    normalisation = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    classifier = nn.Conv2d(4, len(class_names), 1)
    return SegmentationModel(_Backbone(), classifier, name="smallest", normalisation=normalisation)
''',
    "data set": '''
import numpy as np
from pathlib import Path
from PIL import Image as Pictures
from trainables.data import DATASETS, ClassInfo, SegmentationData, Splits

class Halves(SegmentationData):
    """Left and right."""

    name = "halves"
    default_image_size = (32, 32)
    classes = (ClassInfo("left", (200, 0, 0)), ClassInfo("right", (0, 0, 200)))

    def __init__(self, root):
        self.root = root

    def ids(self):
        return [f"{number:02d}" for number in range(20)]

    def paths(self, image_id):
        return self.root / f"{image_id}.png", self.root / f"{image_id}_mask.png"

    def image(self, image_id):
        return np.asarray(Pictures.open(self.paths(image_id)[0]))

    def mask(self, image_id):
        return np.asarray(Pictures.open(self.paths(image_id)[1]))

    def splits(self, *, seed=0):
        ids = tuple(self.ids())
        return Splits(ids[:10], ids[10:15], ids[15:], origin="in their order")

@DATASETS.register("halves")
def halves(*, root: Path | None = None, download: bool = False) -> Halves:
    """Left and right, drawn where they are missing."""
    for number in range(20):
        image = np.full((32, 32, 3), number, np.uint8)
        image[:, 16:] = 255 - number
        Pictures.fromarray(image).save(root / f"{number:02d}.png")
        mask = (np.arange(32) >= 16).astype(np.uint8)
        Pictures.fromarray(np.tile(mask, (32, 1))).save(root / f"{number:02d}_mask.png")
    return Halves(root)
''',
    "space": '''
from search_spaces import SPACES, Parameter, SearchSpace

@SPACES.register("decay")
def decay(models, weights):
    """How strongly should weights decay?"""
    parameter = Parameter("optimizer.weight_decay", "float", low=1e-4, high=1e-1, log=True, default=1e-2, reason="mine")
    return SearchSpace("decay", "How strongly?", (parameter,), label_by="model.name")
''',
    "sampler": '''
import optuna
from sweep.samplers import SAMPLERS

@SAMPLERS.register("univariate")
def univariate(draw) -> optuna.samplers.BaseSampler:
    """TPE of each parameter by itself."""
    return optuna.samplers.TPESampler(seed=draw.seed, n_startup_trials=draw.startup)
''',
    "scheduler": '''
from sweep.schedulers import SCHEDULERS, Never

class Patient(Never):
    def epochs(self) -> str:
        return "at the very end"

@SCHEDULERS.register("patient")
def patient(max_epochs: int) -> Patient:
    """Stops nothing."""
    return Patient()
''',
    "section": '''
from markupsafe import Markup
from analysis.report.page import SECTIONS, Evidence, Section

@SECTIONS.register("weather-report")
def weather_report(material) -> Section:
    """What the run was about."""
    name = Markup("<p>The data set is {}.</p>").format(material.results.manifest.data.name)
    return Section("Weather report", name, "weather-report", Evidence.RECORD)
''',
}  # fmt: skip


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path) -> Iterator[None]:
    with nothing_left_behind(tmp_path / "cache"):
        yield


@pytest.fixture
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The plugin of the kind that the test is about, which nothing has loaded yet."""
    return write(tmp_path, SOURCES[request.param])


def of(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("file", [kind], indirect=True, ids=[kind.replace(" ", "-")])


def printed(capsys: pytest.CaptureFixture[str], main: object, *arguments: str | Path) -> str:
    """What a command prints; it must succeed."""
    capsys.readouterr()
    try:
        code = main(list(map(str, arguments)))  # type: ignore[operator]
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert not code, err
    return " ".join(out.replace("│", " ").split())


def show(capsys: pytest.CaptureFixture[str], file: Path, *flags: str) -> str:
    return printed(capsys, run.main, "--plugins", file, "--show", *flags)


def help_of_a_sweep(capsys: pytest.CaptureFixture[str], file: Path) -> str:
    return printed(capsys, run.main, "--plugins", file, "--help")


def applied(data: TrialData, **flat: object) -> dict[str, object]:
    """What a trial really built, after an epoch of training."""
    config = TrialConfig.from_flat({"image_size": "32x48", "epochs": 1, "batch_size": 4, **flat})
    trial = Trial(config, data)
    assert trial.run_epoch()["metrics"]["val/miou"] >= 0
    return trial.applied


@of("loss")
def test_loss(file: Path, capsys: pytest.CaptureFixture[str], mini_data: TrialData, tiny_model: None) -> None:
    told = show(capsys, file, "--space", "loss")
    assert "sharpened" in told and "loss.sharpness" in told and "0.5 .. 2 (log)" in told, "its own range is searched"
    assert "| `sharpened` |" in printed(capsys, components.main, "--plugins", file)
    assert applied(mini_data, **{"loss.name": "sharpened"})["loss"] == {"name": "sharpened", "sharpness": 1.5}
    assert applied(mini_data, **{"loss.name": "dice+sharpened"})["loss"]["name"] == "dice+sharpened"  # type: ignore[index]


@of("optimizer")
def test_optimizer(file: Path, capsys: pytest.CaptureFixture[str], mini_data: TrialData, tiny_model: None) -> None:
    assert "radam lr 0.003" in show(capsys, file, "--space", "baseline", "--set", "optimizer.name=radam")
    assert "| `radam` |" in printed(capsys, components.main, "--plugins", file)
    assert applied(mini_data, **{"optimizer.name": "radam"})["optimizer"]["name"] == "radam"  # type: ignore[index]


@of("schedule")
def test_schedule(file: Path, capsys: pytest.CaptureFixture[str], mini_data: TrialData, tiny_model: None) -> None:
    assert "straight" in show(capsys, file, "--space", "baseline", "--set", "schedule.name=straight")
    assert "| `straight` |" in printed(capsys, components.main, "--plugins", file)
    assert applied(mini_data, **{"schedule.name": "straight"})["schedule"]["name"] == "straight"  # type: ignore[index]


@of("transformation")
def test_transformation(file: Path, capsys: pytest.CaptureFixture[str], mini_data: TrialData, tiny_model: None) -> None:
    free = {"augment.policy": "free", "augment.redden.p": 0.5, "augment.redden.magnitude": 0.25}
    sets = [word for key, value in free.items() for word in ("--set", f"{key}={value}")]
    assert "redden p=0.50 m=0.25 (≤15)" in show(capsys, file, "--space", "baseline", *sets)
    assert "| `redden` | Evening light. | red added |" in printed(capsys, augmentation.main, "--plugins", file)
    assert applied(mini_data, **free)["augment"]["redden"]["limit"] == 15  # type: ignore[index]
    preflight([PolicySpec.from_list([{"transform": "redden", "p": 1.0, "magnitude": 1.0}])], (64, 64), 3)


@of("policy")
def test_policy_family(file: Path, capsys: pytest.CaptureFixture[str], mini_data: TrialData, tiny_model: None) -> None:
    assert "tilted" in show(capsys, file, "--space", "augment"), "the space searches every family"
    assert "| `tilted` |" in printed(capsys, augmentation.main, "--plugins", file)
    assert Policy(PolicySpec.from_flat({"policy": "tilted"}), (32, 32)).names == ["rotate"]
    assert list(applied(mini_data, **{"augment.policy": "tilted"})["augment"]) == ["rotate"]  # type: ignore[call-overload]


@of("head")
def test_head(file: Path, capsys: pytest.CaptureFixture[str], mini_data: TrialData) -> None:
    from trainables.models import MODELS

    assert "onelayer_resnet18" not in MODELS, "unknown before, and that is not remembered"
    assert "onelayer" in help_of_a_sweep(capsys, file)
    assert "onelayer_resnet18" in show(capsys, file, "--space", "baseline", "--models", "onelayer_resnet18")
    assert "deeplabv3plus, unet, fpn, upernet, segformer, onelayer and a backbone" in printed(
        capsys, components.main, "--plugins", file
    )
    assert applied(mini_data, **{"model.name": "onelayer_resnet18"})["model"]["name"] == "onelayer_resnet18"  # type: ignore[index]
    assert [plugin.name for plugin in plugins.used_by([("head", "onelayer")])] == ["mine.py"]


@of("model")
def test_model(file: Path, capsys: pytest.CaptureFixture[str], mini_data: TrialData) -> None:
    assert "smallest" in help_of_a_sweep(capsys, file)
    assert "smallest" in show(capsys, file, "--space", "baseline", "--models", "smallest")
    assert "| `smallest` | Two convolutions." in printed(capsys, components.main, "--plugins", file)
    assert applied(mini_data, **{"model.name": "smallest"})["model"]["name"] == "smallest"  # type: ignore[index]


@of("data set")
def test_data_set(file: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "halves" in help_of_a_sweep(capsys, file)
    show(capsys, file, "--space", "baseline", "--data", "halves")
    (tmp_path / "data").mkdir()
    flags = ["--plugins", file, "--data", "halves", "--data-root", tmp_path / "data"]
    assert "halves" in printed(capsys, check.main, *flags)


@of("space")
def test_space(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "decay" in help_of_a_sweep(capsys, file)
    assert "optimizer.weight_decay" in show(capsys, file, "--space", "decay")


@of("sampler")
def test_sampler(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "univariate" in help_of_a_sweep(capsys, file)
    show(capsys, file, "--sampler", "univariate")
    space = SPACES.get("lr")(["lraspp_mobilenet_v3_large"], "none")
    found = [
        Suggestions(space, sampler="univariate", seed=3, trials=8, objective=objective_of("val/miou")).ask("t000", 0)
        for _ in range(2)
    ]
    assert found[0] == found[1] is not None


@of("scheduler")
def test_scheduler(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "patient" in help_of_a_sweep(capsys, file)
    shown = show(capsys, file, "--scheduler", "patient", "--max-epochs", "5")
    assert "patient compares trials at the very end" in shown
    assert SCHEDULERS.get("patient")(3).observe("a", 1, 0.5) is None


@of("section")
def test_section_of_the_report(file: Path, tmp_path: Path) -> None:
    results = make_results(tmp_path / "run", images=3)[0]
    plugins.load_recorded([], [file], run=tmp_path, more=True)
    parts = Parts(tmp_path / "report.log")
    page = render_page(Material(results, save_figures(results, tmp_path, parts), Gallery([])), parts)
    assert "Weather report" in page and f"The data set is {results.manifest.data.name}." in page


def test_conformance_suite_takes_them_in(tmp_path: Path) -> None:
    """The suite's own parametrisation, as pytest collects it in a process that has loaded the plugins first."""
    files = [write(tmp_path, source, f"{kind.replace(' ', '_')}.py") for kind, source in SOURCES.items()]
    (tmp_path / "early.py").write_text(
        "from pathlib import Path\nfrom trainables import plugins\n"
        f"plugins.load(map(Path, {list(map(str, files))!r}))\n"
    )
    command = [sys.executable, "-m", "pytest", "tests/conformance", "--collect-only", "-q", "-p", "early"]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for test, name in EXPECTED:
        assert any(test in line and name in _ids(line) for line in done.stdout.splitlines()), (test, name)


EXPECTED = (
    ("test_losses.py::test_name_is_read_back", "sharpened"),
    ("test_learning.py::test_one_batch_drives_the_loss_down", "sharpened"),
    ("test_learning.py::test_one_batch_drives_the_loss_down", "smallest"),
    ("test_models.py::test_model_tells_what_it_is", "smallest"),
    ("test_policies.py::test_seeds_repeat_and_differ", "tilted"),
    ("test_policies.py::test_transformations_have_one_magnitude_or_none", "redden"),
    ("test_datasets.py::test_sound_data_passes_the_check", "halves"),
    ("test_spaces.py::test_space_says_why", "decay"),
)


def _ids(line: str) -> Sequence[str]:
    return line.partition("[")[2].rstrip("]").split("-")
