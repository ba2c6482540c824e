"""What the terminal shows before and after the trials: the plan, the space, where Ray is, the answer."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from search_spaces import Parameter, SearchSpace
from search_spaces.core.parameter import readable
from sweep.objectives import Objective
from sweep.trials import TrialView
from sweep.trials_csv import TRIALS_FILE
from trainables import commands
from trainables.config import NUMBERS, TrialConfig, format_size
from trainables.labels import BASELINE, BEST
from trainables.registry import Scalar
from trainables.words import counted

if TYPE_CHECKING:
    from sweep.plan import MeasuredCost, Plan
    from sweep.planning import Asked
    from trainables.cost import Cost
    from trainables.data import SegmentationData, Splits
    from trainables.execution import Execution


def show_question(
    console: Console,
    space: SearchSpace,
    base: Mapping[str, Scalar],
    data: SegmentationData,
    splits: Splits,
    *,
    how: str,
    execution: Execution,
) -> None:
    """Says what will be tried on which data.

    Args:
        console: Where to.
        space: With overrides fixed.
        base: Keys common to all trials.
        data: The data set.
        splits: Its splits.
        how: Sampler, scheduler and trials at once.
        execution: Of every trial.
    """
    table = _rows()
    table.add_row("space", f"{space.name} - {space.description}")
    table.add_row("", f"{len(space.parameters)} parameters, labels by {space.label_by}; {how}")
    known = space.trial_config(base, space.start[0] if space.start else {})
    table.add_row(BASELINE, describe(known))
    table.add_row(
        "data",
        f"{data.name}, {len(data.classes)} classes: {len(splits.train)} train, {len(splits.val)} val, "
        f"{len(splits.test)} test (sealed)",
    )
    for warning in splits.warnings:
        table.add_row("", Text(warning, style="yellow"))
    table.add_row("execution", describe_execution(execution))
    console.print(Panel(table, title="what will be tried", title_align="left", border_style="dim"))


def show_plan(console: Console, plan: Plan, asked: Asked, *, at_once: int, note: str) -> None:
    """Says what the budget buys.

    Args:
        console: Where to.
        plan: Of the sweep.
        asked: What the command asked for.
        at_once: Processes that measured the costs side by side.
        note: At which epochs trials are compared.
    """
    table = _rows()
    about = "about " if asked.time_budget is not None and asked.trials is None else ""
    table.add_row("search", f"{about}{counted(plan.trials, 'trial')} of up to {counted(plan.max_epochs, 'epoch')}")
    if untried := _untried(plan.starting_points, asked.trials):
        table.add_row("", Text(untried, style="yellow"))
    elif not plan.search_is_possible:
        which = f"{plan.trials} of the" if plan.trials < plan.starting_points else "the"
        told = f"no room for a search: {which} {plan.starting_points} starting points of the space are tried"
        table.add_row("", Text(told, style="yellow"))
    table.add_row("", Text(note, style="dim"))
    epochs = f"{plan.search_epochs:.0f} epochs are expected, and {plan.finish_epochs:.0f} to finish stopped labels"
    table.add_row("", epochs)
    costs = list(_epochs(plan.costs))
    if costs:
        table.add_row("one epoch", f"{', '.join(costs)} (measured with {at_once} at once)")
        bound = "" if asked.time_budget is None else f" of {time_text(asked.time_budget)}"
        parts = f"{plan.trials_seconds:.0f} s of trials, {plan.report_seconds:.0f} s kept for the report on val"
        table.add_row("time", f"about {_rounded(plan.seconds)}{bound}: {parts}")
        gpu = f", {plan.gpu_hours:.2g} GPU hours" if plan.gpu_hours else ""
        table.add_row("needs", f"{_bytes(plan.memory_bytes)} of memory, up to {_bytes(plan.disk_bytes)} on disk{gpu}")
    else:
        table.add_row("time", "not predicted: the trials run on machines that this one cannot measure")
    table.add_row("evidence", "one seed per configuration: the best is a candidate, and no gain can be confirmed")
    console.print(Panel(table, title="plan", title_align="left", border_style="dim"))


def _epochs(costs: Sequence[MeasuredCost]) -> Iterator[str]:
    """Seconds of an epoch of each model, from the cheapest to the dearest of its sizes, batches and frozen parts."""
    for model in dict.fromkeys(one.model for one in costs):
        seconds = [one.cost.epoch_seconds for one in costs if one.model == model]
        least = f"{min(seconds):.3g} to " if len(seconds) > 1 else ""
        yield f"{model} {least}{max(seconds):.3g} s"


def show_costs(console: Console, rows: Sequence[tuple[str, Cost]]) -> None:
    """The table of `--check`: what was tried, and what it costs or why it cannot be trained.

    Args:
        console: Where to.
        rows: Descriptions and costs.
    """
    table = Table(box=None, padding=(0, 1), header_style="bold")
    table.add_column("tried")
    for name in ("epoch", "start", "memory", "checkpoint"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for what, cost in rows:
        if cost.fault:
            table.add_row(escape(what), "", "", "", "", Text(cost.fault, style="red"))
            continue
        seconds = (f"{cost.epoch_seconds:.2f} s", f"{cost.build_seconds:.2f} s")
        numbers = (*seconds, _bytes(cost.memory_bytes), _bytes(cost.checkpoint_bytes))
        table.add_row(escape(what), *numbers, Text("ok", style="green"))
    console.print(table)


def time_text(seconds: float) -> str:
    """A time as `--time-budget` takes it, such as 90s, 30m or 1h30m."""
    whole = round(seconds)
    parts = [(whole // 86400, "d"), (whole % 86400 // 3600, "h"), (whole % 3600 // 60, "m"), (whole % 60, "s")]
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"


def _rounded(seconds: float) -> str:
    """A prediction, not finer than it deserves."""
    step = 10 if seconds < 600 else 60 if seconds < 7200 else 600
    return time_text(max(step, round(seconds / step) * step))


def _bytes(number: int) -> str:
    return f"{number / 2**30:.1f} GiB" if number >= 2**29 else f"{number / 2**20:.0f} MiB"


def _rows() -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def show_space(
    console: Console,
    space: SearchSpace,
    base: Mapping[str, Scalar],
    *,
    trials: int | None,
    own_epochs: bool = True,
    note: str,
) -> None:
    """Prints the compiled space: every key once, with its role, default, range, condition and reason.

    An image size that the space neither searches nor holds is the data set's, whatever `base` has.

    Args:
        console: Where to.
        space: With overrides fixed.
        base: Keys common to all trials.
        trials: Of the search; None where the time budget decides.
        own_epochs: Whether the epochs were set; else they follow from the time budget.
        note: At which epochs trials are compared.
    """
    searched = [parameter.key for parameter in space.parameters]
    console.print(f"[bold]{escape(space.name)}[/bold] - {escape(space.description)}", highlight=False)
    console.print(f"Labels by [bold]{space.label_by}[/bold]; {note}.\n", highlight=False)
    held = {key: value for key, value in {**base, **space.fixed}.items() if key not in searched}
    own_size = "image_size" in {*searched, *space.fixed}
    if not own_size:
        held["image_size"] = "the data set's own"
    if not own_epochs:
        held["epochs"] = "from the time budget"
    width = max(map(len, ["parameter", *searched, *held]))
    console.print(Text(f"{'parameter':<{width}}  {'role':<10}  default", style="bold"))
    for parameter in space.parameters:
        console.print(_row(width, parameter.key, parameter.role, parameter.default))
        console.print(Padding(_notes(parameter), (0, 0, 0, 4), expand=False))
    for key, value in held.items():
        console.print(_row(width, key, "fixed", value))
        if space.reasons.get(key):
            console.print(Padding(Text(space.reasons[key], style="dim"), (0, 0, 0, 4), expand=False))
    console.print("\n[bold]Tried first[/bold]")
    for index, point in enumerate(space.start):
        config = space.trial_config(base, point)
        label = BASELINE if index == 0 else space.label(config.flat())
        line = Text(f"{label}: {describe(config, size=own_size)}")
        console.print(Padding(line, (0, 0, 0, 2), expand=False))
    if untried := _untried(len(space.start), trials):
        console.print(Text(untried, style="yellow"))


def _untried(points: int, trials: int | None) -> str:
    """Says that there are fewer trials than starting points; empty if there are enough."""
    if trials is None or trials >= points:
        return ""
    return f"{points} starting points are tried first, but there are only {trials} trials: use --trials {points}"


def _row(width: int, key: str, role: str, default: Scalar | None) -> Text:
    return Text.assemble((f"{key:<{width}}", "bold"), f"  {role:<10}  {'' if default is None else readable(default)}")


def _notes(parameter: Parameter) -> Text:
    """Range, condition and reason."""
    text = Text(parameter.range_text())
    if parameter.when:
        text.append(", if " + " and ".join(map(str, parameter.when)), style="cyan")
    if parameter.reason:
        text.append(f": {parameter.reason}", style="dim")
    return text


def describe_execution(execution: Execution) -> str:
    """How trials are run, in one line: device, precision, memory layout, threads and processes, cache."""
    parts = [
        f"{execution.precision} on {execution.device}",
        *(["channels last"] if execution.channels_last else []),
        *(["compiled"] if execution.compile else []),
        f"{counted(execution.threads, 'thread')} per trial",
        *([counted(execution.workers, "loader process", "loader processes")] if execution.workers else []),
        f"decoded images up to {execution.cache_bytes / 2**30:.3g} GiB"
        if execution.cache_bytes
        else "no decoded cache",
    ]
    return ", ".join(parts)


def describe(config: TrialConfig, *, size: bool = True, short: bool = False) -> str:
    """A configuration in one line; `short` counts the transformations of a long policy."""
    policy = config.augment.describe()
    if short and len(config.augment.transforms) > 3:
        policy = f"{config.augment.family}: {len(config.augment.transforms)} transformations"
    parts = [
        config.model.name,
        config.loss.name,
        f"{config.optimizer.name} lr {config.optimizer.params['lr']:g}",
        config.schedule.name,
        *([format_size(config.image_size)] if size else []),
        *([f"batches of {config.batch_size}"] if config.batch_size != NUMBERS["batch_size"][1] else []),
        *_learning(config),
        policy,
    ]
    return ", ".join(parts)


def _learning(config: TrialConfig) -> Iterator[str]:
    """What of predefined weights is kept, and the backbone's share of the rate; nothing where nothing is predefined."""
    if config.model.params["weights"] == "none":
        return
    frozen, share = config.training.freeze, config.training.backbone_lr
    if frozen != "none":
        yield f"{frozen} frozen"
    if frozen != "backbone" and share != 1.0:
        yield f"backbone lr x{share:.3g}"


