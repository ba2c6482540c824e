"""The verdict on a sweep's best configurations: what their fresh seeds showed, as data and as a sentence."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweep.claims import Contrast, Outcome
from sweep.journal import Event
from sweep.objectives import Objective
from sweep.phase_kinds import CONFIRM
from trainables.errors import DataError
from trainables.labels import BASELINE
from trainables.paths import check_name

WITHOUT = "without-"
"""Begins the label of a winner without one component."""


@dataclass(frozen=True)
class Confirmed:
    """A configuration over its fresh seeds.

    Attributes:
        trial_id: The trial of the search that it is.
        label: Of that trial.
        trials: The trials with fresh seeds.
        seeds: Their seeds.
        scores: The objective of each, as it is reported.
        lost: Fresh seeds with which it diverged or ran out of memory.
    """

    trial_id: str
    label: str
    trials: tuple[str, ...]
    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    lost: int = 0

    @property
    def mean(self) -> float:
        """Of the scores."""
        return statistics.fmean(self.scores)


@dataclass(frozen=True)
class Verdict:
    """What fresh seeds showed on a split.

    Attributes:
        split: `val` or `test`.
        objective: Key of what was compared.
        configurations: The baseline, then those that were compared with it.
        contrasts: One for each but the baseline, by `trial_id`; a gain is above 0 whatever the objective's direction.
        winner: `trial_id` of the best mean; a configuration that lost a seed does not win.
        units: `images` or `groups`.
        unit_count: How many were left out in turn; 0 where the images count as given.
        chosen_from: Configurations of which those compared are the best on this very split; None where another split
            chose them, or nothing did.
        looks: How often seeds were added and looked at, this time included.
        subject: `trial_id` of what sentences speak of where another split has chosen it; empty for the best mean.
        rivals: Each candidate but the winner beside the winner, by `trial_id`; below 0 it is worse. Empty where the
            winner is the baseline, in an ablation, and in runs of before.
    """

    split: str
    objective: str
    configurations: tuple[Confirmed, ...]
    contrasts: tuple[Contrast, ...]
    winner: str
    units: str
    unit_count: int
    chosen_from: int | None
    looks: int = 1
    subject: str = ""
    rivals: tuple[Contrast, ...] = ()

    @property
    def counts_images(self) -> bool:
        """Whether it is accounted for how far other images would move the differences."""
        return self.unit_count > 0

    def outcome_of(self, contrast: Contrast) -> Outcome:
        """What may be said of a configuration.

        Nothing where the images that picked it count as given, for then the picking is not accounted for; and no
        configuration is better that diverged with some of its seeds.
        """
        if self.chosen_from is not None and not self.counts_images:
            return Outcome.UNDECIDED
        if contrast.outcome is Outcome.BETTER and self.of(contrast.name).lost:
            return Outcome.UNDECIDED
        return contrast.outcome

    def outcome_beside_winner(self, contrast: Contrast) -> Outcome:
        """What may be said of one of the `rivals`, or of the baseline by its mirrored contrast, beside the winner.

        Nothing unless the winner is better than the baseline. So in a sweep of equals this test adds no claim: it is
        asked only where the first has claimed already.
        """
        if self.outcome is not Outcome.BETTER or self.leading.name != self.winner:
            return Outcome.UNDECIDED
        return self.outcome_of(contrast)

    def may_be_best(self) -> tuple[str, ...]:
        """The `trial_id` of every configuration that is told to be worse than no other, in their order."""
        baseline = self.configurations[0].trial_id
        outcomes = {one.name: self.outcome_of(one) for one in self.contrasts}
        worse = {name for name, outcome in outcomes.items() if outcome is Outcome.WORSE}
        worse |= {one.name for one in self.rivals if self.outcome_beside_winner(one) is Outcome.WORSE}
        if Outcome.BETTER in outcomes.values():
            worse.add(baseline)
        return tuple(one.trial_id for one in self.configurations if one.trial_id not in worse)

    @property
    def leading(self) -> Contrast:
        """Of the configuration that sentences speak of.

        It is the one with the best mean beside the baseline, of those that lost no seed if there are any.
        """
        if self.subject:
            return next(contrast for contrast in self.contrasts if contrast.name == self.subject)
        whole = [contrast for contrast in self.contrasts if not self.of(contrast.name).lost]
        return max(whole or self.contrasts, key=lambda contrast: contrast.difference)

    @property
    def outcome(self) -> Outcome:
        """Of the leading configuration."""
        return self.outcome_of(self.leading)

    def of(self, trial_id: str) -> Confirmed:
        """A configuration by its trial of the search."""
        return next(one for one in self.configurations if one.trial_id == trial_id)

    def to_json(self) -> dict[str, Any]:
        """Primitives only."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Verdict:
        """From `to_json`, or from the event that holds it.

        Raises:
            DataError: If it is no verdict.
            UnsafePathError: If the id of a trial, which becomes the name of a folder, is not safe as such.
        """
        try:
            names = {field.name for field in dataclasses.fields(cls)}
            held = {key: value for key, value in content.items() if key in names}
            configurations = tuple(map(_configuration, held.pop("configurations")))
            contrasts = tuple(Contrast(**one) for one in held.pop("contrasts"))
            rivals = tuple(Contrast(**one) for one in held.pop("rivals", ()))
            found = cls(configurations=configurations, contrasts=contrasts, rivals=rivals, **held)
            known = {one.trial_id for one in configurations}
            compared = {contrast.name for contrast in contrasts}
            if (
                {found.winner, *compared, *(one.name for one in rivals)} - known
                or not contrasts
                or found.subject not in {"", *compared}
            ):
                raise ValueError("it speaks of configurations that it does not hold")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"the verdict in the journal is damaged ({error}); restore it from a backup") from error
        return found


