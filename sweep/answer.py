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
from sweep.candidate import Candidates, candidate_text
from sweep.claims import Outcome
from sweep.objectives import Objective
from sweep.pareto_view import show_trade_off
from sweep.tally_view import hanging
from sweep.trials import TrialView
from sweep.trials_csv import TRIALS_FILE
from sweep.verdict import named, sentence, worth
from trainables import commands
from trainables.config import NUMBERS, TrialConfig, format_size
from trainables.labels import BASELINE, BEST
from trainables.registry import Scalar
from trainables.words import counted, time_text

if TYPE_CHECKING:
    from sweep.pareto import TradeOff
    from sweep.verdict import Verdict
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
    objectives: Sequence[Objective] = (),
    weights: Sequence[str] = (),
    inputs: str = "",
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
        objectives: What ranks trials; shown where there are several.
        weights: What models take of a user's file.
        inputs: What becomes of the images before a model sees them.
    """
    table = rows()
    table.add_row("space", f"{space.name} - {space.description}")
    table.add_row("", f"{len(space.parameters)} parameters, labels by {space.label_by}; {how}")
    if len(objectives) > 1:
        first, *further = (objective.key for objective in objectives)
        others = " and ".join(further)
        told = f"{first} stops, finishes and confirms trials; the sampler and the Pareto set go by {others} too"
        table.add_row("objectives", Text(told))
    known = space.trial_config(base, space.start[0] if space.start else {})
    table.add_row(BASELINE, describe(known))
    table.add_row(
        "data",
        f"{data.name}, {len(data.classes)} classes: {len(splits.train)} train, {len(splits.val)} val, "
        f"{len(splits.test)} test (sealed)",
    )
    for warning in splits.warnings:
        table.add_row("", Text(warning, style="yellow"))
    if inputs:
        table.add_row("images", Text(inputs))
    for place, told in enumerate(weights):
        table.add_row("" if place else "weights", Text(told))
    table.add_row("execution", describe_execution(execution))
    console.print(Panel(table, title="what will be tried", title_align="left", border_style="dim"))


def rows() -> Table:
    """A table of names and what they are, without lines."""
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
    if untried := untried_text(len(space.start), trials):
        console.print(Text(untried, style="yellow"))


def untried_text(points: int, trials: int | None) -> str:
    """Says that there are fewer trials than starting points; empty if there are enough."""
    if trials is None or trials >= points:
        return ""
    there = "there is only 1 trial" if trials == 1 else f"there are only {trials} trials"
    return f"{points} starting points are tried first, but {there}: use --trials {points}"


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
    each = "trial" if execution.ranks == 1 else "GPU"
    parts = [
        f"{execution.precision} on {execution.device}",
        *([f"{execution.ranks} GPUs per trial"] if execution.ranks > 1 else []),
        *(["channels last"] if execution.channels_last else []),
        *(["compiled"] if execution.compile else []),
        f"{counted(execution.threads, 'thread')} per {each}",
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


def show_answer(
    console: Console,
    labels: Mapping[str, TrialView],
    *,
    seeds: Sequence[TrialView],
    candidates: Candidates,
    dead: Mapping[str, str],
    objective: Objective,
    run_dir: Path,
    openings: int,
    failed: int,
    chief: Sequence[str] = (),
    verdict: Verdict | None = None,
    ablation: tuple[Verdict | None, str] = (None, ""),
    unconfirmed: str = "",
    trade_off: TradeOff | None = None,
    further: Sequence[Objective] = (),
    unsteady: str = "",
    refit: str = "",
) -> None:
    """The best configuration, its score beside the baseline's, where the run is, what to type next.

    Args:
        console: Where to.
        labels: The trial that represents each label; includes `best`.
        seeds: The trials of the best configuration, of all its seeds.
        candidates: Of how many val chose it.
        dead: Why labels learnt nothing, by label; printed first.
        objective: What ranks.
        run_dir: The run.
        openings: Of its test split so far.
        failed: How many trials failed.
        chief: Keys that a configuration is described by first.
        verdict: What fresh seeds showed; None where there are none.
        ablation: What each component of the winner is worth, None where it was not taken apart; and why it was not.
        unconfirmed: Why there are none, or fewer than planned; empty if none were asked for.
        trade_off: What the objectives cost one another; None where there is one alone.
        further: The objectives beside the first.
        unsteady: Which of the times per image are not to be relied on; empty if all are.
        refit: What became of training it again on train and val; empty if that was not to be done.
    """
    best = labels[BEST]
    config = TrialConfig.from_flat(best.config)
    label = escape(best.label)
    console.print()
    if dead:
        _say(console, f"[bold red]dead[/bold red]      {escape(_dead_text(dead, labels))}")
    _say(
        console,
        f"[bold]best[/bold]      {escape(f'by {objective.key}: ') if further else ''}{label} ({best.trial_id}): "
        f"{describe(config, short=True)}",
    )
    if verdict is None or dead.keys() & {BASELINE, BEST}:
        told = escape(_score_text(labels, seeds, dead, objective))
        _say(console, f"[bold]{escape(objective.key)}[/bold]  {told}")
        if _is_candidate(labels, dead):
            told = candidate_text(
                best.label, best.config, labels[BASELINE].config, candidates, chief=chief, unconfirmed=unconfirmed
            )
            told = escape(f"{told}. To confirm it: {commands.confirm(run_dir)}")
            console.print(f"[bold]verdict[/bold]   {told}", highlight=False, soft_wrap=True)
    else:
        _show_verdict(console, verdict, objective, unconfirmed)
        apart, why = ablation
        components = [told for _, told, _ in worth(apart, objective)] if apart is not None else []
        for told in [*components, *([f"not taken apart: {why}"] if why else [])]:
            _say(console, f"          {escape(told)}")
    if trade_off is not None and BEST not in dead:
        show_trade_off(console, trade_off, (objective, *further), verdict, dead)
        if unsteady:
            _say(console, f"          [yellow]{escape(unsteady)}[/yellow]")
    if refit:
        console.print(f"[bold]refit[/bold]     {escape(refit)}", highlight=False, soft_wrap=True)
    troubled = f"; {failed} trials failed, see logs/ and {TRIALS_FILE} there" if failed else ""
    console.print(f"[bold]run[/bold]       {escape(str(run_dir))}{troubled}", highlight=False, soft_wrap=True)
    if len(dead) == len(labels):
        told = f"{commands.report(run_dir, '--split', 'val')}   (see what it predicts; the test split can wait)"
        console.print(f"[bold]next[/bold]      {escape(told)}", highlight=False, soft_wrap=True)
        return
    opens = f"opens the test split, opened {counted(openings, 'time')} so far"
    lines = [(commands.report(run_dir), opens)]
    if labels[BEST] is not labels.get(BASELINE) and verdict is not None:
        lines.append((commands.confirm(run_dir), "more fresh seeds"))
    for place, (command, why) in enumerate(lines):
        head = "[bold]next[/bold]      " if place == 0 else " " * 10
        console.print(f"{head}{escape(command)}   [dim]({escape(why)})[/dim]", highlight=False, soft_wrap=True)


def _say(console: Console, markup: str) -> None:
    """Prints a sentence behind its head."""
    console.print(hanging(Text.from_markup(markup), console), highlight=False, soft_wrap=True)


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


def _show_verdict(console: Console, verdict: Verdict, objective: Objective, unconfirmed: str) -> None:
    """What fresh seeds showed, and the means behind it."""
    style = {Outcome.BETTER: "bold green", Outcome.WORSE: "bold yellow"}.get(verdict.outcome, "bold yellow")
    told = f"on {verdict.split}, {sentence(verdict, objective)}"
    _say(console, f"[{style}]verdict[/{style}]   {escape(told)}")
    means = [f"{named(one)} {objective.show(one.mean)}" for one in verdict.configurations]
    _say(console, f"          means over seeds: {escape(', '.join(means))}")
    if unconfirmed:
        _say(console, f"          fewer seeds than planned: {escape(unconfirmed)}")


def _is_candidate(labels: Mapping[str, TrialView], dead: Mapping[str, str]) -> bool:
    """Whether the best is another than the baseline, and neither learnt nothing."""
    return BASELINE in labels and labels[BEST] is not labels[BASELINE] and not dead.keys() & {BASELINE, BEST}


def _score_text(
    labels: Mapping[str, TrialView], seeds: Sequence[TrialView], dead: Mapping[str, str], objective: Objective
) -> str:
    """The score of the best configuration beside the baseline's; a mean and a range where it has several seeds."""
    best, baseline = labels[BEST], labels.get(BASELINE)
    scores = [trial.metrics[objective.key] for trial in seeds]
    if len(scores) > 1:
        mean, low, high = map(objective.show, (statistics.fmean(scores), min(scores), max(scores)))
        spread = f"mean {mean} of {len(scores)} seeds, {low} .. {high}"
        return f"{spread}  (the baseline's own configuration)" if baseline is best else spread
    score = objective.show(best.metrics[objective.key])
    if baseline is None:
        return f"{score}  (the baseline did not finish: see its log)"
    if baseline.trial_id == best.trial_id:
        return f"{score}  (it is the baseline itself: nothing tried scored higher)"
    other = baseline.metrics[objective.key]
    if BEST in dead:
        return f"{score}  (baseline {objective.show(other)}; neither is a result)"
    gain = best.metrics[objective.key] - other
    return f"{score}  (baseline {objective.show(other)}, {gain:+.4f})"