def show_ray(console: Console, *, url: str | None, protected: bool) -> None:
    """Says where the Ray dashboard is, and, in red, if anybody may use this Ray.

    Args:
        console: Where to.
        url: Of the dashboard, or None.
        protected: Whether Ray asks for its token.
    """
    if not protected:
        console.print(
            "[bold red]Ray's token authentication is off[/bold red]: anybody who reaches this Ray over the network can "
            "run code on its machines. Unset RAY_AUTH_MODE, or see Ray's documentation of token authentication.",
            soft_wrap=True,
        )
    if url and protected:
        told = f"Ray dashboard: {url}  (it asks for a token: `ray get-auth-token` prints it)"
        console.print(told, soft_wrap=True)
    elif url:
        console.print(f"Ray dashboard: {url}  [red](open to anybody)[/red]", soft_wrap=True)


def show_answer(
    console: Console,
    labels: Mapping[str, TrialView],
    *,
    seeds: Sequence[TrialView],
    dead: Mapping[str, str],
    objective: Objective,
    run_dir: Path,
    openings: int,
    failed: int,
) -> None:
    """The best configuration, its score beside the baseline's, where the run is, what to type next.

    Args:
        console: Where to.
        labels: The trial that represents each label; includes `best`.
        seeds: The trials of the best configuration, of all its seeds.
        dead: Why labels learnt nothing, by label; printed first.
        objective: What ranks.
        run_dir: The run.
        openings: Of its test split so far.
        failed: How many trials failed.
    """
    best = labels[BEST]
    config = TrialConfig.from_flat(best.config)
    label = escape(best.label)
    console.print()
    if dead:
        console.print(f"[bold red]dead[/bold red]      {escape(_dead_text(dead, labels))}", soft_wrap=True)
    console.print(
        f"[bold]best[/bold]      {label} ({best.trial_id}): {describe(config, short=True)}",
        highlight=False,
        soft_wrap=True,
    )
    told = escape(_score_text(labels, seeds, dead, objective))
    console.print(f"[bold]{objective.key}[/bold]  {told}", highlight=False, soft_wrap=True)
    troubled = f"; {failed} trials failed, see logs/ and {TRIALS_FILE} there" if failed else ""
    console.print(f"[bold]run[/bold]       {escape(str(run_dir))}{troubled}", highlight=False, soft_wrap=True)
    if len(dead) == len(labels):
        told = f"{commands.report(run_dir, '--split', 'val')}   (see what it predicts; the test split can wait)"
        console.print(f"[bold]next[/bold]      {escape(told)}", highlight=False, soft_wrap=True)
        return
    console.print(f"[bold]next[/bold]      {escape(commands.report(run_dir))}", highlight=False, soft_wrap=True)
    console.print(f"          opens the test split, opened {counted(openings, 'time')} so far", highlight=False)


