"""The manifest: written whole, read back equal, openings counted."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

from search_spaces import SPACES
from search_spaces.core.parameter import choice, held_at, number
from search_spaces.core.space import SearchSpace
from sweep.manifest import Budget, SearchRecord, SweepManifest, TrackingRecord
from sweep.resources import Resources
from sweep.versions import Hardware, describe_hardware, package_versions
from trainables.data.splits.openings import count_openings
from trainables.errors import DataError
from trainables.execution import Execution
from trainables.plugins import PluginRecord

from ..manifests import format_2, make_manifest
from ..spaces import own_weights

SPACE = SearchSpace(
    "mixed",
    "Of every type.",
    (
        choice("loss.name", ("cross_entropy", "dice")),
        choice("training.ema", (0.0, 0.99)),
        choice("training.decay_norms", (False, True)),
        held_at("batch_size", 8),
        number("optimizer.lr", 1, 2, log=True),
    ),
    "loss.name",
    fixed={"augment.rotate.p": 1.0, "augment.rotate.n": 1, "augment.rotate.on": True, "schedule.name": "cosine"},
    reasons={"schedule.name": "it is known to work"},
)
MANIFEST = make_manifest(
    space=SPACE,
    base={"seed": 0, "training.ema": 0.0, "training.decay_norms": False, "image_size": "32x48"},
    budget=Budget(4, 2, time_budget=60.0),
    execution=Execution(precision="bf16", workers=2),
    tracking=TrackingRecord("online", "own"),
    plugins=(PluginRecord("/somewhere/mine.py", "ab" * 32), PluginRecord("/lib/theirs.py", "cd" * 32, "theirs 2.5")),
)


def written(run_dir: Path, manifest: SweepManifest = MANIFEST) -> dict[str, Any]:
    manifest.save(run_dir)
    content: dict[str, Any] = json.loads((run_dir / "manifest.json").read_text())
    return content


def load(run_dir: Path, content: object) -> SweepManifest:
    (run_dir / "manifest.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return SweepManifest.load(run_dir)


def spoilt(content: dict[str, Any], place: str, value: object) -> dict[str, Any]:
    """With the field at a path replaced, or removed where the value is `...`."""
    *outer, last = [int(step) if step.isdigit() else step for step in place.split("/")]
    inner: Any = content
    for step in outer:
        inner = inner[step]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return content


def test_manifest_comes_back_equal_value_by_value_and_type_by_type(tmp_path: Path) -> None:
    assert written(tmp_path)["format"] == 3
    again = SweepManifest.load(tmp_path)
    assert again == MANIFEST
    assert repr((again.base, again.space.fixed)) == repr((MANIFEST.base, SPACE.fixed)), "1, 1.0 and True are three"
    assert [repr(p.choices) for p in again.space.parameters] == [repr(p.choices) for p in SPACE.parameters]
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_docs_name_every_key_in_its_order(tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "RUNS.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| (`.*?) \| (.*) \|$", text.split("## The manifest")[1].split("\n## ")[0], re.MULTILINE)
    told = {key: what for keys, what in table for key in re.findall(r"`(\w+)`", keys)}
    content = written(tmp_path)
    assert list(told) == list(content)
    for key in ("data", "space", "budget", "search", "resources", "hardware", "execution", "tracking"):
        assert {f"`{one}`" for one in content[key]} <= set(re.findall(r"`\w+`", told[key])), key


@pytest.mark.parametrize("name", [*SPACES])
def test_every_space_comes_back_equal_and_suggests_the_same(tmp_path: Path, name: str) -> None:
    space = SPACES.get(name)(["fcn_resnet50", "lraspp_mobilenet_v3_large"], own_weights(name))
    make_manifest(space=space).save(tmp_path)
    again = SweepManifest.load(tmp_path).space
    assert again == space
    for seed in range(10):
        one, other = (
            of.suggest(optuna.create_study(sampler=optuna.samplers.RandomSampler(seed)).ask()) for of in (again, space)
        )
        assert one == other


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '"text"', "[" * 100_000])
def test_file_that_is_no_manifest_is_a_data_error(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError, match=r"manifest\.json is damaged .*; restore it from a backup of the run folder"):
        load(tmp_path, content)


FAULTS: dict[str, tuple[object, str]] = {
    "name": (7, "name: input should be a valid string"),
    "seed": ("3", "seed: input should be a valid integer"),
    "command": ("python", "command: input should be a valid"),
    "data": (..., "data: missing"),
    "data/splits/test/hash": (..., "data.splits.test.hash: missing"),
    "data/splits/val": (..., "data.splits.val: missing"),
    "data/classes/1/color/0": ("red", "data.classes.1.color.0: input should be a valid integer"),
    "data/classes/0/color": ([1, 2], "data.classes.0.color.2: missing"),
    "space/parameters/0/kind": ("colour", "space.parameters.0.kind: input should be 'float', 'int' or 'choice'"),
    "space/parameters/4/low": (9.0, "optimizer.lr: low 9 is above high 2"),
    "space/label_by": (..., "space.label_by: missing"),
    "base/image_size": ([32, 48], "base.image_size: input should be a valid boolean, input should be a valid integer"),
    "base/seed": (float("nan"), "base.seed: input should be a valid boolean"),
    "budget/trials": (True, "budget.trials: input should be a valid integer"),
    "budget/time_budget": (float("inf"), "budget.time_budget: input should be a finite number"),
    "budget/time_budget_s": (60.0, "budget.time_budget_s: unknown"),
    "search/sampler": (..., "search.sampler: missing"),
    "direction": ("up", "direction: input should be 'max' or 'min'"),
    "resources/concurrent": (1.5, "resources.concurrent: input should be a valid integer"),
    "hardware/memory_gib": (float("nan"), "hardware.memory_gib: input should be a finite number"),
    "versions/torch": (2, "versions.torch: input should be a valid string"),
    "execution/threads": (0, "execution: threads must be at least 1, not 0"),
    "execution/zz": (1, "execution.zz: unknown"),
    "plugins/0/sha256": (..., "plugins.0.sha256: missing"),
    "colour": ("red", "colour: unknown"),
}


@pytest.mark.parametrize("place", FAULTS)
def test_field_that_is_wrong_missing_or_unknown_is_named(tmp_path: Path, place: str) -> None:
    value, told = FAULTS[place]
    content = written(tmp_path)
    with pytest.raises(DataError) as caught:
        load(tmp_path, spoilt(content, place, value))
    text = str(caught.value)
    assert text.startswith(f"{tmp_path / 'manifest.json'} is damaged (") and told in text
    assert text.endswith("; restore it from a backup of the run folder")


def test_many_faults_are_one_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"created: missing; command: missing; .* and 8 more\)"):
        load(tmp_path, {"format": 3, "name": "mine"})


def test_name_that_leads_out_of_the_runs_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="would become the name of a folder"):
        load(tmp_path, {**written(tmp_path), "name": "../elsewhere"})


@pytest.mark.parametrize(
    "place", ["execution", "execution/ranks", "tracking", "plugins", "data/values", "data/splits/val/groups"]
)
def test_what_older_runs_did_not_keep_may_be_missing(tmp_path: Path, place: str) -> None:
    load(tmp_path, spoilt(written(tmp_path), place, ...))


def test_format_2_is_read_as_what_it_means(tmp_path: Path) -> None:
    manifest = load(tmp_path, format_2())
    assert (manifest.name, manifest.seed, manifest.direction) == ("mine", 0, "max")
    assert manifest.budget == Budget(trials=4, max_epochs=2, time_budget=3600.0, gpu_hours=None)
    assert manifest.search == SearchRecord("tpe", "asha")
    assert manifest.resources == Resources(1.0, 0.0, 1)
    assert manifest.execution == Execution()
    assert manifest.tracking == TrackingRecord("disabled", "segsweep")
    assert (manifest.hardware.cores, manifest.hardware.gpus) == (2, ())
    assert manifest.data.splits.test.images == 24 and manifest.data.classes[2].name == "dot"
    models = ["lraspp_mobilenet_v3_large", "fcn_resnet50"]
    assert manifest.space == SPACES.get("lr")(models, "none").fix({"image_size": "32x48"})
    assert manifest.base["model.name"] == models[0] and manifest.base["epochs"] == 2
    manifest.save(tmp_path)
    assert json.loads((tmp_path / "manifest.json").read_text())["format"] == 3
    assert SweepManifest.load(tmp_path) == manifest


OLDER: dict[str, Callable[[dict[str, Any]], object]] = {
    "values of masks": lambda content: content["data"].pop("values"),
    "groups": lambda content: [split.pop("groups") for split in content["data"]["splits"].values()],
    "code": lambda content: content["versions"].pop("code"),
    "plugins": lambda content: content.pop("plugins"),
    "execution": lambda content: content["execution"].pop("cache_bytes"),
}


@pytest.mark.parametrize("what", OLDER)
def test_format_2_of_before_something_was_kept_is_read(tmp_path: Path, what: str) -> None:
    content = format_2()
    OLDER[what](content)
    load(tmp_path, content)


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ("space", None, "space: should be an object"),
        ("budget", ..., "budget: should be an object"),
        ("budget/trials", "many", "budget.trials: input should be a valid integer"),
        ("space/base", ..., "base: missing"),
        ("space/parameters", "x", "space.parameters: input should be a valid"),
        ("budget/sampler", ..., "search.sampler: missing"),
        ("mode", ..., "direction: missing"),
    ],
)
def test_damage_of_format_2_is_named_too(tmp_path: Path, place: str, value: object, told: str) -> None:
    with pytest.raises(DataError, match="is damaged") as caught:
        load(tmp_path, spoilt(format_2(), place, value))
    assert told in str(caught.value)


def test_settings_of_a_journal_apply_by_their_old_names_and_are_checked(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    old = {"budget": {"time_budget_s": 5.0, "concurrent": 2}, "resources": {"concurrent": 2}}
    now = MANIFEST.with_settings(old, journal)
    assert now.budget == dataclasses.replace(MANIFEST.budget, time_budget=5.0)
    assert now.resources.concurrent == 2
    assert MANIFEST.with_settings({"budget": {"time_budget": None}}, journal).budget.time_budget is None
    for wrong, told in (
        ({"resources": {"concurrent": "two"}}, "resources.concurrent: input should be a valid integer"),
        ({"execution": {"zz": 1}}, "execution.zz: unknown"),
        ({"zz": {}}, "settings of zz: unknown"),
        ({"tracking": "x"}, "settings of tracking: unknown"),
        (None, "settings: should be an object"),
    ):
        with pytest.raises(DataError) as caught:
            MANIFEST.with_settings(wrong, journal)
        assert str(caught.value).startswith(f"{journal} is damaged (") and told in str(caught.value)


def test_folder_that_is_no_run_and_another_format_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a run folder"):
        SweepManifest.load(tmp_path)
    MANIFEST.save(tmp_path)
    content = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**content, "format": 99}))
    with pytest.raises(DataError, match="another format"):
        SweepManifest.load(tmp_path)


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    MANIFEST.save(tmp_path)

    def fails(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fails)
    with pytest.raises(OSError, match="No space"):
        dataclasses.replace(MANIFEST, seed=9).save(tmp_path)
    monkeypatch.undo()
    assert SweepManifest.load(tmp_path).seed == 3


def test_nan_never_reaches_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"(?i)float"):
        dataclasses.replace(MANIFEST, hardware=Hardware("", 2, float("nan"), (), "")).save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_openings_are_counted_by_the_splits_hash_over_all_sweeps(tmp_path: Path) -> None:
    assert count_openings(tmp_path, "abc") == 0
    lines = [{"split_hash": "abc", "run": "a"}, {"split_hash": "xyz", "run": "a"}, {"split_hash": "abc", "run": "b"}]
    (tmp_path / "test_openings.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines) + '{"split_ha')
    assert count_openings(tmp_path, "abc") == 2
    assert count_openings(tmp_path, "xyz") == 1


def test_hardware_and_versions_are_primitives() -> None:
    assert json.loads(json.dumps(dataclasses.asdict(describe_hardware())))["cores"] >= 1
    versions = package_versions()
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert versions["torch"] == torch.__version__.split("+")[0] or versions["torch"] == torch.__version__
