"""Rank 0 of a trial, and the processes of the other ranks: started, ordered, watched, ended.

A follower builds what rank 0 builds and then calls what it is told to, with what it has built. It ends when it raises,
when it is told to, or when its pipe is closed: when rank 0 has ended, killed or not. When a follower ends by itself,
rank 0 is told why in place of waiting for it.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import multiprocessing
import os
import queue
import shutil
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import distributed

from trainables.allocator import keep_freed_memory
from trainables.errors import RankDiedError, SegsweepError, UsageError
from trainables.loader_processes import start_method, without_main
from trainables.ranks import MEETING, Ranks

SECONDS = 10.0
"""For which rank 0 waits for a process that ends."""
BUSY_SECONDS = 1.0
"""For which a follower that is to end goes on with what it does."""
T = TypeVar("T")


@dataclass(frozen=True)
class _Answer:
    """What a function returned in a follower."""

    value: Any


class Leader(Ranks):
    """Rank 0, with the others.

    Args:
        size: How many ranks there are.
        device: `cpu` or `cuda`.
        build: Builds what the other ranks work with, given `ranks`; it goes to their processes.

    Raises:
        UsageError: If there are fewer GPUs.
        RankDiedError: If a process ends at once.
    """

    def __init__(self, size: int, device: str, build: Callable[..., Any]) -> None:
        super().__init__(0, size, device=device)
        if device == "cuda" and torch.cuda.device_count() < size:
            raise UsageError(f"the trial is to train on {size} GPUs, and torch finds {torch.cuda.device_count()} here")
        self._faults: list[Exception] = []
        self._ended = threading.Event()
        self._followers: list[_Follower] = []
        self._folder = Path(tempfile.mkdtemp(prefix="segsweep-ranks-"))
        atexit.register(self.close)
        with self.together():
            for rank in range(1, size):
                follower = Ranks(rank, size, device=device)
                self._followers.append(_Follower(follower, self._folder, build, on_end=self._follower_ended))
            for one in self._followers:
                one.answer()  # it has started
            self.join(self._folder)

    def everywhere(self, function: Callable[..., T], built: Any, *arguments: Any) -> list[T]:
        """See `Ranks.everywhere`."""
        with self.together():
            for one in self._followers:
                one.order(function, arguments)
            return [function(built, *arguments), *(one.answer() for one in self._followers)]

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """See `Ranks.together`; no rank goes on after an error of any."""
        try:
            yield
        except Exception as error:
            if isinstance(error, RankDiedError):
                self._ended.wait(SECONDS)  # why it ended is told a moment later
            is_own = not self._faults
            self.close()
            # A follower may end because another one did, which has more to say.
            causes = [error] if is_own else sorted(self._faults, key=lambda one: isinstance(one, RankDiedError))
            if causes[0] is error:
                raise
            raise causes[0] from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """See `Ranks.close`; again does nothing."""
        atexit.unregister(self.close)
        followers, self._followers = self._followers, []
        for one in followers:
            one.end()
        for one in followers:
            one.wait()
        if followers and distributed.is_initialized():
            self._give_up_waiting()
            distributed.destroy_process_group()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _follower_ended(self, fault: Exception) -> None:
        """Called in a thread."""
        self._faults.append(fault)
        self._ended.set()
        if self._followers:
            self._close_meeting()
            self._give_up_waiting()

    def _close_meeting(self) -> None:
        """Ends rank 0's wait for a rank that will not come: their file becomes a link to itself, which has no end."""
        link = self._folder / "closed"
        with contextlib.suppress(OSError):
            link.symlink_to(MEETING)
            link.replace(self._folder / MEETING)

    def _give_up_waiting(self) -> None:
        """Ends what the GPU waits for; on a CPU the connections, which end with the others, do."""
        if self.device == "cuda" and distributed.group.WORLD is not None:
            distributed.group.WORLD.abort()


