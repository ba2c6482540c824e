"""How loader processes are started."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from trainables.errors import DataError, LoaderDiedError
from trainables.loader_processes import start_method, with_own_errors, without_main


def test_copies_of_a_process_that_has_imported_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    assert start_method() == "forkserver"
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    assert start_method() == "spawn"


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), LoaderDiedError("exited unexpectedly")),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), LoaderDiedError("--workers")),
        (
            DataError("Caught DataError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
                      '  File "x.py", line 1\ntrainables.errors.DataError: a.png is missing\n  restore it\n'),
            DataError("a.png is missing\n  restore it"),
        ),
        (DataError("said here"), DataError("said here")),
        (RuntimeError("of the policy"), RuntimeError("of the policy")),
    ],
)  # fmt: skip
def test_what_failed_in_a_loader_process_is_said_as_it_was_there(raised: Exception, told: Exception) -> None:
    def batches() -> Iterator[int]:
        yield 1
        raise raised

    got = with_own_errors(batches())
    assert next(got) == 1
    with pytest.raises(type(told)) as error:
        next(got)
    assert str(told) in str(error.value) and "Traceback" not in str(error.value)


@pytest.mark.parametrize("file", ["program.py", None])
def test_main_module_is_put_back(file: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    main = ModuleType("__main__")
    main.__spec__ = spec = sys.__spec__
    if file is not None:
        main.__file__ = file
    monkeypatch.setitem(sys.modules, "__main__", main)
    with pytest.raises(KeyError), without_main():
        assert main.__spec__ is None and getattr(main, "__file__", None) is None
        raise KeyError
    assert main.__spec__ is spec and getattr(main, "__file__", None) == file
