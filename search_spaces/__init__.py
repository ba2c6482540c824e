"""What a sweep varies; importing the package registers every space."""

from search_spaces import architecture, augment, baseline, frozen, full, loss, lr
from search_spaces.core.find import find_space, space_name
from search_spaces.core.parameter import Parameter, When
from search_spaces.core.space import SPACES, SearchSpace
from search_spaces.core.yaml_format import to_yaml

__all__ = [
    "SPACES",
    "Parameter",
    "SearchSpace",
    "When",
    "architecture",
    "augment",
    "baseline",
    "find_space",
    "frozen",
    "full",
    "loss",
    "lr",
    "space_name",
    "to_yaml",
]