class _Follower:
    """The process of a rank, as rank 0 sees it.

    Args:
        ranks: What it is.
        folder: See `Ranks.join`.
        build: See `Leader`.
        on_end: Called, in a thread, with the reason when it has ended.
    """

    def __init__(
        self, ranks: Ranks, folder: Path, build: Callable[..., Any], *, on_end: Callable[[Exception], None]
    ) -> None:
        context: Any = multiprocessing.get_context(start_method("trainables.trial"))
        self._rank = ranks.rank
        self._pipe, others = context.Pipe()
        name = f"rank {ranks.rank}"
        self._process = context.Process(target=follow, name=name, args=(others, ranks, folder, build))
        with without_main():
            self._process.start()
        others.close()
        self._told: queue.SimpleQueue[_Answer | Exception] = queue.SimpleQueue()
        self._on_end = on_end
        self._listener = threading.Thread(target=self._listen, name=name, daemon=True)
        self._listener.start()

    def order(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        """Has it call a function."""
        try:
            self._pipe.send((function, arguments))
        except OSError as error:
            raise RankDiedError(f"rank {self._rank} of the trial has ended") from error

    def answer(self) -> Any:
        """Waits for what the function returns.

        Raises:
            Exception: What it raised, or that its process has died.
        """
        told = self._told.get()
        if isinstance(told, _Answer):
            return told.value
        raise told

    def end(self) -> None:
        """Has it end, whatever it is doing."""
        with contextlib.suppress(OSError):
            self._pipe.send(None)

    def wait(self) -> None:
        """Waits until it has ended."""
        self._listener.join(SECONDS)
        if self._listener.is_alive():
            self._process.kill()
            self._listener.join()
        self._pipe.close()

    def _listen(self) -> None:
        fault: Exception | None = None
        while fault is None:
            try:
                told = self._pipe.recv()
            except Exception:  # it has ended, or sent what cannot be read
                told = self._death()
            self._told.put(told)
            fault = told if isinstance(told, Exception) else None
        self._on_end(fault)
        self._process.join()

    def _death(self) -> RankDiedError:
        self._process.join(SECONDS)
        code = self._process.exitcode
        if code is not None and code < 0:
            how = f"ended by {signal.Signals(-code).name}: most likely memory ran out; lower --concurrent or batch_size"
        else:
            how = f"lost (exit code {code})"
        return RankDiedError(f"the process of rank {self._rank} of the trial was {how}")


def follow(pipe: Connection, ranks: Ranks, folder: Path, build: Callable[..., Any]) -> None:
    """What the process of a follower does: builds, and calls functions with what it built until it is ended.

    Args:
        pipe: To rank 0.
        ranks: What it is.
        folder: See `Ranks.join`.
        build: See `Leader`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches rank 0 too, which ends this process
    keep_freed_memory()
    orders: queue.SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]] | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(pipe, orders, folder), daemon=True).start()
    try:
        pipe.send(_Answer("started"))
        ranks.join(folder)
        built = build(ranks=ranks)
        while (order := orders.get()) is not None:
            function, arguments = order
            pipe.send(_Answer(function(built, *arguments)))
        del built
        gc.collect()  # processes that loaded images end, too
    except BaseException as error:
        with contextlib.suppress(OSError):
            pipe.send(_as_sent(error, ranks.rank))
    _leave()


def _read(pipe: Connection, orders: queue.SimpleQueue[Any], folder: Path) -> None:
    """Passes orders on until there are no more; then this process ends, also in the middle of one."""
    try:
        while (order := pipe.recv()) is not None:
            orders.put(order)
    except (EOFError, OSError):  # rank 0 was killed, and cannot take away what it made
        shutil.rmtree(folder, ignore_errors=True)
    orders.put(None)
    time.sleep(BUSY_SECONDS)
    _leave()


def _leave() -> None:
    """Ends this process and those that load images for it, without waiting for other ranks."""
    for child in multiprocessing.active_children():
        child.terminate()
    os._exit(1)


def _as_sent(error: BaseException, rank: int) -> Exception:
    """An error that another process can read, with where it was raised."""
    is_known = isinstance(error, SegsweepError) or type(error).__module__ == "builtins"
    sent = error if is_known and isinstance(error, Exception) else RuntimeError(f"{type(error).__name__}: {error}")
    sent.add_note(f"raised in rank {rank} of the trial:\n{''.join(traceback.format_exception(error))}")
    return sent
