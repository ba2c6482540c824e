"""The failures of a run's checkpoints, from their kept evaluations."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from analysis.failures.kinds import Kinds
from analysis.failures.split import ImageFailures, SplitFailures, measure_image, measure_split
from analysis.kept import Evaluation, OnStep
from trainables.data.base import SegmentationData


def measure_checkpoints(
    trial_ids: Mapping[str, str],
    evaluations: Mapping[str, Evaluation],
    data: SegmentationData,
    kinds: Kinds,
    *,
    iou_limit: float,
    progress: OnStep | None = None,
) -> dict[str, SplitFailures]:
    """What each label did wrong on every image; labels of one trial are measured once.

    Args:
        trial_ids: Trial id of each label.
        evaluations: By trial id, all on the same images.
        data: Source of the images and true masks.
        kinds: Of the classes.
        iou_limit: A region fails at or below it.
        progress: Called with how many images are done.

    Returns:
        By label.
    """
    names = [info.name for info in data.classes]
    trials = {trial_id: evaluations[trial_id] for trial_id in trial_ids.values()}
    image_ids = next(iter(evaluations.values())).image_ids

    def of_image(place: int) -> list[ImageFailures]:
        return measure_image(
            data.mask(image_ids[place]),
            [evaluation.prediction(image_ids[place]) for evaluation in trials.values()],
            names,
            kinds,
            iou_limit=iou_limit,
            confusions=[evaluation.confusions[place] for evaluation in trials.values()],
            image=data.image(image_ids[place]),
            bands=data.bands,
        )

    found = measure_split(
        image_ids, of_image, list(trials), progress=progress and functools.partial(progress, "failures")
    )
    return {label: found[trial_id] for label, trial_id in trial_ids.items()}
