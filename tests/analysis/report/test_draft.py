"""A report is written whole or not at all: whenever it is killed, there is the former one or none."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from analysis.report.draft import Draft
from trainables.files import write_json
from trainables.paths import LIST_FILE, UnsafePathError

OLD = {"report.html": "old", "tables/a.csv": "old", "tables/gone.csv": "old", "failures/best/x.png": "old"}
NEW = {"report.html": "new", "tables/a.csv": "new", "figures/b.svg": "new", "failures/best/y.png": "new"}
MINE = {"notes.txt": "mine", "failures/best/mine.png": "mine", "tables/mine.csv": "mine"}


def draft_of(place: Path) -> Draft:
    return Draft(place, page="report.html", before=["report.html", "tables/a.csv"], listing={"failures": []})


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def publish(place: Path, files: dict[str, str]) -> None:
    with draft_of(place) as draft:
        write(draft.folder, files)
        pictures = [name.removeprefix("failures/") for name in files if name.startswith("failures/")]
        write_json(draft.folder / "failures" / LIST_FILE, pictures)
        draft.publish()


def found(place: Path) -> dict[str, str]:
    files = (path for path in place.rglob("*") if path.is_file() and path.name != LIST_FILE)
    return {path.relative_to(place).as_posix(): path.read_text() for path in files}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    publish(tmp_path / "report", OLD)
    write(tmp_path / "report", MINE)
    return tmp_path / "report"


def test_a_report_replaces_the_former_and_leaves_the_files_of_others(place: Path) -> None:
    publish(place, NEW)
    assert found(place) == NEW | MINE


@pytest.mark.parametrize("changes", ["os.replace", "pathlib.Path.unlink"])
def test_at_whatever_step_it_is_killed_there_is_one_report_or_none(place: Path, monkeypatch, changes: str) -> None:
    for step in range(100):
        original, left = os.replace if changes == "os.replace" else Path.unlink, [step]

        def killed(*arguments, original=original, left=left, **options):
            left[0] -= 1
            if left[0] == -1:
                raise KeyboardInterrupt
            return original(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(changes, killed)
            with contextlib.suppress(KeyboardInterrupt):
                publish(place, NEW)
        seen = found(place)
        assert seen.items() >= MINE.items()
        own = {name: text for name, text in seen.items() if name not in MINE}
        assert own in (OLD, NEW) or "report.html" not in own
        assert len(set(own.values())) <= 1, "never files of two reports"
        was_whole = left[0] >= 0
        publish(place, OLD)
        assert found(place) == OLD | MINE, "the next one clears up"
        if was_whole:
            break
    assert step > 4


def test_what_fails_before_it_is_whole_changes_nothing(place: Path) -> None:
    with pytest.raises(RuntimeError), draft_of(place) as draft:
        write(draft.folder, NEW)
        raise RuntimeError
    assert found(place) == OLD | MINE


def test_leftovers_of_a_killed_process_go_and_those_of_a_running_one_stay(place: Path) -> None:
    child = os.fork()
    if child == 0:
        write(draft_of(place).__enter__().folder, NEW)
        os._exit(9)
    os.waitpid(child, 0)
    (left,) = place.glob(".unfinished-*")
    with draft_of(place) as running:
        assert not left.exists()
        with draft_of(place) as other:
            assert running.folder.is_dir() and other.folder.is_dir()
    assert found(place) == OLD | MINE


@pytest.mark.parametrize("name", ["report.html/mine.txt", "tables", "figures"])
def test_what_is_in_the_way_is_told_and_the_former_report_stays(place: Path, name: str) -> None:
    path = place / name
    if name == "tables":
        path.rename(place / "elsewhere")
    elif path.parent.is_file():
        path.parent.unlink()
    write(place, {name: "mine"})
    before = found(place)
    with pytest.raises(UnsafePathError, match=f"{name.split('/')[0]}: in the way of the report"):
        publish(place, NEW)
    assert found(place) == before


def test_links_are_replaced_where_they_are_files_and_refused_where_they_are_folders(place: Path, tmp_path) -> None:
    write(tmp_path / "away", {"a.csv": "mine"})
    (place / "tables" / "a.csv").unlink()
    (place / "tables" / "a.csv").symlink_to(tmp_path / "away" / "a.csv")
    publish(place, NEW)
    assert not (place / "tables" / "a.csv").is_symlink() and (tmp_path / "away" / "a.csv").read_text() == "mine"
    (place / "figures").rename(tmp_path / "figures")
    (place / "figures").symlink_to(tmp_path / "away")
    with pytest.raises(UnsafePathError, match="symbolic link"):
        publish(place, NEW)
    assert found(tmp_path / "away") == {"a.csv": "mine"}
