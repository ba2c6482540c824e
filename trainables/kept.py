"""Files of the cache folder, which several users may share: used only where nobody else could have written them.

Whoever can write a file there could put other pixels, features or answers into it, or have a plugin of theirs run. So
a file must belong to this user or to root, and be writable by nobody else; a file that is not is told, left alone, and
what it holds is made again.
"""

from __future__ import annotations

import grp
import logging
import os
import pwd
import stat
from functools import lru_cache
from pathlib import Path

_log = logging.getLogger("segsweep.cache")
_told: set[Path] = set()


class ForeignFileError(OSError):
    """A file of the cache folder could have been written by another user."""


def read_kept(path: Path) -> bytes:
    """The content of a file of the cache folder.

    Raises:
        ForeignFileError: If another user could have written it; it is told once for each folder.
        OSError: If it cannot be read.
    """
    with os.fdopen(open_kept(path), "rb") as file:
        return file.read()


def open_kept(path: Path) -> int:
    """A descriptor of a file of the cache folder, for reading.

    Raises:
        ForeignFileError: As `read_kept`.
        OSError: If it cannot be read.
    """
    # Without waiting: somebody may have put a pipe there.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    fault = foreign(os.fstat(descriptor))
    if not fault:
        return descriptor
    os.close(descriptor)
    tell_foreign(path, fault)
    raise ForeignFileError(f"{path} {fault}")


def foreign(status: os.stat_result) -> str:
    """Why a file could have been written by another user; empty where it could not."""
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file"
    if status.st_uid not in (os.geteuid(), 0):
        return f"belongs to {_user(status.st_uid)}"
    if status.st_mode & stat.S_IWOTH:
        return "can be written by everybody"
    if status.st_mode & stat.S_IWGRP and not _is_private(status.st_gid):
        return "can be written by its group"
    return ""


def tell_foreign(path: Path, fault: str) -> None:
    """Warns of such a file, once for each folder."""
    if path.parent not in _told:
        _told.add(path.parent)
        _log.warning(
            "%s %s: another user could have changed it, so it is not used and what it holds is made again; set "
            "SEGSWEEP_CACHE to a folder of your own",
            path,
            fault,
        )


@lru_cache
def _is_private(group: int) -> bool:
    """Whether a group is this user's own, as many systems give everybody one, with nobody else in it."""
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
        found = grp.getgrgid(group)
    except KeyError:
        return False
    return found.gr_name == name and set(found.gr_mem) <= {name}


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
