"""What registries tell without loading their modules: the same as with them, for this code and these packages only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainables import remembered
from trainables.augmentations import TRANSFORMS
from trainables.config import COMPONENTS
from trainables.registry import Hyperparameter
from trainables.remembered import Memory

SHOW = """
import sys
from sweep.run import main
for case in sys.argv[1:]:
    print("====", case, flush=True)
    try:
        main(case.split())
    except SystemExit:
        pass
heavy = ("torch", "ray", "optuna", "albumentations", "wandb", "scipy", "pandas", "matplotlib")
print(*[name for name in heavy if name in sys.modules], file=sys.stderr)
"""


def run(program: str, *arguments: str, cache: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SEGSWEEP_CACHE": str(cache)}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment)


def test_facts_are_found_out_once_and_kept_for_other_processes(tmp_path: Path) -> None:
    asked: list[str] = []

    def find_out() -> list[str]:
        asked.append("names")
        return ["a", "b"]

    memory = Memory(tmp_path)
    assert memory.recall("names", find_out) == memory.recall("names", find_out) == ["a", "b"]
    memory.note("pattern", "A+B")
    memory.save()
    again = Memory(tmp_path)
    assert again.recall("names", find_out) == ["a", "b"] and again.recall("pattern", list) == "A+B"
    assert asked == ["names"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_damaged_file_is_found_out_again(tmp_path: Path, content: bytes) -> None:
    Memory(tmp_path).path.write_bytes(content)
    memory = Memory(tmp_path)
    assert memory.recall("names", lambda: ["a"]) == ["a"]
    memory.save()
    assert Memory(tmp_path).recall("names", list) == ["a"]


def test_other_code_has_facts_of_its_own_and_old_ones_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Memory(tmp_path)
    first.note("names", ["a"])
    first.save()
    monkeypatch.setattr(remembered, "code_version", lambda: "another")
    second = Memory(tmp_path)
    assert second.recall("names", lambda: ["b"]) == ["b"]
    second.save()
    assert first.path != second.path and first.path.exists(), "two versions side by side keep both"
    long_ago = time.time() - 40 * 24 * 3600
    os.utime(first.path, (long_ago, long_ago))
    second.note("pattern", "")
    second.save()
    assert not first.path.exists() and second.path.exists()


def test_folder_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    memory = Memory(tmp_path / "file" / "cache")
    assert memory.recall("names", lambda: ["a"]) == ["a"]
    memory.save()


@pytest.mark.parametrize("registry", [*COMPONENTS.values(), TRANSFORMS], ids=lambda registry: registry.kind)
def test_hyperparameters_come_back_as_they_were(registry) -> None:  # type: ignore[no-untyped-def]
    for name in registry:
        for parameter in registry.parameters(name).values():
            assert Hyperparameter.from_json(json.loads(json.dumps(parameter.to_json()))) == parameter


def test_help_and_spaces_are_the_same_without_what_trains(tmp_path: Path) -> None:
    cases = ["--help", "--show --space full", "--show --space loss"]
    cases.append("--show --space architecture --models lraspp_resnet18,deeplabv3_resnet34")
    cold, warm = (run(SHOW, *cases, cache=tmp_path) for _ in range(2))
    assert cold.stdout.count("====") == len(cases) and "lraspp_resnet18" in cold.stdout
    assert "lraspp_mobilenet_v3_large" in cold.stdout and "tpe" in cold.stdout
    assert "torch" in cold.stderr.split()
    assert warm.stdout == cold.stdout
    assert warm.stderr.split() == []


def test_unknown_names_are_told_as_with_the_modules(tmp_path: Path) -> None:
    wrong = ("--show", "--space", "lr", "--models", "lrasp_resnet18", "--set", "loss.gama=2")
    program = "import sys; from sweep.run import main; sys.exit(main(sys.argv[1:]) != 2)"
    cold, warm = (run(program, *wrong, cache=tmp_path) for _ in range(2))
    assert warm.stderr == cold.stderr and "did you mean lraspp_resnet18" in warm.stderr


def test_names_keep_their_order_whichever_module_is_loaded_first(tmp_path: Path) -> None:
    program = "import trainables.losses.{}; from trainables.losses import LOSSES; print(*LOSSES)"
    modules = ("base", "cross_entropy", "overlap")
    told = {run(program.format(module), cache=tmp_path / module).stdout for module in modules}
    assert len(told) == 1 and told.pop().startswith("cross_entropy ")


def test_component_from_elsewhere_turns_the_memory_off(tmp_path: Path) -> None:
    program = """
import sys
from trainables.models import HEADS, MODELS
print(MODELS.pattern, "resnet18" in MODELS, "mine_resnet18" in MODELS)
if "add" in sys.argv:
    from trainables.models.heads import Head
    HEADS.register("mine")(HEADS.get("fcn"))
    print(MODELS.pattern, "mine_resnet18" in MODELS, len(MODELS.parameters("mine_resnet18")))
"""
    before = run(program, cache=tmp_path).stdout
    added = run(program, "add", cache=tmp_path).stdout.splitlines()
    assert "mine" in added[1] and added[1].endswith("True 2")
    assert run(program, cache=tmp_path).stdout == before, "and is not remembered"
