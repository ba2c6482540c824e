"""The verdict on a sweep's best configurations: what their fresh seeds showed, as data and as a sentence."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweep.claims import Arm, Contrast, Outcome, compare
from sweep.journal import Event
from sweep.objectives import Objective
from sweep.phase_kinds import CONFIRM
from trainables.errors import DataError
from trainables.labels import BASELINE
from trainables.metrics import Collected, Floats, Replicates, Units, replicate_weights
from trainables.paths import check_name

RESAMPLES = 400
"""Of the images, for the variance that they bring."""
WITHOUT = "without-"
"""Begins the label of a winner without one component."""
LEAST_UNITS = 5
"""Fewer images, or groups of them, do not tell how far other images would move a difference."""


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
        unit_count: How many were resampled; 0 where the images count as given.
        chosen_from: Configurations of which those compared are the best on this very split; None where another split
            chose them, or nothing did.
        looks: How often seeds were added and looked at, this time included.
        subject: `trial_id` of what sentences speak of where another split has chosen it; empty for the best mean.
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
            found = cls(configurations=configurations, contrasts=contrasts, **held)
            known = {one.trial_id for one in configurations}
            compared = {contrast.name for contrast in contrasts}
            if {found.winner, *compared} - known or not contrasts or found.subject not in {"", *compared}:
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


def decide(
    configurations: Sequence[Confirmed],
    objective: Objective,
    *,
    split: str,
    collected: Callable[[str], Collected | None],
    units: Units,
    chosen_from: int | None,
    picked: tuple[int, int] | None = None,
    looks: int = 1,
) -> Verdict:
    """Compares configurations with the baseline over fresh seeds and over images.

    Args:
        configurations: The baseline first; each with at least two seeds.
        objective: What is compared.
        split: Of the scores.
        collected: What the model of a trial did on each image; None where that was not kept.
        units: Of the split's images.
        chosen_from: See `Verdict`.
        picked: See `sweep.claims.Design`: the first is the winner that is taken apart.
        looks: See `Verdict`.
    """
    arms = [Arm(one.trial_id, tuple(map(objective.goodness, one.scores))) for one in configurations]
    variances = image_variances(configurations, objective, collected, units) if units.count >= LEAST_UNITS else None
    unit_count = units.count if variances is not None else 0
    contrasts = compare(
        arms[0],
        arms[1:],
        image_variance=variances,
        units=unit_count,
        chosen_from=None if chosen_from is None else max(chosen_from, len(arms) - 1),
        picked=picked,
        looks=looks,
    )
    whole = [arm for arm, one in zip(arms, configurations, strict=True) if not one.lost] or arms
    return Verdict(
        split=split,
        objective=objective.key,
        configurations=tuple(configurations),
        contrasts=tuple(contrasts),
        winner=max(whole, key=lambda arm: arm.mean).name,
        units=units.name,
        unit_count=unit_count,
        chosen_from=chosen_from,
        looks=looks,
    )


def image_variances(
    configurations: Sequence[Confirmed],
    objective: Objective,
    collected: Callable[[str], Collected | None],
    units: Units,
) -> dict[str, float] | None:
    """Variance over images of the difference of each configuration's mean over seeds from the baseline's.

    Args:
        configurations: The baseline first.
        objective: Of the scores.
        collected: See `decide`.
        units: What is drawn.

    Returns:
        By `trial_id`; None where a trial's counts are missing.
    """
    means = []
    for one in configurations:
        values: list[Floats] = []
        for trial_id in one.trials:
            of_trial = collected(trial_id)
            if of_trial is None:
                return None
            weights = replicate_weights(units, resamples=RESAMPLES, seed=0)
            values.append(np.concatenate([objective.metric(Replicates(of_trial, some)) for some in weights]))
        means.append(np.mean(values, axis=0))
    # The bootstrap's variance of a mean over n units is (n - 1) / n of what it should be.
    correction = units.count / (units.count - 1)
    return {
        one.trial_id: float(np.nanvar(mean - means[0], ddof=1)) * correction
        for one, mean in zip(configurations[1:], means[1:], strict=True)
    }


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
