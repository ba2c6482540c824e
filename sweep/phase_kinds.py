"""What the trials of each phase of a sweep may be used for, for those who rank them and those who read about them.

What a phase does is a class of its own in `sweep/phases`, which names its kind.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PhaseKind:
    """A phase, as the journal and `trials.csv` name it.

    Attributes:
        name: In both.
        explores: Its trials try configurations; the best of a label represents it.
        may_be_best: One of them can become `best`.
    """

    name: str
    explores: bool
    may_be_best: bool


SEARCH = PhaseKind("search", explores=True, may_be_best=True)
FINISH = PhaseKind("finish", explores=False, may_be_best=True)
CONFIRM = PhaseKind("confirm", explores=False, may_be_best=False)
ABLATE = PhaseKind("ablate", explores=False, may_be_best=False)

KINDS = {kind.name: kind for kind in (SEARCH, FINISH, CONFIRM, ABLATE)}
"""By name."""

EXPLORING = tuple(kind.name for kind in KINDS.values() if kind.explores)
"""Phases whose trials were chosen from."""


def kind_of(name: str) -> PhaseKind:
    """The kind of a phase; trials of an unknown one may be used for nothing."""
    return KINDS.get(name, PhaseKind(name, explores=False, may_be_best=False))
