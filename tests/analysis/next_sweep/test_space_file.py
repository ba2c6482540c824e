"""The file of proposals: `sweep.run --space FILE` takes it, and what strangers named stays text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from analysis.next_sweep.aimed import aimed_at_factors
from analysis.next_sweep.edges import off_edges
from analysis.next_sweep.proposal import Proposal, Searched
from analysis.next_sweep.rare import for_rare_classes
from analysis.next_sweep.small import larger_input
from analysis.next_sweep.space_file import next_command, next_space, space_text
from analysis.report.page import Material
from analysis.report.parts import FailedPart
from analysis.report.sections.next_sweep import next_section
from analysis.report.writing import _write_next_space
from search_spaces import SPACES, find_space
from sweep import run
from trainables.run_folder import NEXT_SPACE_FILE

from ...manifests import make_manifest
from ..synthetic_run import make_results
from .test_rules import BASE, MIOU, MODELS, NAMES, classes_at, effects, searched, small_things, trials_near

HOSTILE = 'cone\nparameters:\n  seed: 7\x85\u2028extends: !!python/object/apply:os.system ["true"] {{ x }} <script>'
FACTORS: dict[str, tuple[float, bool]] = {"light": (0.06, True), "noise": (-0.2, True), "size": (0.1, True)}


def everything(here: Searched, key: str = "optimizer.lr", value: float = 0.09) -> list[Proposal]:
    """A proposal by every rule, one of them with a class that means harm."""
    evaluation, kinds, _, pixels = classes_at(0.1)
    return [
        *off_edges(here, trials_near(key, value, 0.01, near=4), MIOU),
        *aimed_at_factors(here, effects(**FACTORS)),
        *larger_input(here, *small_things(0.9)),
        *for_rare_classes(here, evaluation, kinds, (*NAMES[:3], HOSTILE), pixels),
    ]


def manifest_of(here: Searched, **changes: Any) -> Any:
    return make_manifest(space=here.space, base=here.base, **changes)


@pytest.mark.parametrize(
    ("name", "weights", "models"),
    [("lr", "imagenet", MODELS), ("augment", "none", MODELS), ("full", "imagenet", [*MODELS, "fcn_resnet18"])],
)
def test_a_sweep_takes_the_file_as_it_is(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    weights: str,
    models: list[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    base = {**BASE, "model.weights": weights}
    space = SPACES.get(name)(models, weights)
    here = Searched(space, base, space.trial_config(base, space.start[-1]).flat())
    found = everything(here)
    manifest = manifest_of(here)
    file = tmp_path / NEXT_SPACE_FILE
    file.write_text(space_text(manifest, here.winner, found, images=40, command="again"), encoding="utf-8")
    # Neither --models nor --weights: the file holds what the sweep had.
    assert run.main(["--space", str(file), "--show", "--max-epochs", "5"]) == 0
    shown = capsys.readouterr().out
    for proposal in found:
        for parameter in proposal.parameters:
            assert parameter.key in shown and parameter.reason in shown
    read = find_space(str(file))(["fcn_resnet50"], "none")
    assert read.without_texts() == replace(next_space(manifest, here.winner, found).without_texts(), name=read.name)
    assert read.fixed["model.weights"] == weights and not {"epochs", "seed"} & set(read.fixed)


def test_it_begins_where_the_sweep_began_then_at_the_winner_and_at_what_is_proposed() -> None:
    here = searched("lr", start=1)
    space = next_space(manifest_of(here), here.winner, everything(here))
    first, winner, *further = space.start
    assert {key: first[key] for key in here.space.start[0]} == here.space.start[0], "the known-good point"
    assert first["augment.policy"] == "none" and first["loss.name"] == "cross_entropy"
    assert winner["optimizer.name"] == "sgd" == here.winner["optimizer.name"]
    changed = [{key for key in point if point[key] != winner.get(key)} for point in further]
    assert [{key.partition(".")[0] for key in keys} for keys in changed] == [{"augment"}, {"image_size"}, {"loss"}]


def test_every_changed_key_has_its_reason_with_numbers_above_it() -> None:
    here = searched("lr")
    text = space_text(manifest_of(here), here.winner, everything(here), images=40, command="again")
    lines = text.splitlines()
    above = lines[lines.index("  optimizer.lr:") - 1]
    assert above == (
        "  # 4 of the best 4 trials and 0 of the other 12 lie within a tenth of the range of the upper end, 0.1, "
        "towards which scores rise"
    )
    assert "lower by 0.20 [0.18, 0.22]" in lines[lines.index("  augment.noise.p:") - 1]
    assert "lose 0.90 [0.90, 0.90]" in lines[lines.index("  image_size:") - 1]
    assert not lines[lines.index("  optimizer.weight_decay:") - 1].strip().startswith("#")


def test_a_strangers_class_is_a_comment_on_one_line() -> None:
    here = searched("lr")
    with_harm = space_text(manifest_of(here), here.winner, everything(here), images=40, command="again")
    without = "\n".join(line for line in with_harm.splitlines() if not line.lstrip().startswith("#"))
    assert yaml.safe_load(with_harm) == yaml.safe_load(without)
    assert "seed" not in yaml.safe_load(with_harm)["parameters"] and "<script>" not in without


def test_the_command_keeps_what_the_file_does_not_hold(tmp_path: Path) -> None:
    words = ["--space", "lr", "--data=folder", "--set", "optimizer.name=sgd", "--set=batch_size=4", "--trials", "12",
             "--name", "a b", "--weights", "imagenet", "--models=a,b", "--accept-plan",
             "--plugins", "my plugins.py"]  # fmt: skip
    manifest = make_manifest(command=("python", "-m", "sweep.run", *words))
    command = next_command(manifest, tmp_path)
    kept = "--data=folder --trials 12 --plugins 'my plugins.py'"
    assert command.endswith(f"-m sweep.run --space {tmp_path}/report/val/{NEXT_SPACE_FILE} {kept}")


def test_the_report_on_val_says_and_writes_it_and_the_one_on_test_neither(tmp_path: Path) -> None:
    results, _ = make_results(tmp_path)
    here = searched("lr")
    manifest = replace(results.manifest, space=here.space, base=here.base)
    results = replace(results, manifest=manifest, proposals=tuple(everything(here)), split="val")
    material = Material(results, {}, FailedPart("failure pictures", "none", tmp_path))
    section = next_section(material)
    assert section is not None and "optimizer.lr from" in section.html and "<script>" not in section.html
    assert "sweep.run --space" in section.html
    _write_next_space(results, tmp_path)
    assert (tmp_path / NEXT_SPACE_FILE).read_text(encoding="utf-8").startswith("# What ")
    none = replace(material, measured=replace(results, proposals=()))
    told = next_section(none)
    assert told is not None and "Nothing is shown clearly enough" in told.html and "sweep.run" not in told.html
    assert next_section(replace(material, measured=replace(results, split="test"))) is None
