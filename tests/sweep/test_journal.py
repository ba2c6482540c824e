"""The journal: sealed, durable before anybody sees it, torn only at its end."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from sweep.journal import Event, Journal
from trainables.errors import DataError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of five events."""
    file = tmp_path / "run" / "journal.jsonl"
    with Journal(file) as journal:
        for number in range(5):
            journal.append("result", trial_id=f"t{number:03d}", epoch=number, metrics={"val/miou": number / 7})
    return file


def test_events_come_back_as_they_were_written(path: Path) -> None:
    with Journal(path) as journal:
        assert [event["seq"] for event in journal.events] == list(range(5))
        assert [event["metrics"]["val/miou"] for event in journal.of("result")] == [number / 7 for number in range(5)]
        assert journal.of("ended") == []
        new = journal.append(
            "ended", trial_id="t000", reason='a "quoted", {braced} "seal":"x" reason\nof two lines – ü'
        )
    with Journal(path) as journal:
        assert journal.events[-1] == new
    assert len(path.read_text().splitlines()) == 6


def test_every_line_is_one_json_object(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        assert {"seq", "time", "event", "seal"} <= set(event)


@pytest.mark.parametrize("left", [1, 20, -1])
def test_torn_last_line_is_dropped_and_appended_after(path: Path, left: int) -> None:
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(whole[:4]) + whole[4][:left])
    with Journal(path) as journal:
        assert len(journal.events) == 4
        journal.append("result", trial_id="t009")
    with Journal(path) as journal:
        assert [event["seq"] for event in journal.events] == list(range(5))
        assert journal.events[-1]["trial_id"] == "t009"


@pytest.mark.parametrize(
    ("line", "change"),
    [
        (1, lambda lines: lines[0].replace(b'"epoch":0', b'"epoch":9')),
        (3, lambda lines: lines[2].replace(b'"val/miou":0.28', b'"val/miou":0.38')),
        (5, lambda lines: lines[4].replace(b'"t004"', b'"t044"')),
        (2, lambda lines: b"not json\n"),
        (4, lambda lines: b"\n"),
        (3, lambda lines: b"[1, 2]\n"),
        (3, lambda lines: b'"text"\n'),
        (2, lambda lines: lines[1][:30] + b"\n"),
        (5, lambda lines: lines[4][:30] + b"\n"),
        (2, lambda lines: b"\xff\xfe\n"),
    ],
)
def test_altered_line_is_refused_with_its_number(path: Path, line: int, change: Any) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    changed = change(lines)
    assert changed != lines[line - 1]
    lines[line - 1] = changed
    path.write_bytes(b"".join(lines))
    before = path.read_bytes()
    with pytest.raises(DataError, match=rf"journal\.jsonl: line {line} ") as error:
        Journal(path)
    assert f"keep the {line - 1} lines before it" in str(error.value)
    assert path.read_bytes() == before, "evidence stays as it is"


@pytest.mark.parametrize(
    ("order", "line"),
    [([0, 2, 3, 4], 2), ([0, 2, 1, 3, 4], 2), ([0, 1, 1, 2, 3, 4], 3), ([1, 2, 3, 4], 1), ([0, 1, 2, 4, 3], 4)],
)
def test_missing_swapped_and_repeated_lines_are_refused(path: Path, order: list[int], line: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[index] for index in order))
    with pytest.raises(DataError, match=f"line {line} "):
        Journal(path)


def test_line_of_another_journal_is_refused(path: Path, tmp_path: Path) -> None:
    with Journal(tmp_path / "other.jsonl") as other:
        for _ in range(5):
            other.append("result", trial_id="x")
    lines = path.read_bytes().splitlines(keepends=True)
    lines[4] = (tmp_path / "other.jsonl").read_bytes().splitlines(keepends=True)[4]
    path.write_bytes(b"".join(lines))
    with pytest.raises(DataError, match="line 5 does not match its seal"):
        Journal(path)


def test_numbers_that_json_does_not_have_are_refused_and_leave_no_trace(path: Path) -> None:
    with Journal(path) as journal:
        before = path.read_bytes()
        for value in (float("nan"), float("inf")):
            with pytest.raises(ValueError, match=r"(?i)out of range float|nan|inf"):
                journal.append("result", metrics={"val/miou": value})
        assert path.read_bytes() == before
        assert len(journal.events) == 5
        journal.append("ended")
    assert len(Journal(path).events) == 6