def _configuration(content: Mapping[str, Any]) -> Confirmed:
    return Confirmed(
        trial_id=check_name(content["trial_id"], "a trial id in the journal's verdict"),
        label=check_name(content["label"], "a label in the journal's verdict"),
        trials=tuple(check_name(one, "a trial id in the journal's verdict") for one in content["trials"]),
        seeds=tuple(map(int, content["seeds"])),
        scores=tuple(map(float, content["scores"])),
        lost=int(content.get("lost", 0)),
    )


def last_verdict(events: Iterable[Event], kind: str = "verdict") -> Verdict | None:
    """The last verdict of a journal, or its last `ablation`; None if there is none."""
    found = [event for event in events if event["event"] == kind]
    return Verdict.from_json(found[-1]) if found else None


def why_unconfirmed(events: Iterable[Event]) -> str:
    """Why the confirmation ended before its time, or was not begun; empty if nothing says so any more."""
    why = ""
    for event in events:
        if event["event"] == "confirm_over":
            why = str(event["reason"])
        elif event["event"] == "confirm_asked" or (event["event"] == "suggested" and event["phase"] == CONFIRM.name):
            why = ""
    return why


def current_ablation(events: Sequence[Event]) -> tuple[Verdict | None, str]:
    """What the components of the present winner are worth, as far as it was taken apart; or why it was not."""
    verdict, ablation = last_verdict(events), last_verdict(events, "ablation")
    if ablation is not None and (verdict is None or ablation.configurations[0].trial_id != verdict.winner):
        ablation = None
    asked = [event for event in events if event["event"] == "ablating"]
    return ablation, "" if ablation is not None or not asked else str(asked[-1].get("reason", ""))


def sentence(verdict: Verdict, objective: Objective, names: Mapping[str, str] | None = None) -> str:
    """What the verdict says, with its numbers, without a full stop.

    Args:
        verdict: Of a run.
        objective: Of the sweep.
        names: What each configuration is called, by `trial_id`; its label and trial by default.
    """
    contrast, outcome = verdict.leading, verdict.outcome
    configuration, baseline = verdict.of(contrast.name), verdict.configurations[0]
    name = (names or {}).get(contrast.name) or named(configuration)
    gain, seeds = numbers_text(contrast, objective), seeds_text(contrast.seeds, len(baseline.scores), BASELINE)
    beside = f"{name} {gain} beside the {BASELINE}, {seeds}"
    images = "" if verdict.counts_images else "; what other images would change is not accounted for"
    diverged = (("it", configuration), (f"the {BASELINE}", baseline))
    lost = "".join(f"; {who} diverged with {one.lost} more" for who, one in diverged if one.lost)
    if outcome is Outcome.BETTER:
        chance = f"a sweep of equals would show as much in {of_hundred(contrast.chance)}"
        return f"{name} is better than the {BASELINE}: {gain}, {seeds}; {chance}{images}{lost}"
    if outcome is Outcome.WORSE:
        return f"nothing was better than the {BASELINE}: {name} is worse, {gain}, {seeds}{images}{lost}"
    if verdict.chosen_from is not None and not verdict.counts_images:
        too_few = f"the images of {verdict.split} picked it, and what others would change is not known"
        return f"nothing can be claimed: {beside}; {too_few}{lost}"
    if contrast.outcome is Outcome.BETTER:
        return f"nothing can be claimed: {beside} that are left{images}{lost}"
    found = f"a gain of {contrast.detectable:.3f} would have been found in 8 of 10 cases"
    return f"no difference found: {beside}; {found}{images}{lost}"


def seeds_text(seeds: int, others: int, of: str) -> str:
    """How many seeds each side has, such as `5 seeds each`."""
    return f"{seeds} seeds each" if seeds == others else f"{seeds} seeds, the {of} {others}"


def worth(ablation: Verdict, objective: Objective) -> list[tuple[str, str, Outcome]]:
    """What each component of the winner is worth: its name, a sentence without a full stop, what may be said.

    Args:
        ablation: The winner first, then the winner without each component.
        objective: Of the sweep.
    """
    winner = ablation.configurations[0]
    found = []
    for contrast in ablation.contrasts:
        component = ablation.of(contrast.name).label.removeprefix(WITHOUT)
        seeds = seeds_text(contrast.seeds, len(winner.scores), "winner")
        numbers = f"{numbers_text(contrast, objective)}, {seeds}"
        outcome = contrast.outcome if ablation.counts_images else Outcome.UNDECIDED
        told = {
            Outcome.BETTER: f"{component} is worth {numbers}",
            Outcome.WORSE: f"{component} does harm: {numbers}",
            Outcome.UNDECIDED: f"{component} cannot be told from nothing: {numbers}",
        }
        found.append((component, f"in {named(winner)} {told[outcome]}", outcome))
    return found


def named(configuration: Confirmed) -> str:
    """A configuration's label, with its trial."""
    return f"{configuration.label} ({configuration.trial_id})"


def numbers_text(contrast: Contrast, objective: Objective) -> str:
    """Difference and interval in the objective's own direction, such as `+0.0210 [+0.0080, +0.0340]`."""
    sign = objective.goodness(1.0)
    low, high = sorted((sign * contrast.low, sign * contrast.high))
    return f"{sign * contrast.difference:+.3f} [{low:+.3f}, {high:+.3f}]"


def of_hundred(chance: float) -> str:
    """A chance as `2 of 100`, never as less than it is."""
    if chance < 0.01:
        return "less than 1 of 100"
    return f"{min(100, int(np.ceil(100 * chance)))} of 100"
