"""What was run, in enough detail to run it again."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import ticker

from analysis.colours import light
from analysis.report.drawing import FIGURES, Drawing, empty_figure, plain
from analysis.report.methods import methods_text
from analysis.report.page import MOST_ROWS, SECTIONS, Evidence, Material, Section, render_section
from analysis.report.tables import readable
from analysis.results import Results
from search_spaces.core.parameter import Parameter
from sweep.candidate import SEED, show_value
from sweep.manifest import Budget, SplitRecords
from sweep.objectives import Objective
from sweep.phase_kinds import EXPLORING
from sweep.trials_csv import CONFIG, config_columns
from trainables import commands
from trainables.words import counted


@SECTIONS.register("run")
def run_section(material: Material) -> Section:
    """What was run, in enough detail to run it again."""
    results = material.results
    manifest = results.manifest
    configs = {label: record.config.flat() for label, record in results.labels.items()}
    return render_section(
        "run",
        "What was run",
        Evidence.RECORD,
        command=shlex.join(manifest.command),
        report_command=commands.report(results.run_dir, "--split", results.split),
        differences=differences(configs),
        configs=configs,
        hyperparameters=material.figures.get("hyperparameters"),
        space_name=manifest.space.name,
        space_description=manifest.space.description,
        space=readable(space_frame(manifest.space.parameters)),
        splits=readable(splits_frame(manifest.data.splits)),
        facts=run_facts(results),
        versions=manifest.versions,
        trials=readable(shown_trials(results.trials, results.objective)),
        trial_count=len(results.trials),
        objective=results.objective.key,
        states=_count_states(results.trials),
        cost=readable(results.cost),
        foreseen=readable(results.foreseen),
        without_time=results.without_time,
        methods=methods_text(results),
    )


def shown_trials(trials: pd.DataFrame, objective: Objective) -> pd.DataFrame:
    """The trials that the page lists, in their order: all of them, or those of the best scores where they are many."""
    if len(trials) <= MOST_ROWS:
        return trials
    scores = pd.to_numeric(trials.get(objective.key, pd.Series(np.nan, trials.index)), errors="coerce")
    ranks = scores.map(objective.goodness).fillna(-np.inf).rank(method="first", ascending=False)
    return trials[ranks <= MOST_ROWS]


def differences(configs: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Configuration keys in which the labels differ.

    Args:
        configs: Flat configuration by label, the reference first.

    Returns:
        The labels, and for each differing key its values in their order; `-` where a label does not have the key.
    """
    labels = list(configs)
    keys = dict.fromkeys(key for config in configs.values() for key in config)
    rows = []
    for key in keys:
        values = [show_value(configs[label][key]) if key in configs[label] else "-" for label in labels]
        if len(set(values)) > 1:
            rows.append((key, values))
    return labels, rows


def space_frame(parameters: Sequence[Parameter]) -> pd.DataFrame:
    """The compiled space as a table: key, range or choices, scale, role, condition, reason."""
    columns = ["key", "range", "scale", "role", "when", "reason"]
    rows = []
    for parameter in parameters:
        ends = [show_value(end) for end in parameter.ends()]
        if parameter.kind == "choice":
            range_, scale = ", ".join(ends), ""
        else:
            step = f", step {show_value(parameter.step)}" if parameter.step else ""
            range_, scale = " .. ".join(ends) + step, "log" if parameter.log else "linear"
        when = " and ".join(map(str, parameter.when))
        rows.append([parameter.key, range_, scale, parameter.role, when, parameter.reason])
    return pd.DataFrame(rows, columns=columns)


def splits_frame(splits: SplitRecords) -> pd.DataFrame:
    """Images and content hash of each split."""
    records = {"train": splits.train, "val": splits.val, "test": splits.test}
    rows = [[name, record.images, record.hash] for name, record in records.items()]
    return pd.DataFrame(rows, columns=["split", "images", "sha256"])


