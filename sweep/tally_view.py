"""Where a sweep stands, as the live screen and `python -m sweep.status` show it: the same lines in the same words."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.text import Text

from sweep.candidate import candidate_text
from sweep.claims import Outcome
from sweep.objectives import Objective
from sweep.phase_kinds import CONFIRM
from sweep.tally import Foreseen, Spent, Tally
from sweep.trials import TrialTable
from sweep.verdict import Verdict, sentence
from trainables.words import counted, time_text, visible

STATE_STYLES = {
    "running": "cyan",
    "completed": "green",
    "stopped": "yellow",
    "infeasible": "magenta",
    "failed": "red",
    "interrupted": "red",
}
HEAD = 10
"""Width of the words before the lines."""
LEVELS, ASCII_LEVELS = "▁▂▃▄▅▆▇█", "_.-=*#"
LEAST_ROOM = 20
"""Columns beside the heads of lines; with fewer a terminal breaks lines as it likes."""
WIDTH = 32
"""Most characters of a curve."""
SHOWN_ELSEWHERE = "SEGSWEEP_SHOWN_ELSEWHERE"
"""Environment variable: whoever started the sweep shows its trials, so that it prints no lines of them."""


def line(head: str, told: str | Text, style: str = "", *, whole: bool = False) -> Text:
    """A line with its head; one to be kept whole, such as a command to copy, is broken by the terminal alone."""
    body = told if isinstance(told, Text) else Text(visible(told), style=style)
    return Text.assemble((f"{visible(head):<{HEAD - 1}} ", "bold"), body, no_wrap=whole or None)


def hanging(text: Text, console: Console) -> Text:
    """A line with its head, on a terminal broken between words, with the rest below its first word; as it is elsewhere.

    Args:
        text: As of `line`: what it tells begins at column `HEAD`.
        console: Where it is to be printed.
    """
    room = console.width - HEAD
    if text.no_wrap or not console.is_terminal or room < LEAST_ROOM:
        return text
    lines = text[HEAD:].wrap(console, room)
    for one in lines:
        one.rstrip()
    return Text.assemble(text[:HEAD], Text("\n" + " " * HEAD).join(lines))


def phase_lines(tally: Tally, expected: Mapping[str, Foreseen], *, about: bool = False) -> list[Text]:
    """A line for each phase that has trials: how many in which state, epochs and time, beside what was foreseen.

    Args:
        tally: Of the sweep.
        expected: By phase.
        about: Whether the number of trials is what the time has room for.
    """
    lines = []
    for phase, states in tally.states().items():
        foreseen, spent = expected.get(phase, Foreseen()), tally.spent.get(phase, Spent())
        total = sum(states.values())
        known = foreseen.trials is not None and foreseen.trials >= total
        of = f" of {'about ' if about else ''}{foreseen.trials}" if known else ""
        told = Text(f"{counted(total, 'trial')}{of}: ")
        for place, (state, number) in enumerate(sorted(states.items(), key=lambda one: _place(one[0]))):
            told.append(", " if place else "")
            told.append(visible(f"{number} {state}"), style=STATE_STYLES.get(state, ""))
        planned = f" of about {foreseen.epochs:.0f}" if foreseen.epochs else ""
        told.append(f"; {counted(spent.epochs, 'epoch')}{planned}, {time_text(spent.seconds)} of training")
        lines.append(line(phase, told))
    return lines


def _place(state: str) -> int:
    return list(STATE_STYLES).index(state) if state in STATE_STYLES else len(STATE_STYLES)


def best_text(tally: Tally, *, ascii_only: bool = False) -> str:
    """The best so far, with the curve of it over the trials that have ended; empty where nothing has a score."""
    best, objective = tally.leader(), tally.objective
    if best is None:
        return ""
    told = f"best so far {objective.show(best.metrics[objective.key])} ({best.label}, epoch {best.epochs})"
    curve = sparkline(tally.curve, levels=ASCII_LEVELS if ascii_only else LEVELS)
    return f"{told}  {curve}" if curve else told


def sparkline(values: Sequence[float], *, width: int = WIDTH, levels: str = LEVELS) -> str:
    """Numbers as a row of marks, the lowest and the highest of them at the ends of the levels.

    Args:
        values: In their order; of more than fit, some at even distances, the first and the last among them.
        width: Most marks.
        levels: From low to high.

    Returns:
        Empty for fewer than two values, or where all are equal.

    Example:
        >>> sparkline([0.0, 0.5, 1.0], levels="_-^")
        '_-^'
    """
    if len(values) < 2 or min(values) == max(values):
        return ""
    count = min(width, len(values))
    chosen = [values[round(place * (len(values) - 1) / (count - 1))] for place in range(count)]
    low, high = min(chosen), max(chosen)
    steps = len(levels) - 1
    return "".join(levels[round(steps * (value - low) / (high - low))] for value in chosen)


def found_lines(
    tally: Tally, *, verdict: Verdict | None, chief: Sequence[str] = (), unconfirmed: str = ""
) -> list[Text]:
    """What may be said so far: what fresh seeds showed, or which configuration is a candidate.

    Args:
        tally: Of the sweep.
        verdict: What fresh seeds showed; None while there are none.
        chief: Keys that a configuration is described by first.
        unconfirmed: Why there are no fresh seeds.
    """
    table, objective = tally.table, tally.objective
    running = any(trial.phase == CONFIRM.name for trial in table.open())
    if verdict is not None:
        style = "green" if verdict.outcome is Outcome.BETTER else "yellow"
        more = "; more fresh seeds are being trained" if running else ""
        return [line("verdict", f"on {verdict.split}, {sentence(verdict, objective)}{more}", style)]
    best, baseline = tally.candidate(), tally.baseline()
    if best is None and baseline is None:
        return []
    if best is None:
        told = "none: of what has come to full budget nothing scores higher than the baseline"
    elif baseline is None:
        told = f"{best.label} ({best.trial_id}) leads at full budget; the baseline has not come to its end"
    else:
        scores = [objective.show(one.metrics[objective.key]) for one in (best, baseline)]
        told = candidate_text(
            best.label, best.config, baseline.config, tally.candidates(), chief=chief, unconfirmed=unconfirmed
        )
        told = f"{told}; {scores[0]}, baseline {scores[1]}"
    lines = [line("candidate", told)]
    if means := _means_text(table, objective):
        lines.append(line("", f"{means}; the verdict comes once all have ended"))
    return lines


def _means_text(table: TrialTable, objective: Objective) -> str:
    """Means over the fresh seeds that have ended so far."""
    groups = table.confirmed(objective)
    told = [
        f"{group[0].label} {objective.show(statistics.fmean(one.metrics[objective.key] for one in group))} "
        f"({counted(len(group), 'seed')})"
        for group in groups
    ]
    return f"means over fresh seeds so far: {', '.join(told)}" if told else ""


def kept_text(kept: Iterable[tuple[float, str]], *, head: str = "kept of it") -> str:
    """Time for what comes later: seconds, and what for.

    Args:
        kept: Seconds and purposes.
        head: What is said before them; `kept of it` where a budget is meant.
    """
    parts = [f"{time_text(seconds)} {purpose}" for seconds, purpose in kept if seconds >= 1]
    return f"{head}: {', '.join(parts)}" if parts else ""
