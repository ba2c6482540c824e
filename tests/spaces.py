"""Which weights the registered spaces are tried with."""

from search_spaces import SPACES

PREDEFINED_ONLY = ("frozen",)
"""Spaces that have no meaning from scratch, and say so."""
FROM_SCRATCH = tuple(name for name in SPACES if name not in PREDEFINED_ONLY)


def own_weights(name: str) -> str:
    """`none` where a space can be searched from scratch."""
    return "imagenet" if name in PREDEFINED_ONLY else "none"