def run_facts(results: Results) -> list[tuple[str, str]]:
    """Data, budget and machine as pairs of name and value."""
    manifest = results.manifest
    budget, hardware, resources, execution = manifest.budget, manifest.hardware, manifest.resources, manifest.execution
    return [
        ("Started", manifest.created),
        ("Data", f"{manifest.data.name}, {len(results.classes)} classes"),
        ("Splits", manifest.data.origin),
        ("Objective", ", ".join(f"{one.key} ({one.metric.direction})" for one in results.objectives)),
        *([("Time per image", "; ".join(map(str, manifest.latencies)))] if manifest.latencies else []),
        ("Sampler, scheduler", f"{manifest.search.sampler}, {manifest.search.scheduler}"),
        ("Budget", budget_text(budget)),
        ("Concurrent trials", str(resources.concurrent)),
        ("Seed", str(manifest.seed)),
        (
            "A trial's share",
            f"{resources.cpus_per_trial} CPU, {resources.gpus_per_trial} GPU, {execution.threads} threads",
        ),
        ("Precision", f"{execution.precision} on {execution.device}"),
        ("Machine", f"{hardware.cpu}, {hardware.cores} cores, {hardware.memory_gib} GiB"),
        ("GPUs", ", ".join(hardware.gpus) or "none"),
        ("Platform", hardware.platform),
    ]


def budget_text(budget: Budget) -> str:
    """What a sweep was allowed to spend, in words."""
    about = "about " if budget.open_ended else ""
    text = f"{about}{counted(budget.trials, 'trial')} of up to {counted(budget.max_epochs, 'epoch')}"
    if budget.time_budget is not None:
        text += f", within {budget.time_budget:.0f} s"
    return text if budget.gpu_hours is None else f"{text}, {budget.gpu_hours:g} GPU hours"


def _count_states(trials: pd.DataFrame) -> str:
    counts = Counter(zip(trials["phase"], trials["state"], strict=True))
    return ", ".join(f"{count} {state} ({phase})" for (phase, state), count in counts.items())


MIN_TRIALS = 5
"""Fewer trials say nothing about a hyperparameter."""


@FIGURES.register("hyperparameters")
def draw_hyperparameters(results: Results) -> Drawing | None:
    """Each numeric hyperparameter against the objective, once there are `MIN_TRIALS` trials to see anything in."""
    metric = results.manifest.objective
    trials = results.trials
    if metric not in trials:
        return None
    trials = trials[trials["phase"].isin(EXPLORING) & np.isfinite(pd.to_numeric(trials[metric], errors="coerce"))]
    columns = numeric_hyperparameters(trials)
    if len(trials) < MIN_TRIALS or not columns:
        return None
    log_keys = {parameter.key for parameter in results.manifest.space.parameters if parameter.log}
    across = 4
    rows = math.ceil(len(columns) / across)
    figure = empty_figure(0.5 + 2.0 * rows)
    panels = np.atleast_1d(figure.subplots(rows, across, sharey=True, squeeze=False)).ravel()
    finished = trials["state"] == "completed"
    for axes, column in zip(panels, columns, strict=False):
        key = column.removeprefix(CONFIG)
        values = pd.to_numeric(trials[column], errors="coerce")
        axes.plot(values[~finished], trials.loc[~finished, metric], "o", color=light("muted"), alpha=0.55, markersize=4)
        axes.plot(values[finished], trials.loc[finished, metric], "o", color=light("accent"), markersize=5)
        axes.set_xlabel(plain(key))
        if key in log_keys and (values.dropna() > 0).all():
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(ticker.NullFormatter())
        else:
            axes.xaxis.set_major_locator(ticker.MaxNLocator(4))
    for axes in panels[len(columns) :]:
        axes.set_visible(False)
    for row in range(rows):
        panels[row * across].set_ylabel(metric)
    return Drawing(
        figure,
        f"Value of each numeric hyperparameter against the last {metric} of {counted(len(trials), 'search trial')}. "
        "Blue: trained to the end; grey: stopped early, so at fewer epochs.",
    )


def numeric_hyperparameters(trials: pd.DataFrame) -> list[str]:
    """Columns of the configuration that hold at least three different numbers, the seed left out."""
    found = []
    for column in config_columns(trials):
        if column == CONFIG + SEED:
            continue
        values = pd.to_numeric(trials[column].dropna(), errors="coerce")
        if values.notna().all() and values.nunique() >= 3 and trials[column].dtype != bool:
            found.append(column)
    return found
