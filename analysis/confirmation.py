"""What fresh seeds showed: the sweep's own verdict on val, and the same configurations on another split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.kept import Evaluation
from analysis.scores import units_of
from sweep.deciding import decide
from sweep.objectives import Objective, SplitObjective
from sweep.verdict import Confirmed, Verdict, worth
from trainables.checkpoint import CHECKPOINTS, latest_checkpoint, publish
from trainables.labels import BASELINE
from trainables.metrics import Replicates
from trainables.paths import within
from trainables.run_folder import REPORT

COLUMNS = (
    *("label", "trial_id", "seeds", "mean", "lowest", "highest"),
    *("difference", "difference_low", "difference_high", "chance", "detectable", "outcome"),
)
"""`chance` and `detectable` as in `sweep.claims.Contrast`; `outcome` is `better`, `worse` or `undecided`."""


def seed_folders(run_dir: Path, verdict: Verdict | None) -> tuple[dict[str, Path], list[str]]:
    """The models of all fresh seeds, to be evaluated on another split than val, by names that are no labels.

    Args:
        run_dir: The run.
        verdict: On val.

    Returns:
        The folders; and what is missing, in one note, where a seed's checkpoint is gone: then nothing is confirmed.
    """
    folders: dict[str, Path] = {}
    for trial_id in (trial for one in verdict.configurations for trial in one.trials) if verdict else ():
        checkpoint = latest_checkpoint(within(run_dir, CHECKPOINTS, trial_id))
        if checkpoint is None:
            return {}, [f"the checkpoint of {trial_id} is gone, so fresh seeds cannot be compared on this split"]
        name = f"trial-{trial_id}"
        folders[name] = within(run_dir, REPORT, "checkpoints", name)
        publish(checkpoint, folders[name], label=name)
    return folders, []


def verdict_on_split(verdict: Verdict, objective: SplitObjective, evaluations: Mapping[str, Evaluation]) -> Verdict:
    """The verdict on the split of some evaluations, which chose nothing: sentences speak of what val chose.

    Args:
        verdict: On val.
        objective: What is compared.
        evaluations: By trial id; of all trials of the verdict.
    """
    first = evaluations[verdict.configurations[0].trials[0]]
    found = [
        Confirmed(
            one.trial_id,
            one.label,
            one.trials,
            one.seeds,
            tuple(map(_score_of(objective, evaluations), one.trials)),
            one.lost,
        )
        for one in verdict.configurations
    ]
    return decide(
        found,
        objective,
        split=first.split,
        collected=lambda trial_id: evaluations[trial_id],
        units=units_of(first),
        chosen_from=None,
        looks=verdict.looks,
        chosen=verdict,
    )


def _score_of(objective: SplitObjective, evaluations: Mapping[str, Evaluation]) -> Callable[[str], float]:
    def score(trial_id: str) -> float:
        evaluation = evaluations[trial_id]
        once = np.ones((1, len(evaluation.image_ids)))
        return float(objective.metric(Replicates(evaluation, once))[0])

    return score


COMPONENT_COLUMNS = ("component", "seeds", "worth", "worth_low", "worth_high", "chance", "outcome")
"""Of the table `components`."""


def components_frame(ablation: Verdict | None, objective: Objective) -> pd.DataFrame:
    """The table `components`: a row per component of the winner; empty where it was not taken apart.

    `chance` is the share of winners without any component of worth in which the largest would seem to be worth as much.
    """
    rows: list[list[object]] = []
    sign = objective.goodness(1.0)
    told = () if ablation is None else zip(ablation.contrasts, worth(ablation, objective), strict=True)
    for contrast, (component, _, outcome) in told:
        low, high = sorted((sign * contrast.low, sign * contrast.high))
        numbers = [contrast.seeds, sign * contrast.difference, low, high, contrast.chance]
        rows.append([component, *numbers, outcome.value])
    frame = pd.DataFrame(rows, columns=list(COMPONENT_COLUMNS))
    return frame.astype(dict.fromkeys(("worth", "worth_low", "worth_high", "chance"), float))


def confirmation_frame(verdict: Verdict | None, objective: Objective) -> pd.DataFrame:
    """The table `confirmation`: a row per configuration with fresh seeds, the baseline first; empty without any.

    Differences are in the objective's own direction.
    """
    rows: list[list[object]] = []
    sign = objective.goodness(1.0)
    contrasts = {} if verdict is None else {one.name: one for one in verdict.contrasts}
    for one in () if verdict is None else verdict.configurations:
        row: list[object] = [one.label, one.trial_id, len(one.seeds), one.mean, min(one.scores), max(one.scores)]
        contrast = contrasts.get(one.trial_id)
        if contrast is None:
            rows.append([*row, None, None, None, None, None, BASELINE])
            continue
        low, high = sorted((sign * contrast.low, sign * contrast.high))
        numbers = [sign * contrast.difference, low, high, contrast.chance, contrast.detectable]
        rows.append([*row, *numbers, verdict.outcome_of(contrast).value if verdict else ""])
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    numeric = [name for name in COLUMNS if name not in ("label", "trial_id", "seeds", "outcome")]
    return frame.astype(dict.fromkeys(numeric, float))
