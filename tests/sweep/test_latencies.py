"""Which models are timed before a sweep, and what a trial's results carry of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from search_spaces import SPACES, SearchSpace
from search_spaces.core.parameter import When, choice, number
from sweep.compiled import plan_space
from sweep.config import from_command_line
from sweep.journal import Journal
from sweep.latencies import MOST, MeasuredLatency, latency_of, models_to_time, of_model, settings_of
from sweep.manifest import SweepManifest
from sweep.measuring import measure_latencies
from sweep.objectives import objective_of
from sweep.plan_view import show_latencies
from sweep.preflight import Prepared, prepare
from trainables.errors import SegsweepError, UsageError
from trainables.execution import Execution
from trainables.latency import Latency

from ..manifests import make_manifest
from .simulated import OBJECTIVE, cut, decisions, drive, fraction, make, scores

BASE = {"image_size": "96x128", "epochs": 2, "model.name": "fcn_resnet50", "model.weights": "none", "seed": 0}
MODELS = ["fcn_resnet50", "lraspp_mobilenet_v3_large"]
SIZES = ("48x64", "96x128")


def of(settings: dict[str, Any], ms: float = 10.0, spread: float = 0.05) -> MeasuredLatency:
    return MeasuredLatency(settings, "fp32", "cpu", ms, spread)


def test_every_model_at_every_size_of_a_space_is_timed_once() -> None:
    full = SPACES.get("full")(MODELS, "none", image_size=(96, 128))
    found = [settings_of(config) for config in models_to_time(full, BASE)]
    sizes = full.parameter("image_size").choices
    assert len(sizes) > 1
    assert found == [{"model.name": model, "image_size": size} for model in MODELS for size in sizes]
    augment = SPACES.get("augment")(MODELS[:1], "none")
    assert [settings_of(one) for one in models_to_time(augment, BASE)] == [
        {"model.name": "fcn_resnet50", "image_size": "96x128"}
    ]


def test_sizes_that_only_some_trials_have_are_those_that_the_grid_has() -> None:
    space = SearchSpace(
        name="mine",
        description="",
        parameters=(
            number("optimizer.lr", 0.001, 0.1, log=True),
            number("training.ema", 0.0, 0.9),
            choice("model.name", MODELS),
            choice("loss.name", ("cross_entropy", "dice")),
            choice("image_size", SIZES, when=(When("model.name", (MODELS[1],)), When("training.ema", above=0.5))),
        ),
        label_by="loss.name",
        start=({"optimizer.lr": 0.01, "training.ema": 0.0, "model.name": MODELS[0], "loss.name": "dice"},),
    )
    found = [settings_of(config) for config in models_to_time(space, BASE)]
    stepped = dataclasses.replace(
        space,
        parameters=tuple(choice(p.key, p.ends(), when=p.when) if p.grid() is None else p for p in space.parameters),
        start=(),
    )
    expected = [settings_of(space.trial_config(BASE, point).flat()) for point in stepped.grid()]
    assert {tuple(one.items()) for one in found} == {tuple(one.items()) for one in expected}
    assert len(found) == 3


def test_models_that_cannot_be_listed_are_refused_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    space = SearchSpace("mine", "", (choice("image_size", SIZES), number("model.width", 0.5, 2.0)), "image_size")
    with pytest.raises(UsageError, match=r"model\.width can have any value of a range: give a step or choices"):
        models_to_time(space, BASE)
    sizes = [f"{32 + number}x64" for number in range(MOST + 1)]
    many = SearchSpace("mine", "", (choice("image_size", sizes, default=sizes[0]),), "image_size")
    with pytest.raises(UsageError, match=f"more than {MOST} of them"):
        models_to_time(many, BASE)
    assert len(models_to_time(many.fix({"image_size": "40x64"}), BASE)) == 1


def test_too_many_sizes_are_refused_before_the_data_are_read(tmp_path: Path) -> None:
    sizes = ", ".join(f"{32 + number}x64" for number in range(MOST + 1))
    (tmp_path / "mine.yaml").write_text(
        f"label_by: image_size\nparameters:\n  image_size: {{choices: [{sizes}], default: 32x64}}\n"
    )
    flags = ["--space", str(tmp_path / "mine.yaml"), "--data", "folder", "--data-root", str(tmp_path / "none")]
    asked = from_command_line([*flags, "--name", "x", "--objective", "val/miou", "--objective", "latency_ms"])
    with pytest.raises(UsageError, match=f"more than {MOST} of them"):
        prepare(asked)


def prepared(mini_root: Path, *flags: str) -> Prepared:
    data = ["--data", "folder", "--data-root", str(mini_root), "--set", "image_size=48x64"]
    return prepare(from_command_line([*data, "--name", "x", *flags]))


def test_models_are_timed_only_where_it_is_an_objective(mini_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[list[dict[str, Any]], int, dict[str, Any]]] = []

    def timed(configs: Any, classes: int, **how: Any) -> list[Latency]:
        asked.append((list(configs), classes, how))
        return [Latency(12.5, 0.31)]

    monkeypatch.setattr("sweep.places.time_models", timed)
    console = Console(record=True, width=200)
    execution = Execution(precision="bf16")
    assert measure_latencies(prepared(mini_root), execution, console=console) == ()
    assert not asked
    ready = prepared(mini_root, "--objective", "val/miou", "--objective", "latency_ms")
    (found,) = measure_latencies(ready, execution, console=console)
    ((config,), classes, how) = asked[0]
    assert found == MeasuredLatency(settings_of(config), "bf16", "cpu", 12.5, 0.31)
    assert (classes, how["device"], how["precision"]) == (3, "cpu", "bf16")
    show_latencies(console, [found])
    text = console.export_text()
    assert "lraspp_mobilenet_v3_large at 48x64 12.5 ms (spread 31%)" in text
    assert "the time per image moved, of lraspp_mobilenet_v3_large at 48x64 by 31%: the machine was busy" in text
    monkeypatch.setattr("sweep.places.time_models", lambda *what, **how: [Latency(fault="no room")])
    with pytest.raises(SegsweepError, match="lraspp_mobilenet_v3_large at 48x64: no room"):
        measure_latencies(ready, execution, console=console)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UsageError, match="has no GPU as the trials will have"):
        measure_latencies(ready, Execution(device="cuda"), console=console)


def test_time_of_a_configuration_is_that_of_its_model_and_size_alone() -> None:
    space, base = plan_space(from_command_line(["--name", "x"]), (96, 128))
    config = space.trial_config(base, space.start[0]).flat()
    latencies = [of(settings_of({**config, "image_size": size}), ms) for size, ms in (("48x64", 3.0), ("96x128", 9.0))]
    for changes in ({}, {"optimizer.lr": 0.5}, {"model.weights": "imagenet"}, {"augment.policy": "flip"}):
        assert of_model(latencies, {**config, **changes}) == {"latency_ms": 9.0}
    assert latency_of(latencies, {**config, "model.name": "fcn_resnet50"}) is None
    assert of_model(latencies, {**config, "image_size": "32x32"}) == {}


def test_manifest_keeps_the_times(tmp_path: Path) -> None:
    manifest = make_manifest(latencies=(of({"model.name": "a", "image_size": "48x64", "model.width": 0.5}, 3.25, 0.4),))
    manifest.save(tmp_path)
    assert SweepManifest.load(tmp_path) == manifest
    assert manifest.latencies[0].name == "a at 48x64, model.width 0.5"


def timed(config: Any) -> dict[str, float]:
    return {"latency_ms": 5.0 + 10 * fraction("time", config["loss.name"])}


def test_results_carry_the_time_and_a_resumed_sweep_decides_as_if_never_stopped(tmp_path: Path) -> None:
    options: dict[str, Any] = {"further": [objective_of("latency_ms")], "of_model": timed}
    with Journal(tmp_path / "whole.jsonl") as journal:
        drive(make(journal, **options))
        expected = decisions(journal)
        count = len(journal.events)
        for event in journal.of("result"):
            config = next(e["config"] for e in journal.of("suggested") if e["trial_id"] == event["trial_id"])
            assert event["metrics"] == {**scores(config, event["epoch"])["metrics"], **timed(config)}
    for events in range(1, count, 7):
        with Journal(cut(tmp_path / "whole.jsonl", tmp_path / f"cut-{events}.jsonl", events)) as journal:
            drive(make(journal, **options))
            assert decisions(journal) == expected


def test_trial_without_a_value_of_every_objective_has_failed(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        conductor = make(journal, further=[objective_of("latency_ms")])
        drive(conductor)
        ended = [trial for trial in conductor.table.trials.values() if trial.epochs == 4]
        assert ended and {trial.reason for trial in ended} == {"it reported no latency_ms"}
        assert {trial.state for trial in ended} == {"failed"}
        assert all(OBJECTIVE in trial.metrics for trial in ended)
