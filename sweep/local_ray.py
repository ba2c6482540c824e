"""The Ray that a sweep starts on this machine: as early as something can be done meanwhile, and ended once."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from sweep.resources import Machines
from trainables.guarded import say_error

if TYPE_CHECKING:
    from sweep.ray_session import RaySession


class LocalRay:
    """A Ray session on this machine that begins when it is first asked for.

    Args:
        machines: What it may use.
        dashboard: As for `sweep.ray_session.ray_session`.

    Attributes:
        on_stuck: As for `sweep.ray_session.ray_session`; without a run folder there is nothing to go on with.
    """

    def __init__(self, machines: Machines, dashboard: bool | None) -> None:
        self._machines, self._dashboard = machines, dashboard
        self._session: RaySession | None = None
        self._stack = ExitStack()
        self.on_stuck = _end_stuck

    def start(self) -> RaySession:
        """The session, started unless it was.

        Raises:
            SegsweepError: As `sweep.ray_session.ray_session`.
        """
        if self._session is None:
            from sweep.ray_session import ray_session

            session = ray_session(
                address=None,
                dashboard=self._dashboard,
                machines=self._machines,
                on_stuck=lambda fault: self.on_stuck(fault),
            )
            self._session = self._stack.enter_context(session)
        return self._session

    def __enter__(self) -> LocalRay:
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()

    def end(self) -> None:
        """Ends the session where it was started, with all that belongs to it."""
        self._stack.close()
        self._session = None


def _end_stuck(fault: str) -> None:
    """Ends this process from another thread, before its sweep has begun."""
    say_error(f"{fault} before the first trial; type the command again")
    sys.stderr.flush()
    os._exit(1)
