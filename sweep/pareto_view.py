"""What several objectives cost one another, at the end of a sweep on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from sweep import pareto
from sweep.objectives import Objective

if TYPE_CHECKING:
    from sweep.pareto import TradeOff
    from sweep.verdict import Verdict

PARETO_LINES = 6
"""Configurations of the Pareto set that the terminal lists."""


def show_trade_off(
    console: Console,
    trade_off: TradeOff,
    objectives: Sequence[Objective],
    verdict: Verdict | None,
    dead: Mapping[str, str],
) -> None:
    """What the objectives cost one another, and the configurations that nothing dominates.

    Args:
        console: Where to.
        trade_off: On val.
        objectives: Of the sweep, in its order.
        verdict: What fresh seeds showed; None where there are none.
        dead: Why each label that learnt nothing did not.
    """
    without = [point.trial_id for point in trade_off.points if point.published in dead]
    told = f"on val, {pareto.sentence(trade_off, objectives, without=without)}"
    why = pareto.evidence(trade_off, objectives, verdict, without=without)
    console.print(f"[bold]trade-off[/bold] {escape(told)} [dim]({escape(why)})[/dim]", highlight=False, soft_wrap=True)
    for point in trade_off.in_set[:PARETO_LINES]:
        values = ", ".join(f"{one.key} {one.show(point.shown[one.key])}" for one in objectives)
        learnt = "; it learnt nothing" if point.published in dead else ""
        console.print(f"          {escape(f'{point.name}: {values}{learnt}')}", highlight=False, soft_wrap=True)
    if len(trade_off.in_set) > PARETO_LINES:
        console.print(f"          and {len(trade_off.in_set) - PARETO_LINES} more", highlight=False)
