"""A report in the making: written into a hidden folder, and moved to its place when it is whole."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from trainables.files import write_json
from trainables.paths import LIST_FILE, UnsafePathError, WrittenFiles, within
from trainables.words import some_of

PREFIX, SUFFIX = ".unfinished-", ".tmp"


class Draft:
    """A folder beside the report that is there already; that one stays until this one is published.

    Publishing removes the earlier page first and puts the new one there last. Whoever kills it in between leaves no
    page, and never files of two reports: what is there is listed as ours, and the next report replaces it. Other files
    in the place stay.

    Args:
        place: Folder of the report.
        page: Name of the file that says there is a report.
        before: Files that a version without a list wrote, relative to the place.
        listing: Folders in the place that have a list of their own, and what a version without one wrote there.
    """

    def __init__(self, place: Path, *, page: str, before: Iterable[str], listing: dict[str, list[str]]) -> None:
        self.place = place
        self._page = page
        self._own = WrittenFiles(place.parent, place.name, before=before)
        self._listing = {name: WrittenFiles(place, name, before=files) for name, files in listing.items()}

    def __enter__(self) -> Draft:
        self.place.mkdir(parents=True, exist_ok=True)
        for left in self.place.glob(f"{PREFIX}*{SUFFIX}"):
            with _lock(left) as is_free:
                if is_free:  # of a report that was killed
                    shutil.rmtree(left, ignore_errors=True)
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, suffix=SUFFIX, dir=self.place))
        self._held = contextlib.ExitStack()
        self._held.enter_context(_lock(self.folder))
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self._held.close()

    def publish(self, *, outdated: Iterable[str] = ()) -> None:
        """Replaces the report in the place.

        Args:
            outdated: Folders with a list of their own that go even where the draft has none of that name.

        Raises:
            UnsafePathError: If something else is in the way, or a part of a path is a link; then nothing has changed.
            OSError: If the place cannot be written.
        """
        new = [path.relative_to(self.folder).parts for path in sorted(self.folder.rglob("*")) if path.is_file()]
        own = ["/".join(names) for names in new if names[0] not in self._listing]
        replaced = [name for name in self._listing if name in outdated or (self.folder / name).is_dir()]
        with _lock(self.place, wait=True):
            self._refuse_what_is_in_the_way(new)
            old = [within(self.place, *name.split("/")[:-1]) / name.split("/")[-1] for name in self._own.listed()]
            old = [path for path in old if path.is_symlink() or path.is_file()]
            write_json(self.place / LIST_FILE, sorted({*own, *self._own.listed()}), indent=0)
            (self.place / self._page).unlink(missing_ok=True)
            for path in old:
                path.unlink(missing_ok=True)
            for name in replaced:
                self._listing[name].clear()
            _move(self.folder, self.place, last=self._page)
            write_json(self.place / LIST_FILE, sorted(own), indent=0)

    def _refuse_what_is_in_the_way(self, new: Iterable[tuple[str, ...]]) -> None:
        """Ours is what has one of our names and is a file, or a link, which is replaced and not followed."""
        found: list[Path] = []
        for names in new:
            folder = self.place
            for name in names[:-1]:
                folder = within(folder, name)
                found += [folder] if os.path.lexists(folder) and not folder.is_dir() else []
            path = folder / names[-1]
            found += [path] if path.is_dir() and not path.is_symlink() else []
        if found:
            told = some_of([str(path) for path in dict.fromkeys(found)], 3)
            raise UnsafePathError(
                f"{told}: in the way of the report, and not written by it; move it away and try again"
            )


def _move(source: Path, target: Path, *, last: str = "") -> None:
    """Moves what is in a folder; lists come before the files that they list, for their names begin with a dot."""
    for entry in sorted(source.iterdir(), key=lambda path: (path.name == last, path.name)):
        there = target / entry.name
        if entry.is_dir() and there.is_dir():
            _move(entry, there)
        else:
            os.replace(entry, there)


@contextlib.contextmanager
def _lock(folder: Path, *, wait: bool = False) -> Iterator[bool]:
    """Holds the lock of a folder, which ends with its holder; gives whether it is held."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # gone in the meantime
        yield False
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(handle)
