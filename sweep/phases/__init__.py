"""The phases of a sweep, in their order; a new one is a class in a file of its own, named here, and a kind."""

from sweep.phases.ablate import Ablate
from sweep.phases.base import Context, Phase, Proposal, Stop
from sweep.phases.confirm import Confirm
from sweep.phases.finish import Finish
from sweep.phases.search import Search

PHASES: tuple[type[Phase], ...] = (Search, Finish, Confirm, Ablate)

__all__ = ["PHASES", "Ablate", "Confirm", "Context", "Finish", "Phase", "Proposal", "Search", "Stop"]
