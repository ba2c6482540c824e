"""Composition of spaces, at the address from which users' own spaces import it."""

from search_spaces.core.compose import compose

__all__ = ["compose"]
