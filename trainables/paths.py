"""Names that become paths, and what may be removed: the one rule that every command follows.

Only what this project wrote itself is removed or replaced, which it knows from a list: the names of the files that a
folder of ours consists of (`best/LABEL`, a checkpoint), or the list that `WrittenFiles` keeps beside what it wrote.
A name that comes from a file (a label in a journal, a trial id in somebody's `trial.json`) is checked before it becomes
part of a path, and symbolic links inside a run folder are refused, since they may lead out of it.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from trainables.errors import DataError
from trainables.files import write_json

LIST_FILE = ".segsweep-files.json"
"""Names of the files that a command wrote into a folder, so that the next one removes those and nothing else."""

LONGEST_NAME = 200
"""Bytes of a name in UTF-8; file systems allow 255, and temporary files add to it."""


class UnsafePathError(DataError):
    """A name cannot be a file's, or a path leads out of the folder that it belongs to."""


def check_name(name: object, what: str) -> str:
    """Returns a name that is safe as one part of a path.

    Args:
        name: From a file or a command line.
        what: What it is and where it was read, for the message: "the label of trial t003 in runs/x/journal.jsonl".

    Raises:
        UnsafePathError: If it is not text, is empty or too long, begins with a dot, or holds a slash, a backslash, a
            colon or a control character.
    """
    fault = _name_fault(name)
    if fault:
        raise UnsafePathError(f"{what} is {str(name)[:80]!r}, which {fault}: it would become the name of a folder")
    return str(name)


def _name_fault(name: object) -> str:
    if not isinstance(name, str) or not name:
        return "is no text"
    if name.startswith("."):
        return "begins with a dot"
    if any(mark in name for mark in "/\\:") or not name.isprintable():
        return "holds a slash, a backslash, a colon or a control character"
    return "is too long" if len(name.encode()) > LONGEST_NAME else ""


def within(root: Path, *names: str) -> Path:
    """The path `root/names...`, where every part below `root` that is there is a folder or a file itself.

    Raises:
        UnsafePathError: If a name is not safe (`check_name`), or a part of the path is a symbolic link or a pipe.
    """
    path = root
    for name in names:
        path = path / check_name(name, f"a name below {root}")
        if fault := _entry_fault(path):
            raise UnsafePathError(fault)
    return path


def refuse_links(folder: Path, *, but_not_below: Collection[str] = ()) -> None:
    """Refuses a folder that holds symbolic links, wherever they lead, or pipes; the folder itself may be a link.

    Args:
        folder: Such as a run's; a missing one holds none.
        but_not_below: Names of subfolders whose content is not looked at, since other programs keep links there (W&B).

    Raises:
        UnsafePathError: Naming them.
    """
    faults: list[str] = []
    for parent, folders, files in os.walk(folder, followlinks=False):
        here = Path(parent)
        faults += filter(None, (_entry_fault(here / name) for name in (*folders, *files)))
        if here == folder:
            folders[:] = [name for name in folders if name not in but_not_below]
    if faults:
        more = f"\nand {len(faults) - 3} more" if len(faults) > 3 else ""
        raise UnsafePathError("\n".join(sorted(faults)[:3]) + more)


def _entry_fault(path: Path) -> str:
    """Why a path is neither a file nor a folder itself; empty where it is one, or is not there."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return ""
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return ""
    what = f"symbolic link (to {os.readlink(path)})" if stat.S_ISLNK(mode) else "pipe, a socket or a device"
    return f"{path} is a {what}; nothing is read, written or removed through it: put the file or folder itself there"


def consists_of(folder: Path, names: Collection[str] | Callable[[str], bool]) -> bool:
    """Whether a folder holds regular files of these names and nothing else; a link or a missing folder does not.

    Args:
        folder: Perhaps one that this project wrote.
        names: The names of the files, or whether a name is among them.
    """
    known = names if callable(names) else names.__contains__
    if folder.is_symlink() or not folder.is_dir():
        return False
    return all(entry.is_file(follow_symlinks=False) and known(entry.name) for entry in os.scandir(folder))


def remove_own(folder: Path, names: Collection[str] | Callable[[str], bool]) -> bool:
    """Removes a folder if it consists of files that this project wrote; says whether it is gone.

    Args:
        folder: To be removed.
        names: As of `consists_of`.
    """
    if consists_of(folder, names):
        shutil.rmtree(folder, ignore_errors=True)
    return not os.path.lexists(folder)


class WrittenFiles:
    """The files that a command writes into a folder, listed there; starting again removes those of the last time.

    Other files there stay, and so do the folders that hold them.

    Args:
        root: A run's report or the like; the folder lies below it.
        name: Of the folder.
        before: Paths relative to the folder that a version without lists wrote there; used where there is no list.
    """

    def __init__(self, root: Path, name: str, *, before: Iterable[str] = ()) -> None:
        self.folder = within(root, name)
        self._before = before
        self._written: list[str] = []

    def listed(self) -> list[str]:
        """What the last command wrote there, relative to the folder."""
        try:
            listed = json.loads((self.folder / LIST_FILE).read_bytes())
        except FileNotFoundError:
            listed = list(self._before)
        except (OSError, ValueError):
            listed = []
        return list(map(str, listed)) if isinstance(listed, list) else []

    def in_the_way(self, names: Iterable[tuple[str, ...]]) -> list[Path]:
        """What would stand, after `clear`, in the place of some files: files that are not listed.

        Args:
            names: Of the files, relative to the folder.

        Raises:
            UnsafePathError: If a part of a path is a link.
        """
        listed, found = set(self.listed()), list[Path]()
        for name in names:
            path = within(self.folder, *name)
            parents = list(path.parents)[: len(name)]
            found += [one for one in parents if os.path.lexists(one) and not one.is_dir()]
            found += [path] if os.path.lexists(path) and "/".join(name) not in listed else []
        return list(dict.fromkeys(found))

    def clear(self) -> None:
        """Removes what is listed, and the folders that are empty afterwards.

        Raises:
            UnsafePathError: If the list names what lies outside, or behind a link.
        """
        for entry in self.listed():
            path = within(self.folder, *entry.split("/"))
            path.unlink(missing_ok=True)
            for parent in list(path.parents)[: entry.count("/")]:
                if parent.is_dir() and not any(parent.iterdir()):
                    parent.rmdir()
        (self.folder / LIST_FILE).unlink(missing_ok=True)

    def path(self, *names: str) -> Path:
        """Where to write the file `names...`; its folder is there."""
        path = within(self.folder, *names)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._written.append("/".join(names))
        return path

    def close(self) -> None:
        """Writes the list."""
        if self._written:
            write_json(self.folder / LIST_FILE, sorted(self._written), indent=0)
