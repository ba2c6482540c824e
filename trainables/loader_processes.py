"""How loader processes are started: soon, whatever the program is that asks for them."""

from __future__ import annotations

import contextlib
import multiprocessing
import re
import sys
from collections.abc import Iterator
from typing import TypeVar

from trainables.errors import LoaderDiedError, SegsweepError

PRELOADED = ("trainables.loaders", "trainables.augmentations.policy")
"""What every loader process needs and one imports for all."""


_DIED = re.compile(r"DataLoader worker \(pid.*?\) (exited unexpectedly|is killed by signal)")
T = TypeVar("T")


def with_own_errors(batches: Iterator[T]) -> Iterator[T]:
    """Batches of loader processes, and what failed in one as it was said there, without torch's account of where.

    Raises:
        LoaderDiedError: If one was killed.
        SegsweepError: As in a loader process.
    """
    try:
        yield from batches
    except SegsweepError as error:
        kind = type(error)
        _, mark, told = str(error).rpartition(f"{kind.__module__}.{kind.__qualname__}: ")
        raise (kind(told.strip()) if mark else error) from None
    except RuntimeError as error:
        if found := _DIED.search(str(error)):
            raise LoaderDiedError(
                f"{found[0]}: most likely memory ran out; lower --concurrent, --workers or batch_size"
            ) from error
        raise


def start_method(*more: str) -> str:
    """How they are started: as copies of a process that has imported everything once.

    Threads of Ray and of loaders make copies of the asking process itself unsafe. Where there is no such way (Windows),
    each imports for itself.

    Args:
        more: Modules that are imported with what loader processes need, unless that process is there already.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return "spawn"
    multiprocessing.set_forkserver_preload([*PRELOADED, *more])
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
