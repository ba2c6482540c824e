"""The finish: the best trial of each label, where it was stopped early, goes on to the full budget."""

from __future__ import annotations

from sweep.phases.base import Context, Phase, Proposal
from sweep.trials import PhaseKind, TrialView, finish_id


class Finish(Phase):
    """Continues the trial that represents a label, so that labels are compared at equal epochs.

    Args:
        context: Of the sweep.
    """

    name = "finish"
    kind = PhaseKind(explores=False, may_be_best=True)

    def __init__(self, context: Context) -> None:
        self.context = context

    def next(self) -> Proposal | None:
        """The continuation of the next label's representative."""
        waiting = self._waiting()
        if not waiting:
            return None
        parent = waiting[0]
        return Proposal(
            finish_id(parent.trial_id),
            parent.number,
            parent.label,
            dict(parent.config),
            dict(parent.params),
            "representative",
            parent=parent.trial_id,
            first_epoch=parent.epochs,
        )

    def done(self) -> bool:
        """Whether every label's representative was trained to the end, or has failed to be."""
        return not self._waiting()

    def _waiting(self) -> list[TrialView]:
        """Representatives below full budget; if a finish trial fails, its label has no trial at full budget."""
        table = self.context.table
        chosen = table.representatives(self.context.objective).values()
        return [t for t in chosen if t.state == "stopped" and finish_id(t.trial_id) not in table.trials]
