"""The names in help texts: those of the registries, remembered, so that help loads next to nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from search_spaces import SPACES
from sweep import catalogue
from sweep.optuna_study import SAMPLERS
from sweep.schedulers import SCHEDULERS
from trainables.models import MODELS, WEIGHTS

PROGRAM = """
import sys
from sweep.run import main
try:
    main(["--help"])
except SystemExit:
    pass
print(*[name for name in ("torch", "ray", "optuna", "albumentations", "wandb") if name in sys.modules], file=sys.stderr)
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path))
    catalogue._remembered.cache_clear()
    yield tmp_path
    catalogue._remembered.cache_clear()


def test_names_are_those_of_the_registries(cache: Path) -> None:
    names = catalogue.names()
    assert (names.spaces, names.models, names.model_pattern) == (SPACES.names(), MODELS.names(), MODELS.pattern)
    assert (names.samplers, names.schedulers, names.weights) == (SAMPLERS.names(), SCHEDULERS.names(), list(WEIGHTS))
    (file,) = cache.glob("names-*.json")
    catalogue._remembered.cache_clear()
    assert catalogue.names() == names, "read back"
    for damaged in (b"", b"{", b"[]", b'{"spaces": []}'):
        file.write_bytes(damaged)
        catalogue._remembered.cache_clear()
        assert catalogue.names() == names, "a damaged file is collected again"


def test_other_code_or_packages_have_names_of_their_own(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue.names()
    monkeypatch.setattr(catalogue, "code_version", lambda: "another")
    catalogue._remembered.cache_clear()
    catalogue.names()
    assert len(list(cache.glob("names-*.json"))) == 2


def test_help_is_the_same_from_the_cache_and_then_loads_no_heavy_library(cache: Path) -> None:
    cold, warm = (
        subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True) for _ in range(2)
    )
    assert "lraspp_mobilenet_v3_large" in cold.stdout and "tpe" in cold.stdout
    assert warm.stdout == cold.stdout
    assert "torch" in cold.stderr
    assert warm.stderr.split() == []
