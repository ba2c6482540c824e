"""What all tests share: a cache of their own, one thread, and a tiny data set."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before anything of the project is imported: no test may touch the user's cache or ask for an account.
_CACHE = tempfile.mkdtemp(prefix="segsweep-tests-")
os.environ["SEGSWEEP_CACHE"] = _CACHE
os.environ.pop("WANDB_API_KEY", None)

import torch

from trainables.data import DATASETS
from trainables.execution import TrialData

from .mini import TinyNet, write

torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache() -> Iterator[None]:
    yield
    shutil.rmtree(_CACHE, ignore_errors=True)


@pytest.fixture(scope="session")
def mini_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a `folder` data set: 40 images of 48x64, three classes, void rings. Read only."""
    return write(tmp_path_factory.mktemp("data") / "mini")


@pytest.fixture(scope="session")
def mini_data(mini_root: Path) -> TrialData:
    """14 images to train on (no multiple of the batch sizes in use) and 5 to validate on."""
    data = DATASETS.get("folder")(root=mini_root)
    ids = tuple(data.ids())
    return TrialData(data, ids[:14], ids[14:19])


@pytest.fixture
def tiny_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model that a trial builds is a `TinyNet`: the same code around it, in a hundredth of the time."""
    for module in ("trainables.trial", "trainables.checkpoint"):
        monkeypatch.setattr(
            f"{module}.build_model", lambda name, classes, **params: TinyNet(len(classes), name=name, **params)
        )
