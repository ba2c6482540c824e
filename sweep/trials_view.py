"""A row for each trial, as the live screen and a notebook show them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweep.objectives import Objective
from sweep.tally_view import STATE_STYLES
from sweep.trials import TrialView
from trainables.words import visible

ROWS = 10
"""Most trials that are shown while a sweep runs."""
WIDTH_WITH_BARS = 100
"""Columns from which on there is room for a bar beside the epochs of each."""
EPOCHS_WIDTH, BAR_WIDTH, LEAST_LABEL, PADDING = 6, 12, 8, 2
"""Columns of what has no width of its own."""


def trials_table(trials: Sequence[TrialView], objectives: Sequence[Objective], *, width: int) -> Table:
    """Trials in their order: how far each is, its values, its state and why.

    Args:
        trials: All that are to be shown.
        objectives: Each has a column.
        width: Columns that there are; in few of them labels and reasons are cut, and there are no bars.
    """
    has_bars = width >= WIDTH_WITH_BARS
    names = [one.key for one in objectives]
    fixed = [_longest(trial.trial_id for trial in trials), EPOCHS_WIDTH, *([BAR_WIDTH] if has_bars else [])]
    fixed += [*map(len, names), _longest(trial.state for trial in trials)]
    left = width - sum(fixed) - PADDING * (len(fixed) + 2)  # label and reason have some, too
    label = max(LEAST_LABEL, min(_longest(trial.label for trial in trials), left))
    table = Table(box=None, padding=(0, PADDING, 0, 0), header_style="dim", expand=True)
    table.add_column("trial", no_wrap=True, min_width=fixed[0])
    table.add_column("label", no_wrap=True, overflow="ellipsis", max_width=label, min_width=label)
    table.add_column("epochs", no_wrap=True, min_width=EPOCHS_WIDTH)
    if has_bars:
        table.add_column("", no_wrap=True, min_width=BAR_WIDTH)
    for name in names:  # which may hold brackets
        table.add_column(Text(name), justify="right", no_wrap=True, min_width=len(name))
    table.add_column("state", no_wrap=True, min_width=fixed[-1])
    table.add_column("why", overflow="ellipsis", no_wrap=True, style="dim", ratio=1)
    for trial in trials:
        total = int(trial.config["epochs"])
        table.add_row(
            Text(visible(trial.trial_id)),
            Text(visible(trial.label)),
            f"{trial.epochs}/{total}",
            *([ProgressBar(total=total, completed=trial.epochs, width=BAR_WIDTH)] if has_bars else []),
            *(value_text(one, trial) for one in objectives),
            Text(visible(trial.state), style=STATE_STYLES.get(trial.state, "")),
            Text(visible(trial.reason), style="dim"),
        )
    return table


def _longest(texts: Iterable[str]) -> int:
    return max(map(len, texts), default=0)


def value_text(objective: Objective, trial: TrialView) -> str:
    """A trial's last value as people read it; empty without one."""
    value = objective.value(trial.metrics)
    return "" if value is None else objective.show(value)
