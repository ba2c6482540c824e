"""The phases of a sweep, in their order; a new one is a class in a file of its own, named here."""

from sweep.phases.base import Context, Phase, Proposal, Stop
from sweep.phases.finish import Finish
from sweep.phases.search import Search

PHASES: tuple[type[Phase], ...] = (Search, Finish)

KINDS = {phase.name: phase.kind for phase in PHASES}
"""What the trials of each phase may be used for, by the phase's name."""

__all__ = ["KINDS", "PHASES", "Context", "Finish", "Phase", "Proposal", "Search", "Stop"]
