"""What a sweep varies; importing the package registers every space."""

from search_spaces import architecture, augment, baseline, full, loss, lr
from search_spaces.space import SPACES, Parameter, SearchSpace, When

__all__ = ["SPACES", "Parameter", "SearchSpace", "When", "architecture", "augment", "baseline", "full", "loss", "lr"]
