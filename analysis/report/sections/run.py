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

from analysis.candidates import show_value
from analysis.colours import light
from analysis.report.drawing import FIGURES, Drawing, count_noun, empty_figure, plain
from analysis.report.page import SECTIONS, Evidence, Material, Section, render_section
from analysis.report.tables import readable
from analysis.results import Results
from search_spaces.core.parameter import When
from trainables import commands


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
        space_name=manifest.space["name"],
        space_description=manifest.space.get("description") or "",
        space=readable(space_frame(manifest.space.get("parameters", ()))),
        splits=readable(splits_frame(manifest.data.get("splits", {}))),
        facts=run_facts(results),
        versions=manifest.versions,
        trials=readable(results.trials),
        states=_count_states(results.trials),
        cost=readable(results.cost),
    )


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


def space_frame(parameters: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The compiled space as a table: key, range or choices, scale, role, condition, reason."""
    columns = ["key", "range", "scale", "role", "when", "reason"]
    rows = []
    for parameter in parameters:
        if parameter.get("choices"):
            range_ = ", ".join(show_value(choice) for choice in parameter["choices"])
        else:
            range_ = f"{show_value(parameter.get('low'))} .. {show_value(parameter.get('high'))}"
            if parameter.get("step"):
                range_ += f", step {show_value(parameter['step'])}"
        scale = "" if parameter.get("choices") else "log" if parameter.get("log") else "linear"
        when = " and ".join(str(When(w["key"], tuple(w["values"]), w["above"])) for w in parameter.get("when") or ())
        rows.append([parameter["key"], range_, scale, parameter["role"], when, parameter.get("reason") or ""])
    return pd.DataFrame(rows, columns=columns)


def splits_frame(splits: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Images and content hash of each split."""
    rows = [[name, split.get("images"), str(split.get("hash", ""))] for name, split in splits.items()]
    return pd.DataFrame(rows, columns=["split", "images", "sha256"])


def run_facts(results: Results) -> list[tuple[str, str]]:
    """Data, budget and machine as pairs of name and value."""
    manifest = results.manifest
    budget, hardware, resources, execution = manifest.budget, manifest.hardware, manifest.resources, manifest.execution
    return [
        ("Started", manifest.created),
        ("Data", f"{manifest.data['name']}, {len(results.classes)} classes"),
        ("Splits", str(manifest.data.get("origin") or "")),
        ("Objective", f"{manifest.objective} ({manifest.mode})"),
        ("Sampler, scheduler", f"{budget.get('sampler')}, {budget.get('scheduler')}"),
        ("Budget", f"{budget.get('trials')} trials of up to {budget.get('max_epochs')} epochs"),
        ("Concurrent trials", str(budget.get("concurrent"))),
        ("Seed", str(manifest.seed)),
        (
            "A trial's share",
            f"{resources.get('cpus_per_trial')} CPU, {resources.get('gpus_per_trial')} GPU, "
            f"{execution.get('threads')} threads",
        ),
        ("Precision", f"{execution.get('precision')} on {execution.get('device')}"),
        ("Machine", f"{hardware.get('cpu')}, {hardware.get('cores')} cores, {hardware.get('memory_gib')} GiB"),
        ("GPUs", ", ".join(hardware.get("gpus") or ()) or "none"),
        ("Platform", str(hardware.get("platform"))),
    ]


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
    trials = trials[(trials["phase"] == "search") & np.isfinite(pd.to_numeric(trials[metric], errors="coerce"))]
    columns = numeric_hyperparameters(trials)
    if len(trials) < MIN_TRIALS or not columns:
        return None
    log_keys = {p["key"] for p in results.manifest.space.get("parameters", ()) if p.get("log")}
    across = 4
    rows = math.ceil(len(columns) / across)
    figure = empty_figure(0.5 + 2.0 * rows)
    panels = np.atleast_1d(figure.subplots(rows, across, sharey=True, squeeze=False)).ravel()
    finished = trials["state"] == "completed"
    for axes, column in zip(panels, columns, strict=False):
        key = column.removeprefix("config/")
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
        f"Value of each numeric hyperparameter against the last {metric} of {count_noun(len(trials), 'search trial')}. "
        "Blue: trained to the end; grey: stopped early, so at fewer epochs.",
    )


def numeric_hyperparameters(trials: pd.DataFrame) -> list[str]:
    """Columns `config/...` that hold at least three different numbers, the seed left out."""
    found = []
    for column in trials.columns:
        if not column.startswith("config/") or column == "config/seed":
            continue
        values = pd.to_numeric(trials[column].dropna(), errors="coerce")
        if values.notna().all() and values.nunique() >= 3 and trials[column].dtype != bool:
            found.append(column)
    return found
