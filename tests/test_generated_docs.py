"""What is written from the registries is as the registries are."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import analysis.report  # noqa: F401 - registers sections
import sweep.optuna_study
import sweep.schedulers  # noqa: F401 - register samplers and stop rules
from search_spaces import SPACES
from trainables.augmentations.__main__ import augmentation_markdown
from trainables.components import components_markdown
from trainables.data import DATASETS
from trainables.registry import registered

ROOT = Path(__file__).resolve().parents[1]


def named_in(document: str, beginning: str) -> list[str]:
    """The names in backquotes of the sentence that begins so."""
    text = (ROOT / document).read_text(encoding="utf-8")
    sentence = text[text.index(beginning) :].split(". ")[0].split(", or ")[0].split("; see")[0].split(", for")[0]
    return re.findall(r"`(\w+)`", sentence)


def test_generated_pages_are_up_to_date() -> None:
    pages: dict[str, tuple[str, Callable[[], str]]] = {
        "docs/COMPONENTS.md": ("trainables.components", components_markdown),
        "docs/AUGMENTATION.md": ("trainables.augmentations", augmentation_markdown),
    }
    stale = [
        f"python -m {module} > {page}"
        for page, (module, made) in pages.items()
        if (ROOT / page).read_text(encoding="utf-8") != made()
    ]
    assert not stale, "write these pages anew:\n" + "\n".join(stale)


def test_readme_lists_every_space_and_data_set() -> None:
    assert set(named_in("README.md", "Spaces: ")) == set(SPACES), "the line `Spaces:` of README.md names them all"
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [name for name in DATASETS if f"`{name}`" not in text and f"--data {name}" not in text]
    assert not missing, f"README.md names every data set: {', '.join(missing)} is missing"


@pytest.mark.parametrize("kind", sorted({kind for kind, _ in registered()} - {"figure"}))
def test_contributing_tells_where_each_kind_is_added(kind: str) -> None:
    """A registry that nobody tells of would not be found."""
    rows = [line for line in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    known = {"model": "a model", "policy": "policy family", "scheduler": "stop rule", "section": "section"}
    word = known.get(kind, kind)
    assert any(word in row.split("|")[1] for row in rows), f"CONTRIBUTING.md has no row for a {kind}"
