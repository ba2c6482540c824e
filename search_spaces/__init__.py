"""What a sweep varies; importing the package registers every space."""

from search_spaces import architecture, augment, baseline, full, loss, lr
from search_spaces.files import find_space, from_yaml, space_name, to_yaml
from search_spaces.space import SPACES, Parameter, SearchSpace, When

__all__ = [
    "SPACES",
    "Parameter",
    "SearchSpace",
    "When",
    "architecture",
    "augment",
    "baseline",
    "find_space",
    "from_yaml",
    "full",
    "loss",
    "lr",
    "space_name",
    "to_yaml",
]
