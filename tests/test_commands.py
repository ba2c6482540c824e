"""Commands that messages print: each is parsed by the parser that it is for, and nobody spells one out elsewhere."""

from __future__ import annotations

import ast
import os
import shlex
import sys
from pathlib import Path

import pytest

import analysis.failures.measure
import analysis.report.__main__
import search_spaces.preview
import sweep.replay
import trainables.data.check
import trainables.train
from sweep.config import GoOnConfig, SweepConfig, from_command_line
from trainables import commands

from .test_layers import FILES, ROOT

RUN = Path("runs/my sweep; rm -rf x")
ELSEWHERE = Path("/data/all runs/mine")


def words(line: str) -> list[str]:
    """What stands behind the module or the subcommand, as a shell would split it."""
    split = shlex.split(line)
    return split[split.index("-m") + 2 :] if "-m" in split else split[2:]


@pytest.mark.parametrize("run_dir", [RUN, ELSEWHERE])
def test_commands_of_a_sweep_are_read_by_its_parser(run_dir: Path) -> None:
    for line, extend in ((commands.resume(run_dir), 0), (commands.extend(run_dir, 4), 4)):
        given = words(line)
        # A run of such a name can't be started by us, but another program may have renamed its folder.
        given[given.index("--name") + 1] = "mine"
        config = from_command_line(given)
        assert isinstance(config, GoOnConfig)
        assert (config.runs_dir, config.extend) == (run_dir.parent, extend)
    assert shlex.quote(run_dir.name) in commands.resume(run_dir)


@pytest.mark.parametrize("run_dir", [RUN, ELSEWHERE])
@pytest.mark.parametrize(
    "more",
    [(), ("--split", "val"), ("--save-predictions",), ("--data-root", "x y"), ("--split", "val", "--pictures", "5")],
)
def test_commands_of_a_report_are_read_by_its_parser(run_dir: Path, more: tuple[str, ...]) -> None:
    options = analysis.report.__main__._parser().parse_args(words(commands.report(run_dir, *more)))
    assert options.run == run_dir


def test_other_commands_are_read_by_their_parsers() -> None:
    assert isinstance(from_command_line(words(commands.start_sweep("--name", "other"))), SweepConfig)
    assert search_spaces.preview.parser().parse_args(words(commands.preview()))
    assert words(commands.components()) == []
    asked = sweep.replay.parser().parse_args(words(commands.replay(RUN, "t003")))
    assert (asked.run, asked.trial) == (RUN, "t003")
    trainables.train.parser().parse_args(words(commands.command("trainables.train", "--trial", RUN / "trial.json")))


@pytest.mark.parametrize("name", commands.SUBCOMMANDS)
def test_every_subcommand_has_help_under_both_names(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    import segsweep

    for words_ in (["--version"], ["--help"]):
        sys.argv = ["segsweep", *words_]
        assert segsweep.main() == 0
    assert name in capsys.readouterr().out
    sys.argv = ["segsweep", name, "--help"]
    try:
        with pytest.raises(SystemExit) as stop:
            segsweep.main()
    finally:
        os.environ.pop("SEGSWEEP_THROUGH_SCRIPT", None)
    assert stop.value.code == 0
    assert f"usage: segsweep {name}" in capsys.readouterr().out


def test_commands_are_written_as_the_program_was_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEGSWEEP_THROUGH_SCRIPT", "1")
    assert commands.report(Path("runs/x")) == "segsweep report runs/x"
    monkeypatch.delenv("SEGSWEEP_THROUGH_SCRIPT")
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin")
    assert commands.report(Path("runs/x")).startswith(".venv/bin/python -m analysis.report"), "not the active python"
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").touch(0o755)
    (tmp_path / ".venv" / "bin" / "ray").touch(0o755)
    assert commands.ray_token() == ".venv/bin/ray get-auth-token"
    monkeypatch.setenv("PATH", str(tmp_path / ".venv" / "bin"))
    assert commands.report(Path("runs/x")).startswith("python -m analysis.report")
    assert commands.ray_token() == "ray get-auth-token"


def test_no_message_spells_a_command_out() -> None:
    # Generated documents name the command that writes them, as a reader of the repository types it.
    told = [
        (path.relative_to(ROOT).as_posix(), text)
        for path in FILES
        if path.name != "commands.py"
        for text in _texts(path)
        if any(f"-m {package}." in text for package in ("sweep", "analysis", "trainables", "search_spaces"))
        or "pip install 'segsweep" in text
    ]
    assert not [one for one in told if "Written by `python -m" not in one[1] and "written by" not in one[1].lower()]


def _texts(path: Path) -> list[str]:
    """The strings of a module, but for its documentation."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation
    ]
