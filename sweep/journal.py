"""The append-only truth of a run: one JSON object per line, each sealed by a hash over all lines before it.

Everything else that a run folder says about its trials is a view of this file. Only the driver writes it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
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
SHARED = 16
"""Texts below this length are kept in memory once: names of labels and choices, not seals, times and reasons."""
Event = dict[str, Any]


class Journal:
    """Appends events and passes them to its followers.

    An event is durable (fsynced) when `append` returns, and only then do followers see it, so that a view never holds
    what the journal does not. Events that arise `together` are durable when that ends: one fsync for all.
    Opening an existing journal verifies it and drops a torn last line: the event was never
    acknowledged.

    Args:
        path: The file; made with its first event.

    Raises:
        DataError: If a line that is not the last is damaged, missing or out of order, or if another process has the
            journal open: two drivers of one sweep would spoil both.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events: list[Event] = []
        self._kinds: dict[str, list[Event]] = {}
        self._followers: list[tuple[Callable[[Event], None], bool]] = []
        self._together: list[Event] | None = None
        self._lines = b""
        self._seal = ""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = path.open("ab", buffering=0)
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._stream.close()
            raise DataError(f"{path} is in use: this sweep is running already; wait for it or end it first") from error
        good_bytes = 0
        try:
            for event, end in _verified(path):
                self._enter(_shared(event))
                self._seal = event["seal"]
                good_bytes = end
        except DataError:
            self._stream.close()
            raise
        self._end = good_bytes
        if path.stat().st_size > good_bytes:
            self._stream.truncate(good_bytes)

    def follow(self, follower: Callable[[Event], None], *, replay: bool = True, decides: bool = False) -> None:
        """Calls a function for every event.

        Args:
            follower: Called with each event.
            replay: Whether it is shown the events that are there already, too.
            decides: Whether the events that follow depend on it: it is shown those that arise `together` one by one,
                before they are durable, and must do nothing but remember them.
        """
        if replay:
            for event in self.events:
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
        try:
            yield
        finally:
            with holding_signals():
                events, lines = self._together, self._lines
                self._together, self._lines = None, b""
                if events:
                    self._keep(events, lines)

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
        body = {"seq": len(self.events), "time": _now(), "event": event, **fields}
        text = json.dumps(body, allow_nan=False, separators=(",", ":"))
        with holding_signals():  # an event on the disk that the next one does not follow would be damage
            return self._append(text)

    def _append(self, text: str) -> Event:
        seal = _seal(self._seal, text)
        line = f'{text[:-1]},"seal":"{seal}"}}\n'
        entry: Event = _shared(json.loads(line))
        if self._together is None:
            self._write(line.encode())
        self._seal = seal
        self._enter(entry)
        if self._together is None:
            self._show(entry, deciding=True)
            self._show(entry, deciding=False)
        else:
            self._together.append(entry)
            self._lines += line.encode()
            self._show(entry, deciding=True)
        return entry

    def _keep(self, events: list[Event], lines: bytes) -> None:
        try:
            self._write(lines)
        except OSError:
            for event in reversed(events):
                self.events.pop()
                self._kinds[event["event"]].pop()
            self._seal = self.events[-1]["seal"] if self.events else ""
            raise
        for event in events:
            self._show(event, deciding=False)

    def _show(self, event: Event, *, deciding: bool) -> None:
        for follower, decides in self._followers:
            if decides == deciding:
                follower(event)

    def _enter(self, event: Event) -> None:
        self.events.append(event)
        self._kinds.setdefault(event["event"], []).append(event)

    def of(self, kind: str) -> list[Event]:
        """All events of a kind, in order."""
        return list(self._kinds.get(kind, ()))

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
    lines = path.read_bytes().splitlines(keepends=True)
    for number, raw in enumerate(lines):
        fault = None
        event: Mapping[str, Any] = {}
        try:
            event = json.loads(raw)
            text = raw.decode().rstrip("\n")
            body = text[: text.rindex(',"seal":"')] + "}"
            if not raw.endswith(b"\n"):
                fault = "has no end"
            elif event["seal"] != _seal(seal, body):
                fault = "does not match its seal"
            elif event["seq"] != number:
                fault = "is out of order"
        except (ValueError, KeyError, TypeError, RecursionError):
            fault = "is no event"
        if fault and number == len(lines) - 1 and not raw.endswith(b"\n"):
            return
        if fault:
            raise DataError(
                f"{path}: line {number + 1} {fault}; the journal was altered or its disk is failing\n"
                f"restore the file from a backup, or keep the {number} lines before it and resume from there"
            )
        seal = event["seal"]
        end += len(raw)
        yield dict(event), end


def _seal(previous: str, text: str) -> str:
    return hashlib.sha256((previous + text).encode()).hexdigest()[:16]


def _shared(value: Any) -> Any:
    """The same JSON value; its names and short texts, which are alike in all events, are in memory once."""
    if isinstance(value, dict):
        return {sys.intern(key): _shared(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_shared(one) for one in value]
    return sys.intern(value) if isinstance(value, str) and len(value) < SHARED else value


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
