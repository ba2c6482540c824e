"""What all tests share: a cache and a folder for temporary files of their own, one thread, and a tiny data set."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before anything of the project is imported: no test may touch the user's cache or ask for an account.
_OWN = Path(tempfile.mkdtemp(prefix="segsweep-tests-"))
atexit.register(shutil.rmtree, _OWN, ignore_errors=True)
os.environ["SEGSWEEP_CACHE"] = str(_OWN / "cache")
# Processes that are killed (Ray's workers are) leave what they put there: it goes with the folder.
os.environ["TMPDIR"] = str(_OWN / "tmp")
(_OWN / "tmp").mkdir()
os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(_OWN / "torchinductor")
os.environ.pop("WANDB_API_KEY", None)
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # on matrices as small as the tests' its threads wait for one another

import torch

from trainables import latency
from trainables.data import DATASETS
from trainables.execution import TrialData

from .copies import altered_originals
from .mini import TinyNet, write

torch.set_num_threads(1)
latency.LATENCY_SECONDS = 0.0  # a report times every model for a second
os.fsync = lambda descriptor: None  # no test cuts the power, and journals of simulated sweeps write thousands of times


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with real sweeps go first: several processes share out files in this order, and the last one ends alone."""
    slow = {item.path for item in items if item.get_closest_marker("ray")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """What is there before the first test stays: a pass of the garbage collector over it all takes half a second."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Libraries that look for leaks at the end of the process find none."""
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def _originals_stay_whole() -> Iterator[None]:
    """No test wrote through a link into the run folder that it was given a copy of."""
    yield
    assert altered_originals() == []


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
