"""A published data set is found from each of its folders, and fetched into the one that holds them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from trainables.data.reading.published import Published
from trainables.errors import DataError

FETCHED: list[str] = []


def fetch(into: str) -> None:
    FETCHED.append(into)
    folder = Path(into) / "kit/set"
    folder.mkdir(parents=True)
    (folder / "list.txt").write_text("a\n")


def fail(into: str) -> None:
    raise RuntimeError("disk is full")


SET = Published(
    "mine",
    "My Set",
    folder="kit/set",
    holds="{images,list.txt}",
    listed="list.txt",
    ids=r"[a-z]",
    files=("images/{}.png",),
    fetch=fetch,
    by_hand="my.tar yourself and unpack it there",
)


@pytest.mark.parametrize("below", ["", "kit", "kit/set"])
def test_set_is_found_from_each_of_its_folders_and_fetched_into_the_one_above(tmp_path: Path, below: str) -> None:
    FETCHED.clear()
    root = tmp_path / "data" / below
    for _ in range(2):
        assert SET.locate(root, download=True) == tmp_path / "data/kit/set"
    assert len(FETCHED) == 1 and FETCHED[0] == str(tmp_path / "data")
    assert SET.locate(root, download=False) == tmp_path / "data/kit/set"


def test_what_is_missing_and_how_to_get_it_are_told(tmp_path: Path) -> None:
    cure = "give --data-root the folder that holds kit, or add --download"
    with pytest.raises(
        DataError, match=re.escape(f"mine needs --data-root, a folder with kit/set/{SET.holds}; {cure}")
    ):
        SET.locate(None, download=True)
    with pytest.raises(DataError, match=f"data root {tmp_path} holds no My Set .*list.txt.*{cure}"):
        SET.locate(tmp_path, download=False)
    unlucky = dataclasses.replace(SET, fetch=fail)
    told = f"My Set could not be downloaded into {tmp_path} (disk is full); check the network, or fetch my.tar yourself"
    with pytest.raises(DataError, match=re.escape(told)):
        unlucky.locate(tmp_path, download=True)
