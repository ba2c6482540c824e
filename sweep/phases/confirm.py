"""The confirmation: the best few configurations and the baseline again, with fresh seeds.

Every configuration gets the same seeds, one round after the other. What can win no more is left out of the next round,
and no round is begun for which there is no time. From the third round on, the time that is kept for the refit is left.
The baseline, which is always among them, may get its seeds before the others are chosen, on places that would be idle.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sweep.claims import Arm, pooled_variance
from sweep.forecast import makespan
from sweep.journal import Event
from sweep.phase_kinds import CONFIRM, kind_of
from sweep.phases.base import Context, Phase, Proposal, Stop
from sweep.ranking import configuration, mean_goodness
from sweep.trials import TrialView
from trainables.labels import BASELINE
from trainables.seeds import derived_seed

LEAST_ROUNDS = 2
"""Fewer seeds show nothing about how far a seed moves a score."""
BEHIND = 2.5
"""Standard errors of a difference by which a configuration is behind the leading one and left out."""


class Confirm(Phase):
    """Trains the best configurations of the search, and the baseline, with seeds that the search never saw.

    Args:
        context: Of the sweep.
        seed: The sweep's seed.
        top: Configurations to train again beside the baseline.
        seeds: Of each; more of both may be asked for later (event `confirm_asked`).
    """

    kind = CONFIRM

    def __init__(self, context: Context, *, seed: int, top: int, seeds: int) -> None:
        self.context = context
        self.top, self.seeds = top, seeds
        self._bounded = True
        self._seed = seed
        self._arms: list[str] | None = None
        self._left_out: set[str] = set()
        self._over = False
        self._begun: set[int] = set()

    def next(self) -> Proposal | None:
        """The next configuration of the round, or the first of the next round."""
        if self._over or not self.top or not self.seeds:
            return None
        if self._arms is None:
            self._choose()
        for number in range(1, self.seeds + 1):
            waiting = [arm for arm in self._in_race() if confirm_id(arm, number) not in self.context.table.trials]
            if not waiting or self._over:
                continue
            if number not in self._begun:
                self._leave_out(number)
                waiting = [arm for arm in waiting if arm not in self._left_out]
                if not waiting:
                    continue
                if not self._fits(number, waiting):
                    return None
            elif not self._can_end(waiting[0], number):
                return None
            return self._proposal(waiting[0], number)
        return None

    def ahead(self) -> Proposal | None:
        """The baseline with a fresh seed, while what runs still decides about the others; None if that may be in vain.

        With a time budget these are the seeds of the first rounds, and only while there is time for all that comes.
        """
        limit, baseline = self.context.limit, self._baseline()
        if self._arms is not None or self._over or not self._bounded or not self.top or baseline is None:
            return None
        most = self.seeds if limit is None else min(self.seeds, LEAST_ROUNDS)
        left = (n for n in range(1, most + 1) if confirm_id(baseline.trial_id, n) not in self.context.table.trials)
        number = next(left, None)
        if number is None or not self._candidates():
            return None
        if limit is not None:
            seconds = limit.forecast.trial_seconds(baseline.config, int(baseline.config["epochs"]))
            if not limit.fits(seconds, then=limit.kept()):
                return None
        return self._proposal(baseline.trial_id, number)

    def done(self) -> bool:
        """Whether every seed was trained, or what is left was given up, and no trial is running."""
        if self.is_running():
            return False
        if self._over or not self.top or not self.seeds:
            return True
        return self._arms is not None and all(
            confirm_id(arm, number) in self.context.table.trials
            for arm in self._in_race()
            for number in range(1, self.seeds + 1)
        )

    def verdict(self, trial: TrialView) -> Stop | None:
        """What the time budget says."""
        return self.context.late(trial) if self._bounded else None

    def on_event(self, event: Event, *, replayed: bool) -> None:
        """Follows what was decided; new trials of the search, more seeds or more time open the question again."""
        kind = event["event"]
        if kind == "confirming":
            self._arms, self._left_out, self._over = list(event["trials"]), set(), False
            self._begun = set()
        elif kind == "left_out":
            self._left_out.add(event["trial_id"])
        elif kind == "confirm_over":
            self._over = True
        elif kind == "confirm_asked":
            least = (self.top, self.seeds) if event.get("at_least") else (0, 0)
            self.top, self.seeds = max(event["top"], least[0]), max(event["seeds"], least[1])
            self._bounded = False
            self._arms, self._over = None, False
        elif kind == "extended" or (kind == "settings" and "time_budget" in event["changed"].get("budget", {})):
            self._over, self._bounded = False, True
        elif kind == "suggested" and event["phase"] == self.kind.name and self._arms is not None:
            self._begun.add(int(event["trial_id"].rpartition("-s")[2]))
        elif kind == "suggested" and kind_of(event["phase"]).explores:
            self._arms, self._over = None, False

    @property
    def was_asked_for(self) -> bool:
        """Whether more was asked for after the sweep, which its time budget does not bound."""
        return not self._bounded

    def seconds(self) -> float:
        """Expected of what is still to come, on all places side by side."""
        limit = self.context.limit
        left = self.to_come() if self._bounded else 0
        if limit is None or not left:
            return 0.0
        each = [limit.forecast.trial_seconds(trial.config, int(trial.config["epochs"])) for trial in self._foreseen()]
        return makespan(statistics.fmean(each), left, limit.slots)

    def to_come(self) -> int:
        """How many of its trials have not begun yet, as far as that can be foreseen."""
        if self._over or not self.top or not self.seeds:
            return 0
        foreseen = self._foreseen()
        ids = {confirm_id(trial.trial_id, n) for trial in foreseen for n in range(1, self.seeds + 1)}
        return max(0, len(foreseen) * self.seeds - len(ids & self.context.table.trials.keys()))

    def _foreseen(self) -> list[TrialView]:
        """The baseline and the best so far; the baseline stands in for those that are not there yet."""
        table = self.context.table
        baseline = list(table.explored_labels().get(BASELINE, ()))[:1]
        candidates = [table.trials[one] for one in self._arms or ()] or [*baseline, *self._candidates()]
        missing = max(0, 1 + self.top - len(candidates)) if self._arms is None else 0
        return [*candidates, *(list(baseline) * missing)]

    def _baseline(self) -> TrialView | None:
        """The baseline's trial, where it was trained to the end."""
        table, objective = self.context.table, self.context.objective
        trials = (own for one in table.explored_labels().get(BASELINE, ()) for own in (one, table.final(one)))
        ended = (trial for trial in trials if trial.state == "completed")
        return next((trial for trial in ended if objective.value(trial.metrics) is not None), None)

    def _choose(self) -> None:
        """Writes down which configurations are trained again, or why none is."""
        table, objective = self.context.table, self.context.objective
        baseline, candidates = self._baseline(), self._candidates()
        if baseline is None or not candidates:
            why = "no other configuration was trained to the end" if baseline else "the baseline did not finish"
            self.context.note("confirm_over", reason=f"{why}: there is nothing to confirm")
            return
        tried = {
            configuration(trial)
            for trial in table.explored()
            if trial.state in ("completed", "stopped") and objective.value(trial.metrics) is not None
        }
        self.context.note(
            "confirming",
            trials=[baseline.trial_id, *(trial.trial_id for trial in candidates)],
            seeds=self.seeds,
            chosen_from=len(tried - {configuration(baseline)}),
        )

    def _candidates(self) -> list[TrialView]:
        """The trials of the search behind the best configurations at full budget, without the baseline's.

        The present winner over fresh seeds comes first: it is the one whose claim more seeds would strengthen or end.
        """
        table, objective = self.context.table, self.context.objective
        ranking = table.standings(objective).full
        baselines = (finish for one in table.explored_labels().get(BASELINE, []) for finish in (one, table.final(one)))
        baseline = {configuration(one) for one in baselines if one.state == "completed"}
        confirmed = sorted(table.confirmed(objective), key=lambda group: -mean_goodness(group, objective))
        winner = configuration(confirmed[0][0]) if confirmed else None
        first = [] if winner is None or winner in baseline else ranking.of(winner)[:1]
        groups = (group[0] for group in ranking if configuration(group[0]) not in {*baseline, winner})
        others = itertools.chain(first, groups)
        return [table.trials[trial.parent or trial.trial_id] for trial in itertools.islice(others, self.top)]

    def _in_race(self) -> list[str]:
        return [arm for arm in self._arms or () if arm not in self._left_out]

    def _proposal(self, arm: str, number: int) -> Proposal:
        trial = self.context.table.trials[arm]
        return Proposal(
            confirm_id(arm, number),
            trial.number,
            trial.label,
            {**trial.config, "seed": fresh_seed(self._seed, number)},
            dict(trial.params),
            "fresh seed",
        )

    def _leave_out(self, number: int) -> None:
        """Leaves out, before a round, configurations that are too far behind the leading one to overtake it."""
        arms = self._arms or []
        scores = {arm: self._scores(arm, number - 1) for arm in self._in_race()}
        enough = [Arm(arm, tuple(of_arm)) for arm, of_arm in scores.items() if len(of_arm) >= LEAST_ROUNDS]
        candidates = [arm for arm in enough if arm.name != arms[0]]
        if len(candidates) < 2 or len(enough) < len(scores):
            return
        leader = max(candidates, key=lambda arm: arm.mean)
        variance = pooled_variance(enough)
        for arm in candidates:
            error = math.sqrt(variance * (1 / len(arm.scores) + 1 / len(leader.scores)))
            behind = leader.mean - arm.mean
            if arm is not leader and behind > BEHIND * error:
                reason = f"{behind:.4f} behind {leader.name} in the mean of {len(arm.scores)} seeds"
                self.context.note("left_out", trial_id=arm.name, reason=reason)

    def _scores(self, arm: str, rounds: int) -> list[float]:
        """Of the seeds that have ended, higher is better."""
        objective, table = self.context.objective, self.context.table
        trials = [table.trials.get(confirm_id(arm, number)) for number in range(1, rounds + 1)]
        ended = [trial for trial in trials if trial is not None and trial.state == "completed"]
        return [objective.goodness(trial.metrics[objective.key]) for trial in ended]

    def _fits(self, number: int, arms: Sequence[str]) -> bool:
        """Whether there is time for a round, with the second where it is the first; if not, that is written down."""
        limit = self.context.limit
        if limit is None or not self._bounded:
            return True
        rounds = LEAST_ROUNDS if number == 1 else 1
        configs = [self.context.table.trials[arm].config for arm in arms]
        each = [limit.forecast.trial_seconds(config, int(config["epochs"])) for config in configs]
        open_trials = [trial for trial in self.context.table.open()]
        running = sum(self.context.seconds_to_go(open_trials))
        seconds = makespan(statistics.fmean(each), len(each) * rounds, limit.slots, before=running)
        refit = limit.refit() if number > LEAST_ROUNDS else 0.0
        if limit.fits(seconds, then=refit):
            return True
        left = max(0, int(limit.left()))
        what = f"seeds {number} and {number + 1} of each" if rounds > 1 else f"seed {number} of each"
        after = f" and {math.ceil(refit)} s to train the best again on train and val" if refit else ""
        told = f"{what} would take {math.ceil(seconds)} s{after}, and {left} s are left"
        self.context.note("confirm_over", reason=told)
        return False

    def _can_end(self, arm: str, number: int) -> bool:
        """Whether a trial of a round that was begun can still end in time; if not, that is written down."""
        limit = self.context.limit
        if limit is None or not self._bounded:
            return True
        config = self.context.table.trials[arm].config
        seconds = limit.forecast.trial_seconds(config, int(config["epochs"]))
        if limit.overrun(seconds) <= 0:
            return True
        left = max(0, int(limit.left()))
        told = f"seed {number} of {arm} would take {math.ceil(seconds)} s, and {left} s are left"
        self.context.note("confirm_over", reason=told)
        return False


def confirm_id(trial_id: str, number: int) -> str:
    """The id of the trial that repeats another with a fresh seed; seeds are numbered from 1."""
    return f"{trial_id}-s{number}"


def repeated(trial_id: str) -> str:
    """The id of the trial that a trial with a fresh seed repeats; of any other its own."""
    source, fresh, number = trial_id.rpartition("-s")
    return source if fresh and number.isdigit() else trial_id


def fresh_seed(sweep_seed: int, number: int) -> int:
    """The seed of a round: the same for all configurations."""
    return derived_seed("confirm", sweep_seed, number) % 2**31


def confirming(events: Iterable[Event]) -> Mapping[str, Any] | None:
    """The last event that says which configurations are trained again; None if there is none."""
    found = [event for event in events if event["event"] == "confirming"]
    return found[-1] if found else None
