"""All rules, in the order of the page."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.failures.kinds import Kinds
from analysis.failures.split import SplitFailures
from analysis.kept import Evaluation
from analysis.next_sweep.aimed import aimed_at_factors
from analysis.next_sweep.edges import off_edges
from analysis.next_sweep.proposal import Proposal, Searched
from analysis.next_sweep.rare import for_rare_classes
from analysis.next_sweep.small import larger_input
from sweep.objectives import Objective


def propose(
    searched: Searched,
    trials: pd.DataFrame,
    objective: Objective,
    effects: pd.DataFrame,
    failures: SplitFailures,
    evaluation: Evaluation,
    kinds: Kinds,
    class_names: Sequence[str],
    train_pixels: Sequence[int],
) -> tuple[Proposal, ...]:
    """Everything that val speaks for, in the order of the page.

    Args:
        searched: The sweep's space and the winner in it.
        trials: The rows of `trials.csv`.
        objective: What ranks them.
        effects: Rows of the table `factors` of the winner on val.
        failures: Of the winner on val.
        evaluation: Of the winner on val.
        kinds: Of the classes.
        class_names: By class id.
        train_pixels: Of each class in train.
    """
    return (
        *off_edges(searched, trials, objective),
        *aimed_at_factors(searched, effects),
        *larger_input(searched, failures, evaluation),
        *for_rare_classes(searched, evaluation, kinds, class_names, train_pixels),
    )
