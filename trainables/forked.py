"""Runs a function in a copy of this process, so that what it loads takes memory and time there and not here.

The driver of a sweep checks its augmentations and weights before it starts, which needs torch, torchvision and
Albumentations: half a GiB that it would hold until its last trial. A report draws its figures while it writes the rest.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

from trainables import errors
from trainables.errors import SegsweepError, remade


class Forked:
    """A function that runs in a copy of this process, while this one does something else.

    Where the system is not Linux, or torch is loaded that the function needs, it is not safe: the function runs here,
    when its result is asked for.

    Args:
        function: Takes nothing and returns JSON primitives, lists or dicts. It must not print.
        uses_torch: Whether it computes with torch, whose threads a copy does not have.
    """

    def __init__(self, function: Callable[[], Any], *, uses_torch: bool = True) -> None:
        self._function = function
        self._child = 0
        if sys.platform == "linux" and not (uses_torch and "torch" in sys.modules):
            self._start()

    def _start(self) -> None:
        self._answer, write = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads: the one of the terminal's spinner
            self._child = os.fork()
        if self._child:
            os.close(write)
            return
        os.close(self._answer)
        sys.stdout = sys.stderr = io.StringIO()  # whose locks another thread may have held
        try:
            answer = {"result": self._function()}
        except SegsweepError as error:
            known = (one.__name__ for one in type(error).__mro__ if getattr(errors, one.__name__, None) is one)
            answer = {"error": next(known), "message": str(error)}
        except BaseException as error:
            answer = {"error": "", "message": "".join(traceback.format_exception(error))}
        with suppress(OSError), os.fdopen(write, "wb") as pipe:
            pipe.write(json.dumps(answer).encode())
        os._exit(0)

    def result(self) -> Any:
        """Waits for what the function returns.

        Raises:
            SegsweepError: As the function, of the same class.
            RuntimeError: If it raised something else, or its process was killed.
        """
        if not self._child:
            return self._function()
        with os.fdopen(self._answer, "rb") as pipe:
            told = pipe.read()
        child, self._child = self._child, 0
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if not told:
            raise RuntimeError(f"a copy of this process ended with {status} (killed for memory?)")
        answer = json.loads(told)
        if "error" not in answer:
            return answer["result"]
        kind = getattr(errors, answer["error"], None)
        if isinstance(kind, type) and issubclass(kind, SegsweepError):
            raise remade(kind, answer["message"])
        raise RuntimeError(answer["message"])

    def __enter__(self) -> Forked:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child:
            with suppress(ProcessLookupError):
                os.kill(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)
            os.close(self._answer)
            self._child = 0
