"""What a sweep's budget buys, as data: printed first, kept in the manifest, compared with the outcome in the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sweep.journal import Event
from trainables.cost import Cost

NOT_DONE = {
    "skipped": "the starting point of {label} was not tried: {reason}",
    "unfinished": "{trial_id} was not trained to its last epoch: {reason}",
    "time_over": "no further trial was begun: {reason}",
    "confirm_over": "no further seed was trained: {reason}",
    "left_out": "{trial_id} was trained with no further seed: {reason}",
}
"""Events of the journal for which a time budget had no room, or which were not worth it, as sentences."""


def not_done(event: Event) -> str:
    """The sentence of an event of `NOT_DONE`."""
    return NOT_DONE[event["event"]].format(**event)


GAIN = 0.02
"""The gain whose chance of being confirmed a plan tells."""
SEED_SD = 0.012
"""How far a seed is taken to move a score before anything was trained; on the embedded images it was 0.006."""
IMAGE_SPREAD = 0.04
"""How far other images are taken to move a difference of two configurations, times the square root of their number,
before anything was trained: 100 of the embedded images moved it by 0.004."""


@dataclass(frozen=True)
class MeasuredCost:
    """What trials cost that agree in all that decides it, with the known-good settings otherwise.

    Attributes:
        model: Name of the model.
        image_size: HEIGHTxWIDTH.
        cost: As measured while as many processes ran as trials will.
        batch_size: Images per step; 0 where the space does not vary them.
        freeze: `training.freeze`; empty where the space does not vary it.
        gpus: That a trial is given, of `--gpus-per-trial auto`; 0 where every trial is given the same.
        resize: How images come to the input; empty where the space does not vary it.
    """

    model: str
    image_size: str
    cost: Cost
    batch_size: int = 0
    freeze: str = ""
    gpus: float = 0.0
    resize: str = ""

    def settings(self) -> dict[str, Any]:
        """What it is the cost of, as flat keys."""
        varied = {"batch_size": self.batch_size, "training.freeze": self.freeze, "resize": self.resize}
        return {"model.name": self.model, "image_size": self.image_size, **{k: v for k, v in varied.items() if v}}

    def __str__(self) -> str:
        batches = f", batches of {self.batch_size}" if self.batch_size else ""
        resized = f", {self.resize}" if self.resize else ""
        return f"{self.model} at {self.image_size}{resized}{batches}" + (
            f", {self.freeze} frozen" if self.freeze else ""
        )


def cost_of(costs: Iterable[MeasuredCost], config: Mapping[str, Any]) -> Cost | None:
    """The cost of a configuration; where its batches or what it freezes were not measured, of its model and size.

    Args:
        costs: Of a plan.
        config: Flat; keys that decide the cost may be missing where a sweep holds them.
    """
    found = _measured(costs, config)
    return found.cost if found is not None else None


def gpus_of(costs: Iterable[MeasuredCost], config: Mapping[str, Any], usual: float) -> float:
    """The GPUs that a trial is given.

    Args:
        costs: Of a plan.
        config: As of `cost_of`.
        usual: `--gpus-per-trial`, or the smallest part of a GPU that `auto` gives.
    """
    found = _measured(costs, config)
    return found.gpus if found is not None and found.gpus else usual


def _measured(costs: Iterable[MeasuredCost], config: Mapping[str, Any]) -> MeasuredCost | None:
    def agreeing(one: MeasuredCost) -> int:
        return sum(str(config.get(key, value)) == str(value) for key, value in one.settings().items())

    alike = [one for one in costs if (one.model, one.image_size) == _model_and_size(config)]
    return max(alike, key=agreeing, default=None)


def _model_and_size(config: Mapping[str, Any]) -> tuple[str, str]:
    return str(config["model.name"]), str(config["image_size"])


@dataclass(frozen=True)
class Plan:
    """A sweep as it was foreseen.

    Attributes:
        trials: Of the search; with a time budget and without `--trials` what fits decides, and this is a prediction.
        max_epochs: Of a full trial.
        starting_points: How many the space has; they are tried first.
        compared: When the stop rule compares trials, in words; empty if it never does.
        search_epochs: Expected of the search, over all trials.
        finish_epochs: Expected of labels whose best trial was stopped, and is trained to the end.
        prepare_seconds: From the start of the command to its first trial.
        trials_seconds: Expected of search and finish.
        report_seconds: Kept for the end: models are published, and val is reported on with as many labels as expected.
        labels: How many these are.
        label_seconds: Of the report for each label.
        gpu_hours: Expected.
        memory_bytes: The most that all trials that run at once hold, of the machine's or of its GPUs' memory.
        disk_bytes: The most that checkpoints can take.
        costs: Of every model and size and, where the space varies them, of batches and of what is frozen.
        confirm_top: Configurations that are trained again with fresh seeds beside the baseline; 0 for none.
        confirm_seeds: Fresh seeds of each.
        confirm_epochs: Expected of them.
        confirm_seconds: Expected of them.
        image_sd: How far other images would move a difference, as assumed (`IMAGE_SPREAD`).
        power: How often a true gain of `GAIN` is expected to be claimed on val.
        detectable: A true gain that is expected to be claimed in 8 of 10 cases.
        refit_seconds: Kept for training the winner again on train and val together; 0 where none are.
        train_images: Of the train split; 0 in plans from before there was a refit.
        val_images: Of the val split.
    """

    trials: int
    max_epochs: int
    starting_points: int
    compared: str
    search_epochs: float
    finish_epochs: float
    prepare_seconds: float
    trials_seconds: float
    report_seconds: float
    labels: int
    label_seconds: float
    gpu_hours: float
    memory_bytes: int
    disk_bytes: int
    costs: tuple[MeasuredCost, ...]
    confirm_top: int = 0
    confirm_seeds: int = 0
    confirm_epochs: float = 0.0
    confirm_seconds: float = 0.0
    image_sd: float = 0.0
    power: float = 0.0
    detectable: float = 0.0
    refit_seconds: float = 0.0
    train_images: int = 0
    val_images: int = 0

    @property
    def seconds(self) -> float:
        """Expected of the whole command."""
        trials = self.trials_seconds + self.confirm_seconds + self.refit_seconds
        return self.prepare_seconds + trials + self.report_seconds

    @property
    def end(self) -> str:
        """What `report_seconds` are kept for, in words: without a report models are published all the same."""
        return "for the report on val" if self.label_seconds else "to publish the models"

    def refit_growth(self, config: Mapping[str, Any]) -> float:
        """How many times longer an epoch of the refit takes than one of a trial of the same configuration."""
        cost = cost_of(self.costs, config)
        images = 1 + self.val_images / max(1, self.train_images)
        if cost is None or not cost.epoch_seconds:
            return images
        return images * cost.train_seconds / cost.epoch_seconds

    @property
    def search_is_possible(self) -> bool:
        """Whether more than the starting points are tried."""
        return self.trials > self.starting_points
