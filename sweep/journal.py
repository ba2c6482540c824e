"""The append-only truth of a run: one JSON object per line, each sealed by a hash over all lines before it.

Everything else that a run folder says about its trials is a view of this file. Only the driver writes it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from trainables.errors import DataError
from trainables.guarded import holding_signals
from trainables.limits import check_file
from trainables.redact import redacted_content

JOURNAL_FILE = "journal.jsonl"
OF_TRIALS = ("suggested", "result", "decision", "ended")
"""Kinds of which every trial has events: followers keep what they need of them, the journal only their lines."""
Event = dict[str, Any]


class Journal:
    """Appends events and passes them to its followers.

    An event is durable (fsynced) when `append` returns, and only then do followers see it, so that a view never holds
    what the journal does not. Events that arise `together` are durable when that ends: one fsync for all.
    Opening an existing journal verifies it and drops a torn last line: the event was never
    acknowledged.

    Attributes:
        path: The file.
        others: The events that are not `OF_TRIALS`, in order. All others are read from the file when they are asked
            for: those of thousands of trials would be most of what a driver holds in memory.

    Args:
        path: The file; made with its first event.

    Raises:
        DataError: If a line that is not the last is damaged, missing or out of order, or if another process has the
            journal open: two drivers of one sweep would spoil both.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.others: list[Event] = []
        self._count = 0
        self._followers: list[tuple[Callable[[Event], None], bool]] = []
        self._together: list[Event] | None = None
        self._lines = b""
        self._end = 0
        self._seal = ""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = path.open("ab", buffering=0)
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._stream.close()
            raise DataError(f"{path} is in use: this sweep is running already; wait for it or end it first") from error
        try:
            for event, end in _verified(path):
                self._enter(event)
                self._end = end
        except DataError:
            self._stream.close()
            raise
        if path.stat().st_size > self._end:
            self._stream.truncate(self._end)

    def follow(self, follower: Callable[[Event], None], *, replay: bool = True, decides: bool = False) -> None:
        """Calls a function for every event.

        Args:
            follower: Called with each event.
            replay: Whether it is shown the events that are there already, too.
            decides: Whether the events that follow depend on it: it is shown those that arise `together` one by one,
                before they are durable, and must do nothing but remember them.
        """
        if replay:
            for event in self.read():
                follower(event)
        self._followers.append((follower, decides))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Makes the events that are appended in the body durable at its end, with one fsync.

        If one cannot be appended, those before it are made durable all the same; the exception goes on.

        Raises:
            OSError: If they cannot be made durable; the file is then as before, and followers that decide have seen
                events that it does not hold: the process must not go on.
        """
        if self._together is not None:
            yield
            return
        self._together = []
        before = self._count, len(self.others), self._seal
        try:
            yield
        finally:
            with holding_signals():
                events, lines = self._together, self._lines
                self._together, self._lines = None, b""
                if events:
                    try:
                        self._write(lines)
                    except OSError:
                        self._count, kept, self._seal = before
                        del self.others[kept:]
                        raise
                    for event in events:
                        self._show(event, deciding=False)

    def append(self, event: str, **fields: Any) -> Event:
        """Writes one event durably.

        Args:
            event: What happened.
            **fields: JSON primitives, lists and dicts; NaN is refused. Secrets in texts are hidden, but not in a
                `config`: one with a secret was refused before.

        Returns:
            The event with its number, time and seal.

        Raises:
            OSError: If it cannot be made durable; the file is then as before.
        """
        fields = {key: value if key == "config" else redacted_content(value) for key, value in fields.items()}
        body = {"seq": self._count, "time": _now(), "event": event, **fields}
        text = json.dumps(body, allow_nan=False, separators=(",", ":"))
        with holding_signals():  # an event on the disk that the next one does not follow would be damage
            return self._append(text)

    def _append(self, text: str) -> Event:
        line = f'{text[:-1]},"seal":"{_seal(self._seal, text)}"}}\n'
        entry: Event = json.loads(line)
        if self._together is None:
            self._write(line.encode())
        self._enter(entry)
        if self._together is None:
            self._show(entry, deciding=True)
            self._show(entry, deciding=False)
        else:
            self._together.append(entry)
            self._lines += line.encode()
            self._show(entry, deciding=True)
        return entry

    def _show(self, event: Event, *, deciding: bool) -> None:
        for follower, decides in self._followers:
            if decides == deciding:
                follower(event)

    def _enter(self, event: Event) -> None:
        self._count += 1
        self._seal = event["seal"]
        if event["event"] not in OF_TRIALS:
            self.others.append(event)

    def read(self) -> Iterator[Event]:
        """All events in order, one by one from the file; to read thousands of them takes a fraction of a second."""
        for event, _ in _verified(self.path):
            yield event
        for line in self._lines.splitlines():
            yield json.loads(line)

    @property
    def events(self) -> list[Event]:
        """All events in order, from the file."""
        return list(self.read())

    def of(self, kind: str) -> list[Event]:
        """All events of a kind, in order."""
        return [event for event in (self.read() if kind in OF_TRIALS else self.others) if event["event"] == kind]

    def _write(self, line: bytes) -> None:
        try:
            left = memoryview(line)
            while left:
                left = left[self._stream.write(left) :]
            os.fsync(self._stream.fileno())
        except OSError:
            self._stream.truncate(self._end)  # the next event must not follow one that no follower saw
            raise
        self._end += len(line)

    def close(self) -> None:
        """Closes the file."""
        self._stream.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_events(path: Path) -> list[Event]:
    """The events of a journal that others may be writing, verified; without a file, none.

    Raises:
        DataError: If a line that is not the last is damaged, missing or out of order.
    """
    return [event for event, _ in _verified(path)] if path.is_file() else []


def _verified(path: Path) -> Iterator[tuple[Event, int]]:
    check_file(path, what="journal")
    seal, end = "", 0
    with path.open("rb") as lines:
        for number, raw in enumerate(lines):
            if not raw.endswith(b"\n"):
                return  # torn, and the last
            fault = None
            event: Event = {}
            try:
                event = json.loads(raw)
                text = raw.decode().rstrip("\n")
                body = text[: text.rindex(',"seal":"')] + "}"
                if event["seal"] != _seal(seal, body):
                    fault = "does not match its seal"
                elif event["seq"] != number:
                    fault = "is out of order"
            except (ValueError, KeyError, TypeError, RecursionError):
                fault = "is no event"
            if fault:
                raise DataError(
                    f"{path}: line {number + 1} {fault}; the journal was altered or its disk is failing\n"
                    f"restore the file from a backup, or keep the {number} lines before it and resume from there"
                )
            seal = event["seal"]
            end += len(raw)
            yield event, end


def _seal(previous: str, text: str) -> str:
    return hashlib.sha256((previous + text).encode()).hexdigest()[:16]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
