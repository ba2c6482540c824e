"""The finish: the best trial of each label, where it was stopped early, goes on to the full budget.

A label that is far behind the baseline, or for which there is no time, is left as it is; that is written down.
"""

from __future__ import annotations

from sweep.journal import Event
from sweep.phase_kinds import FINISH
from sweep.phases.base import Context, Phase, Proposal, Stop
from sweep.trials import TrialView, finish_id
from trainables.labels import BASELINE

BY_BASELINE, BY_TIME = BASELINE, "time budget"
"""Why a label is not finished."""


class Finish(Phase):
    """Continues the trial that represents a label, so that labels are compared at equal epochs.

    Args:
        context: Of the sweep.
    """

    kind = FINISH

    def __init__(self, context: Context) -> None:
        self.context = context
        self._given_up: dict[str, str] = {}

    def next(self) -> Proposal | None:
        """The continuation of the next label's representative."""
        for hopeless, why in self._hopeless():
            self._give_up(hopeless, BY_BASELINE, why)
        for parent, why in self._cut_short():
            self._give_up(parent, BY_TIME, why)
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
        """Whether every label's representative was trained to the end, has failed to be, or was given up."""
        return not self.is_running() and not self._waiting() and not self._hopeless() and not self._cut_short()

    def verdict(self, trial: TrialView) -> Stop | None:
        """What the time budget says: a pause in the middle may have left too little."""
        return self.context.late(trial)

    def on_event(self, event: Event, *, replayed: bool) -> None:
        """Remembers who was given up; where the time was over, another time budget asks again."""
        if event["event"] == "unfinished":
            self._given_up[event["trial_id"]] = event.get("by", BY_TIME)
        elif event["event"] == "settings" and "time_budget" in event["changed"].get("budget", {}):
            begun = self.context.table.trials
            self._given_up = {
                trial_id: by for trial_id, by in self._given_up.items() if by != BY_TIME or finish_id(trial_id) in begun
            }

    def _fits(self, parent: TrialView) -> bool:
        """Whether there is time to train it to the end; if not, that is written down."""
        limit = self.context.limit
        if limit is None:
            return True
        (seconds,) = self.context.seconds_to_go([parent])
        if limit.fits(seconds, then=limit.kept()):
            return True
        after = "".join(f" and {kept:.0f} s {purpose}" for kept, purpose in limit.kept_for())
        reason = f"{seconds:.0f} s to its last epoch{after}, {max(0.0, limit.left()):.0f} s left"
        self._give_up(parent, BY_TIME, reason)
        return False

    def _give_up(self, parent: TrialView, by: str, reason: str) -> None:
        self.context.note("unfinished", trial_id=parent.trial_id, by=by, reason=reason)

    def _hopeless(self) -> list[tuple[TrialView, str]]:
        """Representatives that are far behind the baseline, with the reason, where that was not written down yet."""
        told = [(trial, self.context.hopeless(trial)) for trial in self.context.stopped()]
        return [(trial, why) for trial, why in told if why and trial.trial_id not in self._given_up]

    def _cut_short(self) -> list[tuple[TrialView, str]]:
        """Representatives whose last epochs the time budget ended, with the reason, where that is not written down."""
        table = self.context.table
        return [
            (table.trials[trial.parent], trial.reason.partition(": ")[2])
            for trial in table.of_phase(self.kind.name)
            if trial.state == "stopped" and trial.parent is not None and trial.parent not in self._given_up
        ]

    def _waiting(self) -> list[TrialView]:
        """Representatives below full budget; if a finish trial fails, its label has no trial at full budget."""
        return [trial for trial in self.context.to_finish() if trial.trial_id not in self._given_up]
