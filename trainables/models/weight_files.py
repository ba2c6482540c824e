"""How a file of weights is named in a configuration: by its place and its content. Known without torch."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from trainables.errors import WeightsError
from trainables.files import write_atomically
from trainables.models import FILE
from trainables.places import cache_root

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
"""Of files that hold weights."""
DIGITS = 12
"""Of the SHA-256 in the value of `model.weights`."""


def looks_like_file(text: str) -> bool:
    """Whether a word on the command line is the place of a file and no kind of weights."""
    return "/" in text or text.endswith(SUFFIXES) or Path(text).expanduser().is_file()


def digest(path: Path) -> str:
    """The SHA-256 (hex) of a file, computed once as long as neither size nor modification time change."""
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


@lru_cache
def _sha256(path: Path, size: int, modified_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def value_of(path: Path) -> str:
    """The value of `model.weights` for a file: its place, and the first digits of its SHA-256.

    Raises:
        WeightsError: If the file cannot be read.
    """
    place = path.expanduser().resolve()
    try:
        return f"{FILE}{place}@{digest(place)[:DIGITS]}"
    except OSError as error:
        raise WeightsError(f"--weights {path}: cannot be read ({error.strerror or error})") from error


def path_of(value: str) -> Path:
    """The file that a value of `model.weights` names, or the copy of it that was brought to this machine.

    Raises:
        WeightsError: If it is not there, or is not what it was.
    """
    place, _, promised = value.removeprefix(FILE).rpartition("@")
    path = Path(place)
    try:
        if (copy := _copy_of(value)).is_file() and not path.is_file():
            path = copy
        found = digest(path)[: len(promised)]
    except OSError as error:
        raise WeightsError(
            f"weights file {path} cannot be read ({error.strerror or error}); every machine that trains needs it there"
        ) from error
    if found != promised:
        raise WeightsError(
            f"weights file {path} is not the one that this run began with: its SHA-256 starts with {found}, not "
            f"{promised}; put that file back, or start another run"
        )
    return path


def keep_copy(value: str, content: bytes) -> None:
    """Keeps the content of a file of weights that this machine does not have at its place, in the cache folder.

    Raises:
        WeightsError: If it is not the content that the value promises, or cannot be written.
    """
    path, promised = _copy_of(value), value.rpartition("@")[2]
    if not hashlib.sha256(content).hexdigest().startswith(promised):
        raise WeightsError(f"the weights file {shown(value)} came torn to this machine; run the command again")
    try:
        write_atomically(path, content)
    except OSError as error:
        raise WeightsError(f"{path} cannot be written ({error.strerror or error}); free space there") from error


def _copy_of(value: str) -> Path:
    place, _, promised = value.removeprefix(FILE).rpartition("@")
    return cache_root() / "weights" / f"{promised}{Path(place).suffix}"


def shown(value: str) -> str:
    """A value of `model.weights` for readers: of a file its name and the first digits of its SHA-256, not its place."""
    if not value.startswith(FILE):
        return value
    place, _, promised = value.removeprefix(FILE).rpartition("@")
    return f"{Path(place).name} sha256:{promised}"
