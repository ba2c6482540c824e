"""Numbers and lists in messages."""

from __future__ import annotations

import pytest

from trainables.words import counted, some_of


@pytest.mark.parametrize(("number", "told"), [(0, "0 images"), (1, "1 image"), (2, "2 images")])
def test_noun_is_in_the_plural_where_there_is_not_one(number: int, told: str) -> None:
    assert counted(number, "image") == told


def test_plural_of_another_ending_is_given() -> None:
    assert counted(2, "process", "processes") == "2 processes"
    assert counted(1, "process", "processes") == "1 process"


@pytest.mark.parametrize(("count", "told"), [(0, ""), (3, "0, 1, 2"), (4, "0, 1, 2 and 1 more")])
def test_what_is_not_named_is_counted(count: int, told: str) -> None:
    assert some_of(list(map(str, range(count))), 3) == told