def test_followers_hear_the_past_and_then_every_event_in_order(path: Path) -> None:
    heard: list[int] = []
    late: list[int] = []
    with Journal(path) as journal:
        journal.follow(lambda event: heard.append(event["seq"]))
        journal.append("a")
        journal.follow(lambda event: late.append(event["seq"]), replay=False)
        journal.append("b")
    assert heard == list(range(7))
    assert late == [6]


def test_an_event_is_on_the_disk_before_followers_see_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    real = os.fsync

    def spied(descriptor: int) -> None:
        real(descriptor)
        order.append("fsync")

    monkeypatch.setattr(os, "fsync", spied)

    def follower(event: Event) -> None:
        order.append("follower")
        assert f'"seal":"{event["seal"]}"' in path.read_text()

    with Journal(path) as journal:
        journal.follow(follower, replay=False)
        journal.append("a")
        journal.append("b")
    assert order == ["fsync", "follower", "fsync", "follower"]


def test_event_that_could_not_be_synced_reaches_nobody_and_the_next_one_is_sound(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    with Journal(path) as journal:
        journal.follow(lambda event: heard.append(event["event"]), replay=False)

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            journal.append("lost")
        assert heard == []
        monkeypatch.undo()
        journal.append("kept")
    with Journal(path) as again:
        assert [event["event"] for event in again.events[5:]] == ["kept"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("together", [False, True])
def test_signal_while_an_event_is_written_does_not_part_the_file_from_what_follows(
    path: Path, number: signal.Signals, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*signalled: Any) -> None:
        raise KeyboardInterrupt

    whole = os.fsync
    seen: list[str] = []
    before = signal.signal(number, interrupt)
    try:
        with Journal(path) as journal:
            journal.follow(lambda event: seen.append(event["event"]), replay=False)
            monkeypatch.setattr(os, "fsync", lambda file: (whole(file), os.kill(os.getpid(), number))[0])
            with pytest.raises(KeyboardInterrupt):
                if together:
                    with journal.together():
                        journal.append("first")
                else:
                    journal.append("first")
            assert signal.getsignal(number) is interrupt
            monkeypatch.setattr(os, "fsync", whole)
            journal.append("interrupted")
    finally:
        signal.signal(number, before)
    with Journal(path) as journal:
        assert [event["event"] for event in journal.events[5:]] == seen == ["first", "interrupted"]


def test_empty_file_is_an_empty_journal(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").touch()
    with Journal(tmp_path / "journal.jsonl") as journal:
        assert journal.events == []


def test_events_that_arise_together_are_shown_when_they_are_durable(path: Path) -> None:
    with Journal(path) as journal:
        shown: list[str] = []
        decided: list[str] = []
        journal.follow(lambda event: shown.append(event["event"]), replay=False)
        journal.follow(lambda event: decided.append(event["event"]), replay=False, decides=True)
        before = path.read_bytes()
        with journal.together():
            journal.append("result", trial_id="t009")
            with journal.together():
                journal.append("ended", trial_id="t009")
            assert path.read_bytes() == before
            assert (shown, decided) == ([], ["result", "ended"])
        assert shown == decided
        events = list(journal.events)
    with Journal(path) as journal:
        assert journal.events == events


def test_events_that_cannot_be_made_durable_together_are_not_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    before = path.read_bytes()
    with Journal(path) as journal:
        events, shown = list(journal.events), []
        journal.follow(shown.append, replay=False)
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space"), journal.together():
                journal.append("result", trial_id="t009")
                journal.append("ended", trial_id="t009")
        assert (journal.events, journal.of("ended"), shown) == (events, [], [])
        assert path.read_bytes() == before
        journal.append("ended", trial_id="t008")
    with Journal(path) as journal:
        assert journal.events[-1]["trial_id"] == "t008"


def test_exception_among_events_that_arise_together_loses_none_of_them(path: Path) -> None:
    with Journal(path) as journal, pytest.raises(RuntimeError, match="in between"), journal.together():
        journal.append("result", trial_id="t009")
        raise RuntimeError("in between")
    with Journal(path) as journal:
        assert journal.events[-1]["trial_id"] == "t009"
