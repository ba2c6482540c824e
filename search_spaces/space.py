"""The parts of a space, at the address from which users' own spaces import them."""

from search_spaces.core.parameter import Parameter, When, choice, held_at, number
from search_spaces.core.space import SPACES, SearchSpace

__all__ = ["SPACES", "Parameter", "SearchSpace", "When", "choice", "held_at", "number"]
