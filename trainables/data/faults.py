"""Faults as people read them: those of one kind are one paragraph, with what to do about it.

The first few files are named; `write_all` keeps the list of all.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from trainables.data.base import Offender
from trainables.files import write_atomically
from trainables.places import cache_root
from trainables.words import counted, some_of

NAMED = 5
"""How many offenders of a kind are named."""
FILE = "check.json"

CURES: Mapping[str, str] = {
    "missing image": "add the image, or take the id out of the lists",
    "missing mask": "add the mask, or take the id out of the lists",
    "image without mask": "add the mask, or take the image out of the folder",
    "mask without image": "add the image, or take the mask out of the folder",
    "size mismatch": "make the mask again at the size of its image, or take both out of the folder",
    "ids outside the class list": "give these pixels the id of a class",
    "colours outside the class list": "paint these pixels in the colour of a class",
    "mask of nothing but void": "label something in it, or take its id out of val and test",
    "id in two splits": "leave the id in one of the lists",
    "identical images across splits": "take all but one of them out of the lists, or out of the folder",
}
"""What to do about each kind of error; the kinds that are not here say it themselves."""
_DESCRIBED: Mapping[str, str] = {
    "ids outside the class list": 'give each id a class in classes.json, or add it to "void" there',
    "colours outside the class list": "give each colour a class in classes.json, or paint these pixels in one that has",
}
"""The same where users say what the classes are."""
_THINGS: Mapping[str, str] = {
    "class absent from a split": "time",
    "rare class": "time",
    "empty split": "split",
    "group in two splits": "group",
    "mask without image": "mask",
    "unreadable mask": "mask",
}
"""What is counted where it is not images."""


@dataclass(frozen=True)
class Paragraph:
    """The faults of one kind.

    Attributes:
        kind: Theirs.
        offenders: At least one.
        root: Of the data set; files below it are told from there.
        cure: What to do about them; empty where the facts say it.
    """

    kind: str
    offenders: tuple[Offender, ...]
    root: Path
    cure: str

    @property
    def hidden(self) -> int:
        """How many are not named."""
        return max(0, len(self.offenders) - NAMED)

    @property
    def line(self) -> str:
        """All of it in one line."""
        if len(self.offenders) == 1:
            return str(self.offenders[0])
        facts = self._shared or f"such as {self.offenders[0].detail}" if self.offenders[0].detail else ""
        files = [one.image_id for one in self.offenders] if self.kind not in _THINGS else []
        named = f" ({some_of(files, NAMED)})" if files else ""
        return f"{self._head}{named}{f': {facts}' if facts else ''}"

    @property
    def lines(self) -> list[str]:
        """The paragraph: a head, the first offenders, how many more there are, and the cure."""
        if len(self.offenders) == 1:
            text = [str(self.offenders[0])]
        else:
            shared = self._shared
            text = [f"{self._head}: {shared}" if shared else f"{self._head}:"]
            for one in self.offenders[:NAMED]:
                facts = f": {one.detail}" if one.detail and not shared else ""
                text.append(f"  {one.image_id} ({self._told(one.path)}){facts}")
            text += [f"  and {self.hidden:,} more"] if self.hidden else []
        return [*text, *([f"  to mend it: {self.cure}"] if self.cure else [])]

    @property
    def _head(self) -> str:
        return f"{self.kind}, {counted(len(self.offenders), _THINGS.get(self.kind, 'image'))}"

    @property
    def _shared(self) -> str:
        """The facts, where they are the same of all."""
        facts = {one.detail for one in self.offenders}
        return next(iter(facts)) if len(facts) == 1 else ""

    def _told(self, path: Path) -> str:
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) and path != self.root else str(path)


def paragraphs(
    offenders: Iterable[Offender], root: Path, *, described: bool, cures: Mapping[str, str] | None = None
) -> list[Paragraph]:
    """The offenders by kind, in the order in which the kinds come first.

    Args:
        offenders: Of one data set.
        root: Its folder.
        described: Whether users say what its classes are.
        cures: What to do about each kind; None: as in a data set.
    """
    if cures is None:
        cures = {**CURES, **_DESCRIBED} if described else CURES
    by_kind: dict[str, list[Offender]] = defaultdict(list)
    for offender in offenders:
        by_kind[offender.kind].append(offender)
    return [Paragraph(kind, tuple(own), root, cures.get(kind, "")) for kind, own in by_kind.items()]


def write_all(name: str, root: Path, errors: Sequence[Offender], warnings: Sequence[Offender]) -> Path | None:
    """Keeps all faults of a data set as `check.json` in the cache folder.

    Returns:
        The file; None if it cannot be written.
    """
    place = cache_root() / "checks" / hashlib.sha256(f"{name}\0{root}".encode()).hexdigest()[:16] / FILE
    content = {
        "data": name,
        "root": str(root),
        **{
            what: [{**asdict(one), "path": str(one.path)} for one in offenders]
            for what, offenders in (("errors", errors), ("warnings", warnings))
        },
    }
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, (json.dumps(content, indent=1) + "\n").encode())
    except OSError:
        return None
    return place
