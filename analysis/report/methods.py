"""The paragraph on methods that a paper needs, with the numbers of one sweep; it is silent about what was not done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.report.page import count_images, format_seconds
from analysis.results import Results
from analysis.scores import units_of
from sweep.candidate import SEED, show_value
from sweep.phase_kinds import CONFIRM, EXPLORING, FINISH
from sweep.verdict import Verdict
from trainables.data.tiles import OVERLAP
from trainables.models.weight_files import shown
from trainables.options import CROP, LETTERBOX, STRETCH, TILE, scale_of, way_of
from trainables.words import counted, some_of

FILE = "methods.txt"
SHOWN_NAMES = 6

SAMPLERS: Mapping[str, str] = {
    "tpe": "Optuna's tree-structured Parzen estimator (TPE)",
    "random": "uniform random draws",
    "qmc": "a scrambled Sobol sequence",
    "grid": "a grid in random order",
    "gp": "Optuna's Gaussian process",
    "nsga2": "NSGA-II",
}
"""Samplers as papers name them; another goes by its own name."""
SCHEDULERS: Mapping[str, str] = {
    "asha": "asynchronous successive halving (ASHA)",
    "median": "the median rule",
    "hyperband": "Hyperband",
    "epoch": "a comparison of all trials at one epoch, which the best third pass",
}
"""The same of stop rules."""
STATES: Mapping[str, str] = {
    "completed": "ran to the last epoch",
    "stopped": "stopped early",
    "infeasible": "diverged or ran out of memory",
    "failed": "failed",
    "interrupted": "interrupted",
}
"""Of a trial, behind a number: no verb that a number would bend."""
FROZEN: Mapping[str, str] = {
    "batch_norm": "the running statistics of all BatchNorm layers",
    "stages": "the first half of the backbone's layers and the running statistics of all BatchNorm layers",
    "backbone": "the whole backbone",
}
"""What `training.freeze` keeps as it was."""
COMMON: Mapping[str, str] = {
    "image_size": "an image size of {} (height x width)",
    "batch_size": "a batch size of {}",
    "optimizer.name": "the optimizer {}",
    "loss.name": "the loss {}",
}
"""What the reported models may have in common, by its key."""
RESIZED: Mapping[str, str] = {
    LETTERBOX: "Each image was resized to fit within the model's input with its aspect kept; the rest of the input was "
    "void.",
    STRETCH: "Each image was stretched to the size of the model's input.",
    CROP: "Each image was resized to cover the model's input with its aspect kept; training saw a random part of that "
    "size, evaluation the whole image.",
    TILE: "Images were {}: training saw random parts of the input's size, and in evaluation windows of that "
    f"size slid over the whole image, overlapping by {OVERLAP:.0%} or more, their logits averaged.",
}
"""How images came to the input, by `resize`."""

Configurations = Sequence[Mapping[str, Any]]
"""Of the reported models, flat."""


def methods_text(results: Results) -> str:
    """Data, splits, models, search, budget, seeds, evaluation and intervals in sentences, for a paper.

    Args:
        results: Of one sweep and split.
    """
    parts = (_data, _models, _search, _states, _budget, _seeds, _evaluation, _intervals)
    return " ".join(sentence for part in parts for sentence in part(results))


def _data(results: Results) -> Iterator[str]:
    data = results.manifest.data
    splits = data.splits
    yield (
        f"The data set {data.name} has {counted(len(data.classes), 'class', 'classes')}; {splits.train.images:,} "
        f"images were used for training, {splits.val.images:,} for validation and {splits.test.images:,} for testing."
    )
    if data.origin:
        yield f"Origin of the splits: {data.origin.rstrip('.')}."


def _models(results: Results) -> Iterator[str]:
    configs = [record.config.flat() for record in results.labels.values()]
    names = _values(configs, "model.name")
    yield f"The reported {'model is' if len(names) == 1 else 'models are'} {some_of(names, SHOWN_NAMES)}."
    weights = _values(configs, "model.weights")
    if weights == ["none"]:
        yield "Training started from random weights."
    elif weights:
        yield f"Training started from predefined weights ({some_of([shown(one) for one in weights], SHOWN_NAMES)})."
    frozen = {one.get("training.freeze", "none") for one in configs} - {"none"}
    for kind in sorted(map(str, frozen)):
        alike = all(one.get("training.freeze") == kind for one in configs)
        yield f"{FROZEN.get(kind, kind)[:1].upper()}{FROZEN.get(kind, kind)[1:]} stayed frozen{_of_some(alike)}."
    shared = [
        words.format(show_value(configs[0][key]))
        for key, words in COMMON.items()
        if key in configs[0] and all(one.get(key) == configs[0][key] for one in configs)
    ]
    if shared:
        yield f"All reported models were trained with {_listed(shared)}."
    ways = {str(one.get("resize", STRETCH)) for one in configs}
    if len(ways) == 1:
        way = ways.pop()
        scale = scale_of(way)
        seen = "not resized" if scale == 1 else f"resized to {scale:g} of their height and width"
        yield RESIZED[way_of(way)].format(seen)
    shares = {float(one.get("training.class_tiles", 0)) for one in configs}
    if len(shares) == 1 and (share := shares.pop()) > 0:
        yield (
            f"Of the training parts {share:.0%} were drawn to show a class: one of those in the image's mask, all "
            "alike, then one of its pixels, then a part in which it lies."
        )


def _values(configs: Configurations, key: str) -> list[str]:
    """The different values of a key, in their order."""
    return list(dict.fromkeys(show_value(one[key]) for one in configs if key in one))


def _of_some(alike: bool) -> str:
    return "" if alike else " in some of them"


def _listed(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _explored(results: Results) -> pd.DataFrame:
    return results.trials[results.trials["phase"].isin(EXPLORING)]


def _search(results: Results) -> Iterator[str]:
    manifest = results.manifest
    count, given = len(_explored(results)), results.starting_points
    keys = [parameter.key for parameter in manifest.space.parameters]
    varied = f", which varies {some_of(keys, SHOWN_NAMES)}," if keys else ""
    sampler = SAMPLERS.get(manifest.search.sampler, manifest.search.sampler)
    proposed = f"proposed by {sampler} with seed {manifest.seed}"
    yield (
        f"The search space {manifest.space.name}{varied} was searched with {counted(count, 'trial')} of at most "
        f"{counted(manifest.budget.max_epochs, 'epoch')} each."
    )
    if given >= count:
        yield f"{'It was' if count == 1 else 'All of them were'} given by the space, the known-good baseline first."
    elif given:
        first = "The first was" if given == 1 else f"The first {given} were"
        others = "the other one was" if count - given == 1 else f"the other {count - given} were"
        baseline = "the known-good baseline" if given == 1 else "the known-good baseline and other starting points"
        yield f"{first} {baseline}, {others} {proposed}."
    else:
        yield f"They were {proposed}."
    ranked = " and ".join(
        f"{one.key} ({'highest' if one.metric.direction == 'max' else 'lowest'} first)" for one in results.objectives
    )
    yield f"Trials were ranked by {ranked}."


def _states(results: Results) -> Iterator[str]:
    search, keys = results.manifest.search, {parameter.key for parameter in results.manifest.space.parameters}
    if search.scheduler != "none" and SEED not in keys:  # where seeds are searched, no trial is stopped
        rule = SCHEDULERS.get(search.scheduler, search.scheduler)
        yield f"The rule that stops trials early was {rule}; the baseline was exempt from it."
    states = _explored(results)["state"].value_counts()
    told = [f"{states[state]} {words}" for state, words in STATES.items() if states.get(state, 0)]
    if told:
        yield f"The trials of the search ended as follows: {', '.join(told)}."
    finished = results.trials[(results.trials["phase"] == FINISH.name) & (results.trials["state"] == "completed")]
    if len(finished):
        yield (
            f"So that models are compared at equal epochs, {counted(len(finished), 'trial')} that had been stopped "
            "early went on to the last epoch afterwards."
        )


def _budget(results: Results) -> Iterator[str]:
    manifest = results.manifest
    budget, machine = manifest.budget, manifest.hardware
    if budget.time_budget is not None:
        whole = "search" if manifest.plan is None else "whole sweep"
        yield f"The time budget of the {whole} was {format_seconds(budget.time_budget)}."
    if budget.gpu_hours is not None:
        yield f"The budget of the search was {budget.gpu_hours:g} GPU hours."
    seconds = format_seconds(float(results.trials["seconds"].sum()))
    at_once = manifest.resources.concurrent
    together = f", up to {at_once} of which ran at a time," if at_once > 1 else ""
    gpus = f" and {', '.join(machine.gpus)}" if machine.gpus else ""
    yield (
        f"The {counted(len(results.trials), 'trial')} of all phases{together} took {seconds} added up, on "
        f"{machine.cpu}{gpus}."
    )


def _seeds(results: Results) -> Iterator[str]:
    verdict, ablation = results.verdict, results.ablation
    if verdict is not None:
        others = counted(len(verdict.contrasts), "other configuration")
        again = " again, with fresh seeds" if CONFIRM.name in set(results.trials["phase"]) else ""
        images = ", to whose variance over seeds that over images is added" if verdict.counts_images else ""
        yield f"The baseline and {others} were trained{again}: {_seed_counts(verdict)} each."
        yield (
            f"They were compared on {verdict.split} by a test of several against one (Dunnett, 1955){images}; the "
            "critical values were simulated, and its 95% intervals hold at once."
        )
    elif results.seeds.empty:
        yield "Each configuration was trained with one seed."
    if ablation is not None:
        yield (
            f"The winner was also trained without each of {counted(len(ablation.contrasts), 'component')}, "
            f"{_seed_counts(ablation)} each, and compared with that on {ablation.split}."
        )


def _seed_counts(verdict: Verdict) -> str:
    counts = sorted({len(one.seeds) for one in verdict.configurations})
    return counted(counts[0], "seed") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"


def _evaluation(results: Results) -> Iterator[str]:
    models = len(set(results.prediction_keys.values()))
    reported = "The reported model was" if models == 1 else f"The {models} reported models were"
    images = f"{count_images(results):,} {'validation' if results.split == 'val' else results.split} images"
    evaluated = f"{reported} evaluated on the {images}, at the original size of their masks"
    if results.split == "val":
        yield f"{evaluated}; these images had also ranked the trials."
    else:
        times = "once" if results.openings == 1 else f"{results.openings} times"
        yield f"{evaluated}; the test split has been opened {times} so far."
    yield "The mIoU is that of one confusion matrix over the whole split, void pixels left out."


def _intervals(results: Results) -> Iterator[str]:
    lows = [column for column in results.comparison if str(column).endswith("_low")]
    if results.comparison.loc[results.comparison["label"].isin(list(results.labels)), lows].notna().any(axis=None):
        units = units_of(next(iter(results.evaluations.values())))
        yield (
            f"Intervals of scores are 95% intervals over {units.count:,} {units.name}: Student's t intervals around "
            "the estimate less its bias, error and bias by the jackknife; they say nothing about other seeds."
        )
