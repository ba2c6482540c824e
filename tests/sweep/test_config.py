"""SweepConfig from flags and YAML: everything wrong is told at once, the command line wins."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import pytest

from sweep.compiled import plan_space, values_of
from sweep.config import GoOnConfig, SweepConfig, from_command_line
from sweep.flags import DEFAULT_ARCHITECTURES, duration, parser
from trainables.errors import UsageError

from ..plugin import nothing_left_behind, write


def test_defaults_are_a_sweep_over_augmentation_on_the_embedded_data() -> None:
    config = from_command_line([])
    assert (config.space, config.data, config.models) == ("augment", "scenes", ("lraspp_mobilenet_v3_large",))
    assert (config.sampler, config.scheduler, config.objective) == ("tpe", "asha", ("val/miou",))
    assert (config.wandb, config.weights, config.dashboard) == (None, "none", None)
    assert config.name is not None
    assert config.name.startswith("augment-scenes-")
    assert config.run_dir == Path("runs") / config.name
    assert from_command_line(["--space", "architecture"]).models == DEFAULT_ARCHITECTURES
    assert (config.precision, config.channels_last, config.compile, config.workers) == (None, True, False, None)
    assert (config.cache_limit, config.splits, config.group_by) == (8 * 2**30, None, None)


def test_execution_and_splits_are_chosen_once_for_a_sweep(tmp_path: Path) -> None:
    flags = "--precision bf16 --no-channels-last --compile --workers 2 --cache-limit 500M --splits s.csv --group-by (a)"
    path = tmp_path / "sweep.yaml"
    path.write_text(
        "precision: bf16\nchannels-last: false\ncompile: true\nworkers: 2\ncache-limit: 500M\nsplits: s.csv\n"
        "group-by: (a)\n"
    )
    for arguments in (flags.split(), ["--config", str(path)]):
        config = from_command_line(["--name", "x", *arguments])
        assert (config.precision, config.channels_last, config.compile, config.workers) == ("bf16", False, True, 2)
        assert (config.cache_limit, config.splits, config.group_by) == (500 * 2**20, Path("s.csv"), "(a)")


def test_own_spaces_name_the_run(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: lr\n")
    name = from_command_line(["--space", str(tmp_path / "mine.yaml")]).name
    assert name is not None and name.startswith("mine-scenes-")
    (tmp_path / "own.py").write_text("space = 1\n")
    name = from_command_line(["--space", f"{tmp_path / 'own.py'}:space"]).name
    assert name is not None and name.startswith("space-scenes-")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--space nowhere.yaml", r"nowhere\.yaml: no such file"),
        ("--workers -1", "--workers -1: must be 0 or more"),
        ("--as-yaml", "--as-yaml goes with --show"),
        ("--models lraspp_nonsense", "unknown model 'lraspp_nonsense'"),
    ],
)
def test_impossible_choices_are_told(arguments: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        from_command_line(arguments.split())


def test_model_may_be_a_head_and_a_backbone() -> None:
    assert from_command_line(["--models", "lraspp_resnet34"]).models == ("lraspp_resnet34",)


def test_every_flag_has_a_help_text_and_its_field() -> None:
    of_command = {"config", "resume", "extend", "tile"}  # the last is two of `set_`
    assert vars(parser().parse_args([])).keys() - of_command == {f.name for f in dataclasses.fields(SweepConfig)}
    assert all(action.help for action in parser()._actions)


def test_tile_is_a_size_and_a_way_and_contradicts_others() -> None:
    asked = from_command_line(["--tile", "512", "--set", "batch_size=4"])
    assert isinstance(asked, SweepConfig)
    assert asked.set_ == {"batch_size": "4", "image_size": "512x512", "resize": "tile"}
    assert from_command_line(["--tile", "512@0.5"]).set_ == {"image_size": "512x512", "resize": "tile@0.5"}
    space, base = plan_space(asked, (96, 128))
    assert [values_of(space, base, key) for key in ("image_size", "resize")] == [("512x512",), ("tile",)]
    with pytest.raises(
        UsageError, match="--tile 256x300 is --set image_size=256x300 --set resize=tile: leave --set res"
    ):
        from_command_line(["--tile", "256x300", "--set", "resize=crop"])


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1.5h", 5400), ("1d", 86400)]
)
def test_times_are_read_with_their_units(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["90", "m30", "", "1h 30m", "-5m", "0s", "5x", "1h30"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        duration(text)


def test_all_unknown_names_are_told_at_once_with_the_close_ones() -> None:
    with pytest.raises(UsageError) as error:
        from_command_line(
            [
                "--space",
                "agument",
                "--data",
                "scnes",
                "--models",
                "lraspp_mobilenet,fcn_resnet5",
                "--sampler",
                "tpee",
                "--scheduler",
                "ash",
                "--weights",
                "imagnet",
                "--objective",
                "val/mio",
                "--name",
                "../x",
                "--seed",
                "-3",
            ]
        )
    lines = str(error.value).splitlines()
    assert len(lines) == 10
    for close in (
        "augment",
        "scenes",
        "lraspp_mobilenet_v3_large",
        "fcn_resnet50",
        "tpe",
        "asha",
        "imagenet",
        "val/miou",
    ):
        assert any(f"did you mean {close}" in line or f"or {close}" in line for line in lines), close
    assert "--name '../x'" in str(error.value)
    assert "--seed -3" in str(error.value)


@pytest.mark.parametrize(
    "arguments",
    ["--trials 0", "--trials x", "--max-epochs -1", "--time-budget soon", "--gpu-hours 0", "--set optimizer.lr",
     "--wandb maybe", "--extend 0", "--models ,", "--precision fp8", "--cache-limit much", "--nonsense"],
)  # fmt: skip
def test_impossible_values_are_bad_usage(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        from_command_line(arguments.split())
    assert stop.value.code == 2
    assert arguments.split()[0].lstrip("-") in capsys.readouterr().err


def test_same_model_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="names a model twice"):
        from_command_line(["--models", "fcn_resnet50,fcn_resnet50"])


@pytest.fixture
def yaml_file(tmp_path: Path) -> Path:
    path = tmp_path / "sweep.yaml"
    path.write_text(
        "space: loss\nmodels: [fcn_resnet50, lraspp_mobilenet_v3_large]\ntrials: 30\nmax-epochs: 9\n"
        "time_budget: 1h\ndashboard: false\ndata-root: /data\nset:\n  image_size: 64x64\n  batch_size: 4\nname: mine\n"
    )
    return path


def test_yaml_gives_flags_by_their_names(yaml_file: Path) -> None:
    config = from_command_line(["--config", str(yaml_file)])
    assert (config.space, config.trials, config.max_epochs, config.time_budget) == ("loss", 30, 9, 3600)
    assert config.models == ("fcn_resnet50", "lraspp_mobilenet_v3_large")
    assert config.set_ == {"image_size": "64x64", "batch_size": "4"}
    assert (config.dashboard, config.data_root, config.name) == (False, Path("/data"), "mine")


def test_command_line_wins_over_yaml(yaml_file: Path) -> None:
    config = from_command_line(
        [
            "--config",
            str(yaml_file),
            "--trials",
            "5",
            "--set",
            "batch_size=2",
            "--set",
            "optimizer.lr=0.1",
            "--dashboard",
            "--models",
            "fcn_resnet50",
        ]
    )
    assert config.trials == 5
    assert config.set_ == {"image_size": "64x64", "batch_size": "2", "optimizer.lr": "0.1"}
    assert config.dashboard is True
    assert config.models == ("fcn_resnet50",)
    assert config.max_epochs == 9


def test_all_faults_of_a_yaml_file_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text("trails: 5\nmax_epoch: 3\nmax-epochs: many\ntime-budget: soon\nset: [a]\nwandb: maybe\nzzz: 1\n")
    with pytest.raises(UsageError) as error:
        from_command_line(["--config", str(path)])
    told = str(error.value)
    assert len(told.splitlines()) == 8
    assert "unknown key 'trails'; did you mean trials" in told
    assert "unknown key 'max_epoch'; did you mean max_epochs" in told
    assert "max-epochs: 'many' must be a whole number above 0" in told
    assert "time-budget: 'soon' is no time" in told
    assert "unknown key 'zzz'" in told


@pytest.mark.parametrize(
    ("content", "told"), [("- a\n- b\n", "expected lines such as"), ("a: [", "cannot be read"), ("", "expected lines")]
)
def test_files_that_are_no_configuration_are_bad_usage(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(content)
    with pytest.raises(UsageError, match=told):
        from_command_line(["--config", str(path)])
    with pytest.raises(UsageError, match="cannot be read"):
        from_command_line(["--config", str(tmp_path / "missing.yaml")])


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("seed: null", "seed: needs a value"),
        ("space: {a: b}", "space: needs a value"),
        ("trials: true", "trials: 'true' must be a whole number above 0"),
        ("trials: 0", "trials: '0' must be a whole number above 0"),
        ("gpu_hours: many", "gpu_hours: 'many' must be a number above 0"),
        ("wandb: sometimes", "wandb: invalid choice: 'sometimes'"),
        ("models: []", "models: name at least one"),
        ("check: 1", "check: must be true or false"),
        ("download: 'no'", "download: must be true or false"),
        ("dashboard: maybe", "dashboard: must be true or false"),
        ("set: [optimizer.lr=1]", "set: write one line 'key: value' for each below it"),
        ("set:", "set: write one line 'key: value' for each below it"),
        ("config: other.yaml", "unknown key 'config'"),
        ("help: true", "unknown key 'help'"),
    ],
)
def test_yaml_values_of_another_kind_are_told(tmp_path: Path, line: str, told: str) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(line + "\n")
    with pytest.raises(UsageError) as error:
        from_command_line(["--config", str(path)])
    first, fault = str(error.value).splitlines()
    assert first == f"--config {path}:"
    assert fault.startswith(f"  {told}")


@pytest.mark.parametrize(
    ("line", "flags"),
    [
        ("group_by: -(a) b", ["--group-by=-(a) b"]),
        ("seed: 7", ["--seed", "7"]),
        ("channels_last: false", ["--no-channels-last"]),
        ("channels_last: true", []),
        ("dashboard: null", []),
        ("time_budget:", []),
        ("compile: true\ncheck: false", ["--compile"]),
        ("set: {augment.policy: free, optimizer.lr: 1e-3}", ["--set=augment.policy=free", "--set=optimizer.lr=1e-3"]),
    ],
)
def test_line_of_yaml_says_what_its_flag_says(tmp_path: Path, line: str, flags: list[str]) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(line + "\n")
    assert from_command_line(["--name", "x", "--config", str(path)]) == from_command_line(["--name", "x", *flags])


def test_yaml_names_plugins_and_the_command_line_names_others(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    one, two, three = (write(tmp_path, "", f"{name}.py") for name in ("one", "two", "three"))
    path.write_text(f"plugins: [{one}, {two}]\n")
    with nothing_left_behind(tmp_path / "cache"):
        assert from_command_line(["--config", str(path)]).plugins == (one, two)
        assert from_command_line(["--config", str(path), "--plugins", str(three)]).plugins == (three,)


def test_yaml_can_go_on_with_a_sweep(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text("extend: 3\nname: mine\nworkers: 1\ngroup_by: (a) b\ntrials: 8\ncheck: false\n")
    config = from_command_line(["--config", str(path), "--trials", "9", "--no-report"])
    assert isinstance(config, GoOnConfig)
    assert (config.name, config.extend, config.report, config.changes) == ("mine", 3, False, {"workers": 1})
    assert config.others == {"trials": 9, "group_by": "(a) b"}
    path.write_text("resume: true\n")
    config = from_command_line(["--config", str(path)])
    assert isinstance(config, GoOnConfig)
    assert (config.name, config.extend, config.changes, config.others) == (None, 0, {}, {})


def test_objectives_of_a_file_are_a_list_and_give_way_to_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text("objective: [val/f1, 'val/iou[traffic light, red]', params]\nname: x\n")
    of_file = from_command_line(["--config", str(path)])
    assert of_file.objective == ("val/f1", "val/iou[traffic light, red]", "params")
    assert from_command_line(["--config", str(path), "--objective", "val/recall"]).objective == ("val/recall",)
    assert from_command_line(["--objective", "val/recall", "--objective=params", "--name", "x"]).objective == (
        "val/recall",
        "params",
    )
    path.write_text("objective: val/f1\nname: x\n")
    assert from_command_line(["--config", str(path)]).objective == ("val/f1",)
