"""Spaces in files: read, written, composed, and told what is wrong with them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from search_spaces import SPACES, SearchSpace, When, find_space, space_name, to_yaml
from search_spaces.core.parameter import choice, number
from search_spaces.core.yaml_format import check_space, read_space
from trainables.errors import ConfigError, UsageError

from ...spaces import own_weights

ONE = ["lraspp_mobilenet_v3_large"]
TWO = ["fcn_resnet50", "lraspp_mobilenet_v3_large"]
MINE = """
description: Which loss for my images?
label_by: loss.name
parameters:
  optimizer.lr: {low: 1e-4, high: 1e-2, log: true, default: 3e-3, reason: a decade around what worked}
  loss.gamma: {low: 0.5, high: 5, default: 2, when: {loss.name: focal}}
  loss.name: {choices: [cross_entropy, focal], default: cross_entropy, role: scientific}
  batch_size: {low: 4, high: 16, step: 4, default: 8}
  augment.policy: flip
  augment.hflip.p: {value: 0.5, reason: as in the paper}
start:
  - {}
  - {loss.name: focal, batch_size: 16}
"""


def read(text: str, *, models: list[str] = ONE, weights: str = "none") -> SearchSpace:
    def extended(spec: str) -> SearchSpace:
        return find_space(spec)(models, weights)

    return read_space(text, where=Path("mine.yaml"), models=models, weights=weights, extended=extended)


def faults_of(text: str, **options: object) -> list[str]:
    with pytest.raises(ConfigError) as error:
        read(text, **options)  # type: ignore[arg-type]
    heading, *lines = str(error.value).splitlines()
    assert heading == "mine.yaml:"
    return [line.strip() for line in lines]


def test_yaml_says_what_the_dataclasses_say() -> None:
    expected = SearchSpace(
        name="mine",
        description="Which loss for my images?",
        label_by="loss.name",
        parameters=(
            number("optimizer.lr", 1e-4, 1e-2, log=True, default=3e-3, reason="a decade around what worked"),
            choice("loss.name", ("cross_entropy", "focal"), default="cross_entropy", role="scientific"),
            number("loss.gamma", 0.5, 5.0, default=2.0, when=(When("loss.name", ("focal",)),)),
            type(number("x", 0, 1))("batch_size", "int", low=4, high=16, step=4, default=8),
        ),
        start=(
            {"optimizer.lr": 3e-3, "loss.name": "cross_entropy", "batch_size": 8},
            {"optimizer.lr": 3e-3, "loss.name": "focal", "loss.gamma": 2.0, "batch_size": 16},
        ),
        fixed={"augment.policy": "flip", "augment.hflip.p": 0.5},
        reasons={"augment.hflip.p": "as in the paper"},
    )
    assert read(MINE) == expected


@pytest.mark.parametrize("name", list(SPACES))
def test_registered_space_with_held_keys_survives_yaml(name: str) -> None:
    space: SearchSpace = SPACES.get(name)(ONE, "imagenet")
    held = space.fix({space.parameters[-1].key: space.parameters[-1].ends()[0], "batch_size": 4})
    written = to_yaml(held)
    assert read(written, weights="imagenet") == held
    assert yaml.safe_load(written)["parameters"], "plain YAML, no tags of Python's"


@pytest.mark.parametrize("name", list(SPACES))
def test_every_registered_space_is_extended_to_itself(name: str) -> None:
    space: SearchSpace = SPACES.get(name)(TWO, own_weights(name))
    again = read(f"extends: {name}\n", models=TWO, weights=own_weights(name))
    assert (again.parameters, again.start[0], again.fixed) == (space.parameters, space.start[0], space.fixed)
    labels = {space.label({**space.fixed, **point}) for point in space.start if space.label_by in point}
    assert {again.label({**again.fixed, **point}) for point in again.start if again.label_by in point} == labels


def test_spaces_are_extended_by_name_and_changed() -> None:
    space = read(
        "extends: [lr, augment]\nlabel_by: optimizer.name\n"
        "parameters:\n  optimizer.lr: {low: 1e-3, high: 1e-2, log: true}\n  augment.policy: flip\n"
    )
    by_key = {parameter.key: parameter for parameter in space.parameters}
    assert (by_key["optimizer.lr"].low, by_key["optimizer.lr"].default) == (1e-3, 3e-3)
    assert [key for key in by_key if key.startswith("augment.")] == ["augment.hflip.p"]
    assert [point["optimizer.name"] for point in space.start] == ["adamw", "sgd"]
    assert space.description.startswith(SPACES.get("lr")(ONE, "none").description)


def test_models_asked_for_are_tried_unless_the_file_names_its_own() -> None:
    assert read(MINE, models=TWO).parameters[0].choices == tuple(TWO)
    assert [point["model.name"] for point in read(MINE, models=TWO).start] == [TWO[0]] * 2
    named = MINE.replace("start:", "  model.name: fcn_resnet18\nstart:")
    assert "model.name" not in {p.key for p in read(named, models=TWO).parameters}
    assert read("extends: lr\nparameters: {model.name: fcn_resnet18}\n", models=TWO).fixed == {
        "model.name": "fcn_resnet18"
    }
    assert read(MINE, models=TWO).description == "Which loss for my images?"
    assert read("extends: baseline\n", models=TWO).description.startswith("How much")
    extended = read("extends: lr\n", models=TWO)
    assert [p.key for p in extended.parameters].count("model.name") == 1


def test_model_that_an_extended_file_holds_is_held(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: lr\nparameters: {model.name: fcn_resnet18}\n")
    (tmp_path / "more.yaml").write_text("extends: mine.yaml\n")
    assert find_space(str(tmp_path / "more.yaml"))(TWO, "none").fixed == {"model.name": "fcn_resnet18"}


def test_lists_and_values_are_short_for_choices_and_held_keys() -> None:
    space = read("label_by: loss.name\nparameters:\n  loss.name: [focal, dice]\nstart: [{loss.name: dice}]\n")
    assert space.parameters[0].choices == ("focal", "dice")
    assert space.start == ({"loss.name": "dice"},)


def test_value_is_held_where_its_condition_holds() -> None:
    space = read("extends: lr\nparameters:\n  optimizer.momentum: {value: 0.95, when: {optimizer.name: sgd}}\n")
    momentum = next(p for p in space.parameters if p.key == "optimizer.momentum")
    assert (momentum.role, momentum.choices) == ("fixed", (0.95,))
    assert read(to_yaml(space)) == space


def test_all_faults_of_a_file_are_told_at_once() -> None:
    told = faults_of("""
