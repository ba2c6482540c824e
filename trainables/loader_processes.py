"""How loader processes are started: soon, whatever the program is that asks for them."""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
from collections.abc import Iterator

PRELOADED = ("trainables.loaders", "trainables.augmentations.policy")
"""What every loader process needs and one imports for all."""


def start_method() -> str:
    """How they are started: as copies of a process that has imported everything once.

    Threads of Ray and of loaders make copies of the asking process itself unsafe. Where there is no such way (Windows),
    each imports for itself.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return "spawn"
    multiprocessing.set_forkserver_preload(list(PRELOADED))
    return "forkserver"


@contextlib.contextmanager
def without_main() -> Iterator[None]:
    """Keeps processes that are started meanwhile from importing this program's main module, which takes seconds.

    It would be imported for what it defines itself; nothing of that is sent here, and plugins go along by their path.
    """
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    main.__spec__ = None
    if file is not None:
        del main.__file__
    try:
        yield
    finally:
        main.__spec__ = spec
        if file is not None:
            main.__file__ = file
