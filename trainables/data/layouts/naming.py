"""Which id in the masks each name of a list stands for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainables.data.layouts.finding import Question, Said, SaidClass, UndecidedError
from trainables.data.reading.files import span
from trainables.words import counted


def named_ids(
    root: Path, found: Sequence[int], said: Said, void: Sequence[int], notes: list[str]
) -> dict[int, SaidClass]:
    """The class of each id, ascending; ids that no mask holds are among them where the names reach further.

    Args:
        root: For messages.
        found: Ids in the masks without void, ascending.
        said: Perhaps with names, and with the id of the first.
        void: Ids that are void.
        notes: What is told is added.

    Raises:
        UndecidedError: If the names could begin at 0 or at 1, or if they do not fit the ids.
    """
    if said.classes is None:
        if found and found[0] == 1 and 0 not in void:
            notes.append(f"ids begin at 1 (reduce_zero_label): {span(found)} are the classes")
        return {number: SaidClass(f"class {number}", number) for number in found}
    names = list(said.classes)
    if said.first_id is not None:
        return _from(said.first_id, names)
    reach = list(range(len(names)))
    if found and set(found) <= set(reach):
        if 0 not in found and 0 not in void and len(names) > 1:
            raise UndecidedError(root, _first(found, said))
        return _from(0, names)
    if list(found) == list(range(1, len(names) + 1)):
        notes.append(f"ids begin at 1 (reduce_zero_label): {names[0].name} is 1")
        return _from(1, names)
    if len(found) == len(names):
        pairs = dict(zip(found, names, strict=True))
        told = ", ".join(f"{number} is {entry.name}" for number, entry in list(pairs.items())[:6])
        notes.append(f"names given in the order of the ids: {told}")
        return pairs
    raise UndecidedError(root, _misfit(found, said))


def _from(first: int, names: Sequence[SaidClass]) -> dict[int, SaidClass]:
    return {first + place: entry for place, entry in enumerate(names)}


def _first(found: Sequence[int], said: Said) -> Question:
    names = said.classes or ()
    return Question(
        f"no mask holds 0 (they hold {span(found)}), so that the names of {said.source} may begin at 0 or at 1",
        (
            (("--first-id", "0"), f"{names[0].name} is 0, and no mask shows it"),
            (("--first-id", "1"), f"{names[0].name} is 1"),
        ),
    )


def _misfit(found: Sequence[int], said: Said) -> Question:
    names = [entry.name for entry in said.classes or ()]
    text = (
        f"the masks hold {span(found)}, which {counted(len(names), 'name')} ({', '.join(names[:6])}) of {said.source} "
        "do not fit"
    )
    answers: list[tuple[tuple[str, ...], str]] = []
    if found and found[0] == 0 and list(found) == list(range(len(names) + 1)):
        answers.append((("--first-id", "1"), f"0 is void, {names[0]} is 1"))
    whole = [*names, *(f"class {number}" for number in found[len(names) :])][: len(found)]
    if len(names) < len(found):
        whole = [f"class {number}" for number in found[: len(found) - len(names)]] + names
    answers.append((("--classes", ",".join(whole)), "one name for each id, with the names put right"))
    return Question(text, tuple(answers))
