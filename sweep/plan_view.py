"""What the terminal shows of a plan and of measured costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from sweep.answer import rows, untried_text
from sweep.latencies import MeasuredLatency, unsteady_text
from sweep.plan import GAIN, SEED_SD, MeasuredCost, Plan
from trainables.words import bytes_text, counted, time_text

if TYPE_CHECKING:
    from sweep.planning import Asked
    from trainables.cost import Cost


def show_plan(console: Console, plan: Plan, asked: Asked, *, at_once: int, note: str, seeds: int | None = None) -> None:
    """Says what the budget buys.

    Args:
        console: Where to.
        plan: Of the sweep.
        asked: What the command asked for.
        at_once: Processes that measured the costs side by side.
        note: At which epochs trials are compared.
        seeds: `--seeds`: of every configuration; None for one each.
    """
    table = rows()
    about = "about " if asked.time_budget is not None and asked.trials is None else ""
    table.add_row("search", f"{about}{counted(plan.trials, 'trial')} of up to {counted(plan.max_epochs, 'epoch')}")
    if untried := untried_text(plan.starting_points, asked.trials):
        table.add_row("", Text(untried, style="yellow"))
    elif not plan.search_is_possible:
        points = counted(plan.starting_points, "starting point")
        which = f"{plan.trials} of the {points}" if plan.trials < plan.starting_points else f"the {points}"
        told = f"no room for a search: {which} of the space {'is' if plan.trials == 1 else 'are'} tried"
        table.add_row("", Text(told, style="yellow"))
    table.add_row("", Text(note, style="dim"))
    expected = round(plan.search_epochs)
    epochs = f"{counted(expected, 'epoch')} {'is' if expected == 1 else 'are'} expected"
    epochs += f", and {plan.finish_epochs:.0f} to finish stopped labels"
    table.add_row("", epochs)
    costs = list(_epochs(plan.costs))
    if costs:
        table.add_row("one epoch", f"{', '.join(costs)} (measured with {at_once} at once)")
        bound = "" if asked.time_budget is None else f" of {time_text(asked.time_budget)}"
        confirm = f", {plan.confirm_seconds:.0f} s to confirm" if plan.confirm_seeds else ""
        report = f"{plan.report_seconds:.0f} s kept {plan.end}"
        refit = f", {plan.refit_seconds:.0f} s to refit" if plan.refit_seconds else ""
        parts = f"{plan.trials_seconds:.0f} s of search{confirm}{refit}, {report}"
        table.add_row("time", f"about {_rounded(plan.seconds)}{bound}: {parts}")
        gpu = f", {plan.gpu_hours:.2g} GPU hours" if plan.gpu_hours else ""
        table.add_row(
            "needs", f"{bytes_text(plan.memory_bytes)} of memory, up to {bytes_text(plan.disk_bytes)} on disk{gpu}"
        )
    else:
        table.add_row("time", "not predicted: the trials run on machines that this one cannot measure")
    if seeds is None:
        _add_confirmation(table, plan)
    else:
        table.add_row("evidence", f"{seeds} seeds of every configuration: all are compared with the baseline")
    if plan.refit_seconds or asked.refit:
        about = f", about {plan.refit_seconds:.0f} s" if plan.refit_seconds else ", if there is time left"
        images = counted(plan.train_images + plan.val_images, "image")
        table.add_row("refit", f"the winner again on train and val, {images}{about}")
    console.print(Panel(table, title="plan", title_align="left", border_style="dim"))


def _add_confirmation(table: Table, plan: Plan) -> None:
    """What fresh seeds are planned, and what they can hope to find."""
    if not plan.confirm_seeds:
        table.add_row("evidence", "one seed per configuration: the best is a candidate, and no gain can be confirmed")
        return
    best = "the best configuration" if plan.confirm_top == 1 else f"the best {plan.confirm_top} configurations"
    told = f"{best} and the baseline again with {plan.confirm_seeds} fresh seeds each: {plan.confirm_epochs:.0f} epochs"
    table.add_row("confirm", told)
    table.add_row("", Text(hope(plan), style="dim"))


def hope(plan: Plan) -> str:
    """What a plan's confirmation can hope to find on val, before anything was trained."""
    return (
        f"a true gain of {plan.detectable:.3f} would be confirmed on val in 8 of 10 cases, one of {GAIN:g} in "
        f"{10 * plan.power:.0f} of 10, if a seed moves scores by {SEED_SD:g} and other images a difference by "
        f"{plan.image_sd:.3f}"
    )


def _seconds(value: float) -> str:
    """Three digits, all digits of a whole number."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _epochs(costs: Sequence[MeasuredCost]) -> Iterator[str]:
    """Seconds of an epoch of each model, from the cheapest to the dearest of its sizes, batches and frozen parts."""
    for model in dict.fromkeys(one.model for one in costs):
        seconds = [one.cost.epoch_seconds for one in costs if one.model == model]
        least = f"{_seconds(min(seconds))} to " if len(seconds) > 1 else ""
        yield f"{model} {least}{_seconds(max(seconds))} s"


def show_latencies(console: Console, latencies: Sequence[MeasuredLatency]) -> None:
    """Says how long each model takes for one image, and which of these times are not to be relied on."""
    if not latencies:
        return
    first = latencies[0]
    on = "one thread of the CPU" if first.device == "cpu" else first.device
    told = f"time per image ({first.precision}, {on}): {'; '.join(map(str, latencies))}"
    console.print(told, markup=False, highlight=False, soft_wrap=True)
    if warning := unsteady_text(latencies):
        console.print(warning, style="yellow", markup=False, highlight=False, soft_wrap=True)


def show_costs(console: Console, costs: Sequence[tuple[str, Cost]]) -> None:
    """The table of `--check`: what was tried, and what it costs or why it cannot be trained.

    Args:
        console: Where to.
        costs: Descriptions and costs.
    """
    table = Table(box=None, padding=(0, 1), header_style="bold")
    table.add_column("tried")
    for name in ("epoch", "start", "memory", "checkpoint"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for what, cost in costs:
        if cost.fault:
            table.add_row(escape(what), "", "", "", "", Text(cost.fault, style="red"))
            continue
        seconds = (f"{cost.epoch_seconds:.2f} s", f"{cost.build_seconds:.2f} s")
        numbers = (*seconds, bytes_text(cost.memory_bytes), bytes_text(cost.checkpoint_bytes))
        table.add_row(escape(what), *numbers, Text("ok", style="green"))
    console.print(table)


def _rounded(seconds: float) -> str:
    """A prediction, not finer than it deserves."""
    step = 10 if seconds < 600 else 60 if seconds < 7200 else 600
    return time_text(max(step, round(seconds / step) * step))