nam: mine
label_by: loss.name
parameters:
  optimzer.lr: {low: 1e-4, high: 1e-2}
  optimizer.lr: {low: 0, high: 1e-2, log: true, default: 1}
  optimizer.weight_decay: {lo: 1e-5, high: 1e-1}
  schedule.warmup: {low: 0, high: 0.5, step: 0.3, default: 0}
  schedule.name: {low: 0, high: 1, default: 0}
  batch_size: {choices: [4, 8.5], default: 4}
  loss.name: {choices: [cross_entropy, focl], default: cross_entropy, role: scientifc}
  loss.gamma: {low: 0.5, high: 5, when: {loss.name: focal}}
  training.ema: {low: 0, high: 0.9, log: maybe, default: 0}
  training.clip_norm:
  training.accumulate: {low: 1, high: 4, value: 2}
  training.freeze: {choices: [none, batch_norm], when: [model.weights]}
  training.backbone_lr: {low: 0.1, high: 7, default: 1}
  augment.hflip.p: {low: 0, high: 1, default: 0.5, when: {augment.polcy: flip}}
start:
  - {optimizer.lr: fast, optimizer.weight_decay: 1}
  - none
""")
    for fault in (
        "unknown key 'nam'; did you mean name?",
        "unknown key 'optimzer.lr'; did you mean optimizer.lr",
        "optimizer.lr: a logarithmic range needs low > 0, not 0",
        "optimizer.lr: default 1.0 is outside 0 .. 0.01 (log)",
        "optimizer.weight_decay: unknown key 'lo'; did you mean low",
        "optimizer.weight_decay: say one of: a value, choices, or low and high",
        "schedule.warmup: step 0.3 does not lead from 0 to 0.5",
        "schedule.name: is not a number: give choices",
        "batch_size: batch_size=8.5: must be an integer",
        "loss.name: role must be one of scientific, nuisance, fixed",
        "training.ema: log must be true or false",
        "training.clip_norm: None is not a single value",
        "training.accumulate: say one of: a value, choices, or low and high",
        "training.freeze: when: expected {KEY: VALUE}",
        "training.backbone_lr=7.0: must be <= 1",
        "start[1]: expected {KEY: VALUE, ...}",
    ):
        assert any(line.startswith(fault) for line in told), fault
    assert any(
        line.startswith("augment.hflip.p: unknown key 'augment.polcy'; did you mean augment.policy") for line in told
    )
    assert not any("loss.gamma" in line for line in told), "what follows from another fault is none of its own"
    assert len(told) == 17


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("extends: agument", "extends agument: unknown search space 'agument'; did you mean augment"),
        ("extends: {lr: 1}", "extends: expected names of spaces"),
        ("label_by: loss.name\nparameters: [loss.name]", "parameters: expected one 'key: range' per line"),
        ("parameters: {loss.name: {choices: [dice], default: dice}}", "label_by: needs the key"),
        ("extends: lr\nlabel_by: optimizer.lr", "label_by optimizer.lr: every trial would have a label of its own"),
        ("extends: lr\nlabel_by: optimizer.nam", "unknown key 'optimizer.nam'; did you mean optimizer.name"),
        ("extends: lr\nlabel_by: loss.gamma", "label_by loss.gamma: not every trial has it"),
        ("extends: lr\nstart: [{optimizer.lr: 7}]", "start[0]: optimizer.lr=7.0 is outside"),
        ("extends: lr\nstart: [{}, {optimizer.momentum: 0.9}]", "start[1]: unexpected optimizer.momentum"),
        ("extends: lr\nstart: [{optimizer.lrr: 7}]", "start[0]: unknown key 'optimizer.lrr'"),
        ("name: [a]\nextends: lr", "name: expected text"),
    ],
)
def test_fault_of_a_file_is_told(text: str, fault: str) -> None:
    (told,) = faults_of(text)
    assert told.startswith(fault)


@pytest.mark.parametrize(
    ("parameter", "fault"),
    [
        ("training.clip_norm: {low: 0, high: 5}", "training.clip_norm: needs a default"),
        ("training.clip_norm: {low: 0, default: 0}", "training.clip_norm: low needs a high"),
        ("batch_size: {low: 2, high: 8, step: 0.5, default: 4}", "batch_size: step 0.5 must be a whole number"),
        ("optimizer.lr: {low: 1e-3, high: 11, default: 1}", "optimizer.lr=11.0: must be <= 10"),
        ("loss.gamma: {low: 1, high: 2, default: 1}", "loss.gamma: cross_entropy has no gamma"),
        ("loss.name: {choices: [dice, focl], default: dice}", "loss.name: unknown loss 'focl'"),
        (
            "training.ema: {value: 0.5, when: {loss.name: dice}}",
            "training.ema: condition on loss.name, which the space does not have",
        ),
        (
            "training.ema: {choices: [0.5], default: 0.5, when: {optimizer.name: adam}}",
            "training.ema: no trial could have it",
        ),
        ("optimizer.lr: {low: 1e-3, high: 1e-2, when: {schedule.warmup: {below: 1}}}", "optimizer.lr: when schedule"),
    ],
)
def test_fault_is_told_with_its_key(parameter: str, fault: str) -> None:
    (told,) = faults_of(f"extends: lr\nparameters:\n  {parameter}\n")
    assert told.startswith(fault)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "mine.yaml cannot be read"),
        ("- a\n", "expected lines such as"),
        ("", "expected lines such as"),
        ("extends: lr\nextends: loss\n", "extends appears here twice"),
        ("parameters:\n  batch_size: 4\n  batch_size: 8\n", "batch_size appears here twice"),
        ("extends: !!python/object/apply:os.system ['false']\n", "could not determine a constructor"),
    ],
)
def test_files_that_are_no_space_are_told_and_nothing_is_run(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read(text)


def test_files_extend_files_beside_them_but_not_themselves(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(MINE)
    (tmp_path / "more.yaml").write_text("extends: [mine.yaml]\nparameters: {batch_size: 4}\n")
    space = find_space(str(tmp_path / "more.yaml"))(ONE, "none")
    assert (space.name, space.fixed["batch_size"], space.label_by) == ("more", 4, "loss.name")
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: [lr, a.yaml]\n")
    with pytest.raises(ConfigError, match=r"the space extends itself: a\.yaml -> b\.yaml -> a\.yaml"):
        find_space(str(tmp_path / "a.yaml"))(ONE, "none")


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("agument", "did you mean augment"),
        ("nowhere.yaml", "nowhere.yaml: no such file"),
        ("nowhere.py:space", "nowhere.py: no such file"),
        ("nowhere.py", "say which space of the file, such as nowhere.py:space"),
    ],
)
def test_space_that_is_not_there_is_bad_usage(spec: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        find_space(spec)


@pytest.mark.parametrize(
    ("spec", "name"),
    [("lr", "lr"), ("a/my_space.yaml", "my_space"), ("a/b.py:mine", "mine"), ("C:\\a.py:mine", "mine")],
)
def test_name_for_a_run(spec: str, name: str) -> None:
    assert space_name(spec) == name


PYTHON = """
from search_spaces import SearchSpace
from search_spaces.space import choice

