"""What a proposal is, and what it is made for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from search_spaces.core.parameter import Parameter
from search_spaces.core.space import SearchSpace
from trainables.registry import Scalar


@dataclass(frozen=True)
class Proposal:
    """One thing to try.

    Attributes:
        what: What changes, in a few words.
        why: What val showed, with its numbers; names of classes are as they are, so escape them.
        parameters: What is proposed, laid over the space of the sweep.
        along: What has to be in the space beside them.
        point: A point to begin with, over the winner's; empty where there is none.
    """

    what: str
    why: str
    parameters: tuple[Parameter, ...]
    point: Mapping[str, Scalar] = field(default_factory=dict)
    along: tuple[Parameter, ...] = ()


@dataclass(frozen=True)
class Searched:
    """A sweep's space and what its search found.

    Attributes:
        space: Compiled.
        base: Keys common to all trials, below what the space fixes and suggests.
        winner: Flat configuration of the winner.
    """

    space: SearchSpace
    base: Mapping[str, Scalar]
    winner: Mapping[str, Scalar]

    def is_held(self, key: str) -> bool:
        """Whether the user holds a key with `--set`: it stays as it is."""
        return key in self.space.held()

    def common(self, key: str, default: Scalar) -> Scalar:
        """The value of a key that the space does not search."""
        return {**self.base, **self.space.fixed}.get(key, default)
