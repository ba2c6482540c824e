"""What a folder is: by its description, by tables and annotations in it, or by names and pixels of its files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from trainables.data.imports.base import drawn_hash, sources_hash
from trainables.data.imports.detect import detect
from trainables.data.imports.hugging_face import FORMAT, tables
from trainables.data.imports.objects import are_several, objects_in, read_objects
from trainables.data.layouts.describe import CLASSES_FILE, DATASET_FILE, description_file, is_ours, read_said
from trainables.data.layouts.finding import Finding, Question, Said, UndecidedError
from trainables.data.layouts.known import known_as
from trainables.data.layouts.recognise import recognise
from trainables.data.layouts.tables import class_table
from trainables.data.layouts.tree import DRAWN_FOLDER, UNPACKED_FOLDER, media_files
from trainables.errors import DataError
from trainables.words import counted


def find(root: Path, extra: Said | None = None) -> Finding:
    """Reads a folder: by its description where there is one, else by what is in it.

    Args:
        root: The folder.
        extra: What else is said of it; it counts before the description.

    Raises:
        UndecidedError: If something cannot be known; with the question.
        DataError: If the description is not valid, or the folder cannot be read.
    """
    theirs = description_file(root)
    known = "" if theirs is not None and not is_ours(theirs) else known_as(root)
    try:
        return replace(_find(root, extra), known=known)
    except UndecidedError as error:
        raise UndecidedError(root, error.question, instead=f"it looks like {known}" if known else "") from None
    except DataError as error:
        if not known:
            raise
        raise DataError(f"{error}; it looks like {known}") from None


def _find(root: Path, extra: Said | None) -> Finding:
    place = description_file(root)
    if extra is not None and place is not None and is_ours(place):
        # What this program wrote is found out again; what the user wrote still counts.
        place = next((other for other in [root / CLASSES_FILE] if other.is_file()), None)
    said = read_said(place) if place is not None else class_table(root) or Said()
    if extra is not None:
        said = _merged(said, extra)
    described = place is not None
    _check_drawn(root, said, described=described)
    files = media_files(root)
    by_names = not (described or said.images or said.masks or said.pairs)
    if by_names and are_several(objects_in(files)) and (single := read_objects(root, files, said)) is not None:
        count = counted(len(single.sources), "mask")
        raise UndecidedError(root, _draw(f"each object has a mask of its own ({count})"))
    try:
        return recognise(root, files, said, described=described)
    except UndecidedError:
        raise
    except DataError:
        if in_tables := tables(root):
            text = f"no images, but {FORMAT} ({counted(len(in_tables), 'file')})"
            raise UndecidedError(root, Question(text, (((), f"unpacks them into {UNPACKED_FOLDER}/"),))) from None
        if said.masks is not None or (found := detect(root, said)) is None:
            raise
        count = counted(len(found.sources), "file")
        raise UndecidedError(root, _draw(f"no masks, but annotations in {found.format} ({count})")) from None


def _check_drawn(root: Path, said: Said, *, described: bool) -> None:
    """Refuses masks that were drawn from other annotations than those that are there, or are without a description.

    Raises:
        UndecidedError: With the command that draws them again.
    """
    before = drawn_hash(root)
    if before is None or said.masks not in (None, DRAWN_FOLDER):
        return
    if said.masks is None and not described:
        raise UndecidedError(root, _draw(f"masks were drawn into {DRAWN_FOLDER}/, but {DATASET_FILE} is gone"))
    found = detect(root) if said.masks == DRAWN_FOLDER else None
    if found is not None and sources_hash(root, found.sources) != before:
        raise UndecidedError(root, _draw(f"the annotations in {found.format} have changed since masks were drawn"))


def _draw(text: str) -> Question:
    return Question(text, (((), f"draws masks into {DRAWN_FOLDER}/"),), draws=True)


def _merged(said: Said, extra: Said) -> Said:
    """What both say; where they differ, the second counts."""
    named = {key: value for key, value in vars(extra).items() if value is not None}
    if extra.classes is None:
        named.pop("source")
    if not extra.void_colors:
        named.pop("void_colors")
    return replace(said, **named)
