"""Data sets as others publish them: where one lies below a data root, and fetching it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from trainables.data.reading.files import read_lines, require_root
from trainables.data.reading.names import expanded
from trainables.errors import DataError


@dataclass(frozen=True)
class Published:
    """A data set in the folders that its archives unpack to.

    Attributes:
        name: In the registry.
        title: What messages call it.
        folder: Its folder, from where the archives are unpacked: `VOCdevkit/VOC2012`.
        holds: What is in that folder, for messages.
        listed: A file that is there if the data set is, from that folder; its lines begin with ids.
        ids: What its ids look like, as a regular expression.
        files: The files of an id, from that folder, with `{}` in place of it.
        fetch: Downloads and unpacks it into a folder; raises OSError or RuntimeError if it cannot.
        by_hand: The rest of "or fetch ...": which archives, and where to unpack them.
    """

    name: str
    title: str
    folder: str
    holds: str
    listed: str
    ids: str
    files: tuple[str, ...]
    fetch: Callable[[str], object]
    by_hand: str

    def locate(self, root: Path | None, *, download: bool) -> Path:
        """The data set's own folder.

        Args:
            root: That folder, one of those above it in `folder`, or where the archives were unpacked.
            download: Fetch it where it is not there yet.

        Raises:
            DataError: If it is not there, or cannot be downloaded.
        """
        top = Path(self.folder).parts[0]
        if download and root is not None and self.find(root) is None:
            whole = expanded(root)
            into = next((place.parent for place in (whole, *whole.parents) if place.name == top), whole)
            with downloading(self.title, into, self.by_hand):
                self.fetch(str(into.absolute()))
        layout, cure = f"{self.folder}/{self.holds}", f"give --data-root the folder that holds {top}, or add --download"
        root = require_root(root, self.name, layout, cure)
        found = self.find(root)
        if found is None:
            raise DataError(f"data root {root} holds no {self.title} ({layout}, among them {self.listed}); {cure}")
        return found

    def recognises(self, root: Path) -> bool:
        """Whether a data root holds it, rather than images of somebody's own in the same folders."""
        place = self.find(root)
        if place is None:
            return False
        try:
            first = read_lines(place / self.listed)[0].split()[0]
        except DataError:
            return False
        there = all((place / name.format(first)).is_file() for name in self.files)
        return there and re.fullmatch(self.ids, first) is not None

    def find(self, root: Path) -> Path | None:
        """Its own folder below a data root; None if it is not there."""
        parts = Path(self.folder).parts
        places = (expanded(root).joinpath(*parts[skipped:]) for skipped in range(len(parts), -1, -1))
        return next((place for place in places if (place / self.listed).is_file()), None)


@contextlib.contextmanager
def downloading(title: str, into: Path, by_hand: str) -> Iterator[None]:
    """Says what to fetch by hand where a downloader fails.

    Raises:
        DataError: For an OSError or a RuntimeError.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{title} could not be downloaded into {into} ({error}); check the network, or fetch {by_hand}"
        ) from None