space = SearchSpace("own", "Which?", (choice("loss.name", ("dice", "focal"), default="dice"),), "loss.name")
number = 3
bad = SearchSpace("bad", "", (choice("loss.name", ("dice", "focl"), default="dice"),), "loss.name")


def of(models, weights):
    return SearchSpace("of", f"{weights}?", (choice("model.name", models, default=models[0]),), "model.name")


def nothing(models, weights):
    return None


def fails(models, weights):
    return {}[weights]
"""


def test_python_file_gives_a_space_or_a_factory(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(PYTHON)
    assert find_space(f"{path}:space")(ONE, "none").start == ({"loss.name": "dice"},)
    made = find_space(f"{path}:of")(TWO, "imagenet")
    assert (made.description, made.parameters[0].choices) == ("imagenet?", tuple(TWO))
    (tmp_path / "more.yaml").write_text("extends: [mine.py:space, lr]\nlabel_by: loss.name\n")
    extended = find_space(str(tmp_path / "more.yaml"))(ONE, "none")
    assert [point["loss.name"] for point in extended.start] == ["dice"]
    assert "optimizer.lr" in {p.key for p in extended.parameters}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("spaec", r"mine\.py has no spaec; did you mean space"),
        ("number", "number must be a SearchSpace or a function"),
        ("nothing", "nothing must be a SearchSpace or a function .* not NoneType"),
        ("fails", r"mine\.py, line 19: KeyError: 'none'"),
        ("bad", "loss.name: unknown loss 'focl'"),
    ],
)
def test_faults_of_a_python_file_are_told_with_their_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(PYTHON)
    for path in (tmp_path / "mine.py", "mine.py"):
        with pytest.raises(UsageError, match=told):
            find_space(f"{path}:{name}")(ONE, "none")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("x = 1\nspace = (\n", r"mine\.py, line 2: SyntaxError"),
        ("raise SystemExit(3)\n", r"mine\.py, line 1: SystemExit: 3"),
        ("\n\nimport nowhere_at_all\n", r"mine\.py, line 3: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("from search_spaces import SearchSpace\nspace = SearchSpace(\n    'x', '', (), 'a', start=({'b': 1},)\n)\n",
         r"mine\.py, line 2: space x:\n  start\[0\]: unexpected b"),
    ],
)  # fmt: skip
def test_python_file_that_cannot_be_run_is_told_with_its_line(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(content)
    with pytest.raises(ConfigError, match=told):
        find_space(f"{path}:space")(ONE, "none")
    path.write_text("from search_spaces.lr import lr as space\n")
    assert find_space(f"{path}:space")(ONE, "none").name == "lr", "the file is run again once it was mended"


def test_check_tells_what_no_trial_could_have_and_values_out_of_bounds() -> None:
    space = SearchSpace(
        "x", "", label_by="loss.name",
        parameters=(
            choice("loss.name", ("cross_entropy", "focal"), default="cross_entropy"),
            number("loss.gamma", 0.5, 50.0, default=1.0, when=(When("loss.name", ("focal",)),)),
            number("training.ema", 0.1, 0.9, default=0.5, when=(When("loss.gamma", above=50.0),)),
        ),
    )  # fmt: skip
    with pytest.raises(ConfigError) as error:
        check_space(space, ONE, "none")
    assert "loss.gamma=50.0: must be <= 5" in str(error.value)
    assert "training.ema: no trial could have it" in str(error.value)


def test_examples_of_the_documentation_are_spaces(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "SPACES.md").read_text(encoding="utf-8")
    blocks = {kind: re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL) for kind in ("yaml", "python")}
    (tmp_path / "my_space.yaml").write_text(blocks["yaml"][0])
    (tmp_path / "my_space.py").write_text(blocks["python"][0])
    from_file = find_space(str(tmp_path / "my_space.yaml"))(ONE, "none")
    assert [point["augment.policy"] for point in from_file.start] == ["none", "geometric"]
    assert find_space(f"{tmp_path / 'my_space.py'}:space")(TWO, "imagenet").label_by == "loss.name"
    assert all(f"| `{name}` |" in text for name in SPACES)
