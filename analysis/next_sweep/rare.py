"""Losses that give rare classes more weight."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.failures.kinds import Kind, Kinds
from analysis.kept import Evaluation
from analysis.next_sweep.proposal import Proposal, Searched
from analysis.scores import units_of, units_of_classes
from analysis.statistics import confidence_interval
from analysis.strengths import MIN_UNITS
from search_spaces.core.parameter import choice
from search_spaces.loss import loss_parameters, loss_point
from trainables.metrics import Floats, Replicates, iou
from trainables.words import counted, some_of

RARE_SHARE = 0.25
"""A class is rare below this part of an equal share of train's pixels."""
LEAST_GAP = 0.1
"""How far the mean IoU of rare classes must lie below that of the others, beyond chance."""
WEIGHTED = "weighted_cross_entropy"


def for_rare_classes(
    searched: Searched, evaluation: Evaluation, kinds: Kinds, class_names: Sequence[str], train_pixels: Sequence[int]
) -> list[Proposal]:
    """Class weights and an overlap loss where rare classes have a lower IoU than the others.

    A class is rare below `RARE_SHARE` of an equal share of train's pixels; classes in fewer than `MIN_UNITS` images (or
    groups) of val have no say. Nothing where the user holds the loss, or the space tries class weights already.
    """
    now = searched.space.parameter("loss.name")
    losses = tuple(map(str, now.choices)) if now is not None else (str(searched.common("loss.name", "cross_entropy")),)
    if searched.is_held("loss.name") or WEIGHTED in losses:
        return []
    pixels = np.asarray(train_pixels, dtype=float)
    present = pixels > 0
    units = units_of(evaluation)
    counted_in = units_of_classes(units, evaluation.confusions.sum(axis=2))
    compared = present & (counted_in >= MIN_UNITS) & (np.asarray(kinds) > Kind.BACKGROUND)
    limit = RARE_SHARE / max(1, int(present.sum()))
    is_rare = pixels / max(1.0, pixels.sum()) < limit
    rare, others = np.flatnonzero(compared & is_rare), np.flatnonzero(compared & ~is_rare)
    if not len(rare) or not len(others):
        return []

    def means(weights: Floats) -> Floats:
        of_classes = iou(Replicates(evaluation, weights).margins)
        return np.stack([of_classes[:, rare].mean(axis=1), of_classes[:, others].mean(axis=1)])

    interval = confidence_interval(lambda weights: -np.diff(means(weights), axis=0)[0], units)
    if not interval.high < -LEAST_GAP:
        return []
    of_rare, of_others = means(np.ones((1, len(evaluation.image_ids))))[:, 0]
    added = tuple(dict.fromkeys((*losses, WEIGHTED, "cross_entropy+dice")))
    usual = losses[0] if now is None or now.default is None else str(now.default)
    reason = "as before, and losses that give rare classes more weight"
    names = some_of([class_names[place] for place in rare.tolist()])
    why = (
        f"{counted(len(rare), 'class', 'classes')} with less than {limit:.2%} of train's pixels each ({names}) "
        f"{'has' if len(rare) == 1 else 'have'} a mean IoU of {of_rare:.2f}, the others {of_others:.2f}: a difference "
        f"of {of_rare - of_others:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}] on val, which need not be due to "
        "their being rare"
    )
    loss = choice("loss.name", added, default=usual, role="scientific", reason=reason)
    held = [one for one in loss_parameters(added) if not searched.is_held(one.key)]
    return [Proposal("class weights and an overlap loss", why, (loss, *held), loss_point(WEIGHTED))]
