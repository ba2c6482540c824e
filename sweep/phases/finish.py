"""The finish: the best trial of each label, where it was stopped early, goes on to the full budget."""

from __future__ import annotations

from sweep.journal import Event
from sweep.phase_kinds import FINISH
from sweep.phases.base import Context, Phase, Proposal
from sweep.trials import TrialView, finish_id


class Finish(Phase):
    """Continues the trial that represents a label, so that labels are compared at equal epochs.

    Args:
        context: Of the sweep.
    """

    kind = FINISH

    def __init__(self, context: Context) -> None:
        self.context = context
        self._given_up: set[str] = set()

    def next(self) -> Proposal | None:
        """The continuation of the next label's representative."""
        for parent in self._waiting():
            if not self._fits(parent):
                continue
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
        return None

    def done(self) -> bool:
        """Whether every label's representative was trained to the end, has failed to be, or has no time for it."""
        return not self._waiting()

    def on_event(self, event: Event, *, replayed: bool) -> None:
        """Remembers whose time is over; another time budget asks again."""
        if event["event"] == "unfinished":
            self._given_up.add(event["trial_id"])
        elif event["event"] == "settings" and "time_budget" in event["changed"].get("budget", {}):
            self._given_up.clear()

    def _fits(self, parent: TrialView) -> bool:
        """Whether there is time to train it to the end; if not, that is written down."""
        limit = self.context.limit
        if limit is None:
            return True
        (seconds,) = self.context.seconds_to_go([parent])
        if limit.fits(seconds):
            return True
        reason = f"{seconds:.0f} s to its last epoch, {max(0.0, limit.left()):.0f} s left"
        self.context.note("unfinished", trial_id=parent.trial_id, reason=reason)
        return False

    def _waiting(self) -> list[TrialView]:
        """Representatives below full budget; if a finish trial fails, its label has no trial at full budget."""
        return [trial for trial in self.context.to_finish() if trial.trial_id not in self._given_up]
