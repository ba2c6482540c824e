"""Trackers off the critical path: a thread for each follows the journal, and nothing it does can hurt a sweep."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from sweep.journal import Event
from sweep.tracking.base import OF_ITS_OWN, TRACKERS, TrackedSweep, Tracker, Warn, first_line
from trainables import commands

FLUSH_SECONDS = 5.0
FOLLOWED = ("suggested", "result", "ended")


class Follower:
    """Tells one tracker what the journal says, in a thread of its own; a failure costs one warning.

    Args:
        tracker: It is called from that thread alone.
        later: The command that writes what is missing once the sweep has ended.
    """

    def __init__(self, tracker: Tracker, *, later: str) -> None:
        self._tracker = tracker
        self._later = tracker.later.format(command=later)
        self._open: dict[str, Event] = {}
        self._results: dict[str, list[Event]] = {}
        self._verdict: Event | None = None
        self._is_off = False
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"tracking: {tracker.title}", daemon=True)
        self._thread.start()

    def on_event(self, event: Event) -> None:
        """Queues an event; returns at once."""
        if event["event"] == "verdict":
            self._verdict = event
        elif event["event"] in FOLLOWED and not self._is_off:
            self._queue.put(partial(self._follow, event))

    def report(self, folder: Path) -> None:
        """Queues the report."""
        self._queue.put(lambda: self._tracker.report(folder, self._verdict))

    def end(self) -> None:
        """Queues the end: nothing comes after it."""
        self._queue.put(None)

    def wait(self, seconds: float) -> bool:
        """Waits for the end, but not longer; returns whether all was written."""
        self._thread.join(max(0.0, seconds))
        if self._thread.is_alive():
            self._tracker.warn(f"{self._tracker.title} has not written everything yet; {self._later}")
            return False
        return not self._is_off

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            try:
                job()
            except Exception as error:
                if not self._goes_on(job, error):
                    self._is_off = True
                    return
        try:
            self._tracker.close()
        except Exception as error:
            self._tracker.warn(f"{self._tracker.title} could not be closed: {first_line(error)}")

    def _goes_on(self, job: Callable[[], None], error: Exception) -> bool:
        """After a failure: whether there is another way, which has been told of the trials that run, and of the job."""
        told = self._tracker.step_down(error)
        if told:
            self._tracker.warn(told)
            try:
                for trial_id, trial in list(self._open.items()):
                    if not self._begins(trial):
                        del self._open[trial_id]
                job()
                return True
            except Exception as again:
                error = again
        self._tracker.warn(
            f"{self._tracker.title} is off for the rest of this sweep: {first_line(error)}; {self._later}"
        )
        return False

    def _follow(self, event: Event) -> None:
        trial_id = event["trial_id"]
        if event["event"] == "suggested":
            if self._begins(event):
                self._open[trial_id] = event
        elif event["event"] == "result":
            if trial_id in self._open:
                self._tracker.log(trial_id, event)
            self._results.setdefault(trial_id, []).append(event)
        elif trial_id in self._open:
            self._tracker.end(event)
            del self._open[trial_id]

    def _begins(self, trial: Event) -> bool:
        """Begins a trial, with the epochs of the one that it continues and those that it has; unless it is there."""
        trial_id = trial["trial_id"]
        if not self._tracker.begin(trial):
            return False
        for one in (trial.get("parent") or "", trial_id):
            for result in self._results.get(one, []):
                self._tracker.log(trial_id, result)
        return True


class Followers:
    """All trackers of a sweep.

    Args:
        sweep: What is followed.
        places: Of each tracker, by its name among `TRACKERS`.
        warn: Called from other threads, once for each tracker that fails.
    """

    def __init__(self, sweep: TrackedSweep, places: Mapping[str, str], *, warn: Warn) -> None:
        self._all = [
            Follower(TRACKERS.get(name)(sweep, place, warn=warn), later=_command(sweep, name, place))
            for name, place in places.items()
        ]

    def on_event(self, event: Event) -> None:
        """Follows the journal; returns at once."""
        for one in self._all:
            one.on_event(event)

    def report(self, folder: Path) -> None:
        """Shows a report, too; returns at once.

        Args:
            folder: Of its page and tables.
        """
        for one in self._all:
            one.report(folder)

    def close(self, timeout: float = FLUSH_SECONDS) -> bool:
        """Writes what it can within `timeout` seconds, together; returns whether all was written."""
        for one in self._all:
            one.end()
        deadline = time.monotonic() + timeout
        return all([one.wait(deadline - time.monotonic()) for one in self._all])


def _command(sweep: TrackedSweep, name: str, place: str) -> str:
    """The command that tells a tracker everything, once the sweep has ended."""
    flag = ("--wandb", place) if name == OF_ITS_OWN else ("--track", f"{name}={place}" if place else name)
    return commands.tracking(sweep.run_dir, *flag)
