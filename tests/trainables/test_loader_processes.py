"""How loader processes are started."""

from __future__ import annotations

import multiprocessing
import sys
from types import ModuleType

import pytest

from trainables.loader_processes import start_method, without_main


def test_copies_of_a_process_that_has_imported_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    assert start_method() == "forkserver"
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    assert start_method() == "spawn"


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
