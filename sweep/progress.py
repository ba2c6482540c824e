"""What the terminal shows while trials run: a live view, or a line for each trial that ends."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from sweep.candidate import chief_keys
from sweep.conductor import Conductor
from sweep.journal import Event
from sweep.phase_kinds import kind_of
from sweep.plan import NOT_DONE, not_done
from sweep.tally import Tally, foreseen
from sweep.tally_view import SHOWN_ELSEWHERE, best_text, found_lines, hanging, kept_text, phase_lines
from sweep.trials_view import ROWS, trials_table, value_text
from sweep.verdict import last_verdict
from trainables.words import counted

LEAST_ROWS = 2
"""Trials that the live view shows however low a terminal is."""


class LiveView:
    """A live view of a sweep on a terminal; a line for each trial that ends elsewhere (a file, a pipe)."""

    def __init__(self, console: Console, conductor: Conductor, *, concurrent: int) -> None:
        self._console = console
        self._conductor = conductor
        self._concurrent = concurrent
        self._started = time.monotonic()
        self._notices: list[str] = []
        self._live: Live | None = None
        self._is_told = not os.environ.get(SHOWN_ELSEWHERE)
        self._tally = Tally(conductor.table, conductor.objective, conductor.search.context.gpus)
        self._found: tuple[tuple[int, int], list[Text]] = ((-1, -1), [])
        for event in conductor.journal.events:
            self._tally.on_event(event)
        conductor.journal.follow(self._on_event, replay=False)

    def __enter__(self) -> LiveView:
        if self._console.is_terminal:
            self._live = Live(get_renderable=self.render, console=self._console, refresh_per_second=2, transient=True)
            self._live.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.__exit__(None, None, None)
            self._live = None
            self._console.print(self.render(final=True))
        elif self._is_told:
            for line in self._standing():
                self._console.print(line, soft_wrap=True)

    def notice(self, text: str) -> None:
        """Shows a warning that stays."""
        if self._live is None:
            self._console.print(text, style="yellow", markup=False, soft_wrap=True)
        else:
            self._notices.append(text)

    def render(self, *, final: bool = False) -> RenderableType:
        """The view at this moment."""
        trials = list(self._conductor.table.trials.values())
        summary, *standing = self._standing()
        below = [
            summary,
            *(hanging(one, self._console) for one in standing),
            *(Text(notice, style="yellow") for notice in self._notices),
        ]
        shown = trials if final else trials[-self._rows_beside(below) :]
        table = trials_table(shown, self._conductor.objectives, width=self._console.width)
        earlier = (
            [Text(f"... {len(trials) - len(shown)} earlier trials", style="dim")] if len(shown) < len(trials) else []
        )
        return Group(*earlier, table, *below)

    def _rows_beside(self, below: Sequence[Text]) -> int:
        """Of how many trials there is room above some lines: Rich would cut off the lowest of these."""
        taken = len(self._console.render_lines(Group(*below))) + len(("earlier trials", "names of columns", "cursor"))
        return max(LEAST_ROWS, min(ROWS, self._console.height - taken))

    def _standing(self) -> list[Text]:
        """Where the sweep stands: the time, trials by phase and state, what may be said so far."""
        conductor = self._conductor
        about = conductor.limit is not None and conductor.budget.open_ended
        expected = foreseen(
            replace(conductor.budget, trials=conductor.search.expected_trials()),
            conductor.plan,
            asked_for_more=conductor.confirm.was_asked_for,
        )
        return [self._summary(about), *phase_lines(self._tally, expected, about=about), *self._found_lines()]

    def _found_lines(self) -> list[Text]:
        """What may be said so far; made anew when a trial has begun or ended."""
        changes = self._conductor.table.changes, len(self._conductor.table.trials)
        if self._found[0] != changes:
            verdict = last_verdict(self._conductor.journal.of("verdict"))
            chief = chief_keys(self._conductor.search.space)
            self._found = changes, found_lines(self._tally, verdict=verdict, chief=chief)
        return self._found[1]

    def _summary(self, about: bool) -> Text:
        conductor = self._conductor
        running = [trial for trial in conductor.table.open() if kind_of(trial.phase).explores]
        text = Text()
        ended = len(conductor.table.explored()) - len(running)
        expected = conductor.search.expected_trials()
        text.append(f"{ended} of {'about ' if about else ''}{counted(expected, 'trial')}", style="bold")
        if best := best_text(self._tally, ascii_only=self._console.options.ascii_only):
            text.append(f"   {best}")
        text.append(f"   {_clock(conductor.elapsed())} elapsed")
        if conductor.limit is not None and not conductor.confirm.was_asked_for:
            text.append(f", at most {_clock(max(0.0, conductor.limit.left()))} left")
        elif left := self._training_left():
            text.append(f", up to {_clock(left)} of training left")
        if conductor.limit is not None and (kept := kept_text(conductor.limit.kept_for())):
            text.append(f", {kept}")
        return text

    def _training_left(self) -> float:
        """Seconds, if no further trial is stopped early; 0 where that is not known."""
        if self._conductor.confirm.was_asked_for or not self._tally.epochs:
            return 0.0
        budget = self._conductor.budget
        per_epoch = self._tally.seconds / self._tally.epochs
        epochs = sum(budget.max_epochs - trial.epochs for trial in self._conductor.table.open())
        epochs += budget.max_epochs * max(0, budget.trials - len(self._conductor.table.explored()))
        epochs += sum(budget.max_epochs - trial.epochs for trial in self._conductor.search.context.to_finish())
        epochs += budget.max_epochs * self._conductor.confirm.to_come()
        return float(per_epoch * epochs / self._concurrent)

    def _on_event(self, event: Event) -> None:
        self._tally.on_event(event)
        if event["event"] == "unfinished":
            label = self._conductor.table.trials[event["trial_id"]].label
            self.notice(f"{label} is not trained to its last epoch ({event['trial_id']}): {event['reason']}")
        elif event["event"] in NOT_DONE:
            self.notice(not_done(event))
        if self._live is None and self._is_told and event["event"] == "ended":
            trial = self._conductor.table.trials[event["trial_id"]]
            parts = [f"{trial.trial_id:<12} {trial.label:<16} {trial.state:<10} epoch {trial.epochs}"]
            parts += [
                f"{one.key} {value_text(one, trial)}" for one in self._conductor.objectives if value_text(one, trial)
            ]
            if trial.reason:
                parts.append(f"({trial.reason})")
            self._console.print("  ".join(parts), highlight=False, markup=False, soft_wrap=True)


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