def show_time(console: Console, budget: float, *, took: float) -> None:
    """Says how long the whole command took, beside the time that it was given.

    Args:
        console: Where to.
        budget: Seconds.
        took: Seconds, over all resumes.
    """
    late = took > 1.05 * budget
    told = f"took {time_text(took)} of {time_text(budget)}" + (", longer than it was given" if late else "")
    console.print(f"[bold]time[/bold]      {told}", highlight=False, style="yellow" if late else None)


def _dead_text(dead: Mapping[str, str], labels: Mapping[str, TrialView]) -> str:
    """Which labels learnt nothing and why; labels of one trial are named together."""
    by_reason: dict[str, list[str]] = {}
    for label, reason in dead.items():
        by_reason.setdefault(reason, []).append(label)
    told = "; ".join(
        f"{', '.join(of_reason)} {reason if len(of_reason) == 1 else _plural(reason)}"
        for reason, of_reason in by_reason.items()
    )
    everyone = "no label learnt anything: " if len(dead) == len(labels) else ""
    return f"{everyone}{told}. More epochs, predefined weights or another learning rate come first"


def _plural(reason: str) -> str:
    verb, _, rest = reason.partition(" ")
    return f"{verb.removesuffix('s')} {rest}"


def _score_text(
    labels: Mapping[str, TrialView], seeds: Sequence[TrialView], dead: Mapping[str, str], objective: Objective
) -> str:
    """The score of the best configuration beside the baseline's; a mean and a range where it has several seeds."""
    best, baseline = labels[BEST], labels.get(BASELINE)
    scores = [trial.metrics[objective.key] for trial in seeds]
    if len(scores) > 1:
        mean, low, high = map(objective.show, (statistics.fmean(scores), min(scores), max(scores)))
        spread = f"mean {mean} of {len(scores)} seeds, {low} .. {high}"
        beside = "the baseline's own configuration" if baseline is best else "chosen on val: no claim"
        return f"{spread}  ({beside})"
    score = objective.show(best.metrics[objective.key])
    if baseline is None:
        return f"{score}  (the baseline did not finish: see its log)"
    if baseline.trial_id == best.trial_id:
        return f"{score}  (it is the baseline itself: nothing tried scored higher)"
    other = baseline.metrics[objective.key]
    if BEST in dead:
        return f"{score}  (baseline {objective.show(other)}; neither is a result)"
    gain = best.metrics[objective.key] - other
    return f"{score}  (baseline {objective.show(other)}, {gain:+.4f}; one seed each and chosen on val: no evidence yet)"
