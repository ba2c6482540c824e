"""The paragraph on methods that a paper needs, with the numbers of one sweep; it is silent about what was not done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from analysis.report.page import count_images, format_seconds
from analysis.results import Results
from analysis.scores import units_of
from sweep.candidate import show_value
from sweep.phase_kinds import EXPLORING
from trainables.words import counted, some_of

FILE = "methods.txt"
SHOWN_NAMES = 6

SAMPLERS: Mapping[str, str] = {
    "tpe": "Optuna's tree-structured Parzen estimator (TPE)",
    "random": "uniform random draws",
    "qmc": "a quasi-random sequence",
    "grid": "a grid",
    "gp": "Optuna's Gaussian process",
    "nsga2": "NSGA-II",
}
"""Samplers as papers name them; another goes by its own name."""
SCHEDULERS: Mapping[str, str] = {
    "asha": "asynchronous successive halving (ASHA)",
    "median": "the median rule",
    "hyperband": "Hyperband",
}
"""The same of stop rules."""
STATES: Mapping[str, str] = {
    "completed": "ran to their last epoch",
    "stopped": "were stopped early",
    "infeasible": "diverged or ran out of memory",
    "failed": "failed",
    "interrupted": "were interrupted",
}
COMMON: Mapping[str, str] = {
    "image_size": "an image size of {} (height x width)",
    "batch_size": "a batch size of {}",
    "optimizer.name": "the optimizer {}",
    "loss.name": "the loss {}",
}
"""What the reported configurations may have in common, by its key."""


def methods_text(results: Results) -> str:
    """Data, splits, models, search, budget, seeds, evaluation and intervals in sentences, for a paper.

    Args:
        results: Of one sweep and split.
    """
    return " ".join((*_data(results), *_models(results), *_search(results), *_seeds(results), *_evaluation(results)))


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
    names = list(dict.fromkeys(show_value(one["model.name"]) for one in configs if "model.name" in one))
    if names:
        yield f"The reported models are {some_of(names, SHOWN_NAMES)}."
    weights = {one.get("model.weights") for one in configs}
    if weights == {"none"}:
        yield "They were trained from scratch."
    elif len(weights) == 1 and None not in weights:
        yield f"They started from {weights.pop()} weights."
    shared = [
        words.format(show_value(configs[0][key]))
        for key, words in COMMON.items()
        if key in configs[0] and all(one.get(key) == configs[0][key] for one in configs)
    ]
    if shared:
        yield f"All of them were trained with {', '.join(shared)}."


def _search(results: Results) -> Iterator[str]:
    manifest = results.manifest
    budget, search = manifest.budget, manifest.search
    trials = results.trials[results.trials["phase"].isin(EXPLORING)]
    keys = [parameter.key for parameter in manifest.space.parameters]
    varied = f", which varies {some_of(keys, SHOWN_NAMES)}," if keys else ""
    yield (
        f"{counted(len(trials), 'configuration')} of the search space {manifest.space.name}{varied} "
        f"{'was' if len(trials) == 1 else 'were'} tried for at most {counted(budget.max_epochs, 'epoch')}, proposed by "
        f"{SAMPLERS.get(search.sampler, search.sampler)} with seed {manifest.seed}."
    )
    if search.scheduler != "none":
        yield f"Trials could be stopped early by {SCHEDULERS.get(search.scheduler, f'the rule {search.scheduler}')}."
    states = trials["state"].value_counts()
    told = [f"{states[state]} {words}" for state, words in STATES.items() if states.get(state, 0)]
    if told:
        yield f"Of these trials {', '.join(told)}."
    limits = [] if budget.time_budget is None else [format_seconds(budget.time_budget)]
    limits += [] if budget.gpu_hours is None else [f"{budget.gpu_hours:g} GPU hours"]
    if limits:
        yield f"The budget was {' and '.join(limits)}."
    ranked = " and ".join(f"{one.key} ({one.metric.direction})" for one in results.objectives)
    yield f"Trials were ranked by {ranked}."
    seconds, machine = float(results.trials["seconds"].sum()), manifest.hardware
    gpus = f" and {', '.join(machine.gpus)}" if machine.gpus else ""
    yield f"All trials together took {format_seconds(seconds)} on {machine.cpu}{gpus}."


def _seeds(results: Results) -> Iterator[str]:
    verdict, ablation = results.verdict, results.ablation
    if verdict is not None:
        counts = sorted({len(one.seeds) for one in verdict.configurations})
        seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        images = ", to whose variance that of the images is added" if verdict.unit_count else ""
        yield (
            f"The baseline and {counted(len(verdict.contrasts), 'configuration')} were trained with {seeds} seeds each "
            f"and compared on {verdict.split} with simultaneous 95% intervals of several against one (Dunnett, 1955)"
            f"{images}."
        )
    elif results.seeds.empty:
        yield "Each configuration was trained with one seed."
    if ablation is not None:
        components = counted(len(ablation.contrasts), "component")
        yield f"The winner was trained again without each of {components}, and compared on {ablation.split}."


def _evaluation(results: Results) -> Iterator[str]:
    count = f"{count_images(results):,}"
    labels = counted(len(results.labels), "label")
    if results.split == "val":
        yield f"The checkpoints of {labels} were evaluated on the {count} validation images, which ranked the trials."
    else:
        times = "once" if results.openings == 1 else f"{results.openings} times"
        yield (
            f"The checkpoints of {labels} were evaluated on the {count} {results.split} images; the test split was "
            f"opened {times}."
        )
    yield "The mIoU is that of one confusion matrix over the whole split, void pixels left out."
    lows = [column for column in results.comparison if str(column).endswith("_low")]
    if results.comparison.loc[results.comparison["label"].isin(list(results.labels)), lows].notna().any(axis=None):
        units = units_of(next(iter(results.evaluations.values())))
        yield (
            f"Intervals of scores are 95% intervals over {units.count:,} {units.name}, by the jackknife with its bias "
            "taken off and Student's t; they say nothing about other seeds."
        )
