"""`python -m analysis.report RUN`: evaluates a run's checkpoints, then writes tables, figures, pictures and the page.

Looking at the test split is written down by `analysis.evaluate` at the moment it happens; a report that only reads
kept evaluations opens nothing.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from analysis.kept import OnStep
from analysis.next_sweep.space_file import next_command
from analysis.report.sections.answer import all_dead, caveats, lead_claims
from analysis.report.writing import Report, write_report
from analysis.results import Results, build_results
from sweep.verify import open_data, open_run
from trainables import commands, plugins
from trainables.data.flags import add_run_flags
from trainables.flags import MOST_PICTURES, command_parser, share, whole
from trainables.guarded import guarded, say_error
from trainables.labels import CHIEF


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code: 0 done, 1 something failed, 2 bad usage, 130 interrupted."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False)
    again = commands.command("analysis.report", *(arguments if arguments is not None else sys.argv[1:]))
    return guarded(
        lambda: _tell(_run(options, console), options, console),
        interrupted=f"interrupted; finished evaluations are kept, go on with: {again}",
    )


def _tell(report: Report, options: argparse.Namespace, console: Console) -> int:
    for line in answer_lines(report, save_asked=options.save_predictions is not None):
        if console.is_terminal and line.startswith(("answer", " ")):
            line = textwrap.fill(line, console.width, subsequent_indent=" " * 10)
        console.print(line, markup=False, soft_wrap=True)
    for text in report.warnings:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"warning: {text}", markup=False)
    for part in report.failed:
        say_error(f"could not be made: {part.what}: {' '.join(part.error.split())} (traceback: {part.log})")
    return 1 if report.failed else 0


def answer_lines(report: Report, *, save_asked: bool = False) -> list[str]:
    """The answer for a terminal: what the page opens with, scores, openings, where the page is, what to type next."""
    results = report.results
    scores = results.comparison.set_index("label")
    metric, words = results.objective.metric.name, results.objective.metric.words
    told = [claim.text.striptags() for claim in (*lead_claims(results), *caveats(results))]
    lines = [f"{'' if place else 'answer':<9} {text}" for place, text in enumerate(told)]
    for label in reversed(CHIEF):
        if label in results.labels:
            row = scores.loc[label]
            has_interval = row[f"{metric}_low"] == row[f"{metric}_low"]
            interval = f" [{row[f'{metric}_low']:.3f}, {row[f'{metric}_high']:.3f}]" if has_interval else ""
            lines.append(f"{label:<9} {words} {row[metric]:.3f}{interval} on {results.split}")
    times = "once" if results.openings == 1 else f"{results.openings} times"
    lines.append(f"test      opened {times} so far")
    lines.append(f"report    {report.path.resolve().as_uri()}")
    if results.proposals:
        changes = ", ".join(one.what for one in results.proposals)
        command = next_command(results.manifest, results.run_dir)
        lines.append(f"try       {changes} (from val alone): {command}")
    lines.append(f"next      {_next_command(results, save_asked=save_asked)}")
    # A class or a label may hold what moves a terminal's cursor.
    return ["".join(letter if letter.isprintable() else " " for letter in line) for line in lines]


def _next_command(results: Results, *, save_asked: bool) -> str:
    manifest = results.manifest
    if all_dead(results):
        root = manifest.data.root
        check = commands.check_data(manifest.data.name, None if root is None else Path(root))
        return f"{check}   (nothing was learnt: look at the data, then at the number of epochs)"
    if results.split == "val":
        return f"{commands.report(results.run_dir)}   (opens the test split)"
    if not save_asked:
        saving = commands.report(results.run_dir, "--save-predictions")
        return f"{saving}   (every predicted mask; does not open test again)"
    return f"{commands.extend(results.run_dir, manifest.budget.trials)}   (more trials)"


def _run(options: argparse.Namespace, console: Console) -> Report:
    manifest = open_run(options.run)
    plugins.load_recorded(manifest.plugins, options.plugins, run=options.run, more=True)
    data = open_data(options.run, manifest, root=options.data_root)
    with _plain() if options.plain_progress else _display(console) as step:
        results = build_results(
            options.run,
            split=options.split,
            top=options.top,
            iou=options.iou,
            manifest=manifest,
            data=data,
            progress=lambda what, done, total: step(
                what if what == "failures" else f"{options.split}: {what}", done, total
            ),
        )
        return write_report(
            results, data, predictions=options.save_predictions, pictures=options.pictures, progress=step
        )


@contextmanager
def _display(console: Console) -> Iterator[OnStep]:
    """A bar for each stage, made when the stage first reports."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=console, transient=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def step(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(escape(what), total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield step


@contextmanager
def _plain() -> Iterator[OnStep]:
    """A line for each change, for the sweep that waits for the report: the stage, a tab, how much of it is done."""

    def step(what: str, done: int, total: int) -> None:
        print(f"{what}\t{done}/{total}", flush=True)

    yield step


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "analysis.report",
        "Evaluates a sweep's checkpoints and writes RUN/report: report.html, tables, figures, failures.",
        epilog="Evaluating a checkpoint on the test split for the first time is written to test_openings.jsonl beside "
        "the run. Evaluations are kept: a second report takes seconds and opens nothing.",
    )
    add_run_flags(parser)
    parser.add_argument("--plain-progress", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--split", choices=("test", "val"), default="test", help="where to evaluate (default: test)")
    parser.add_argument(
        "--top",
        type=whole,
        default=0,
        metavar="K",
        help="add the K best configurations to the labels (default: 0)",
    )
    parser.add_argument(
        "--iou", type=share, default=0.5, metavar="T", help="a region fails at or below this IoU (default: 0.5)"
    )
    parser.add_argument(
        "--pictures",
        type=whole,
        default=MOST_PICTURES,
        metavar="N",
        help=f"draw at most N pictures of failures, worst first (default: {MOST_PICTURES})",
    )
    parser.add_argument(
        "--save-predictions",
        nargs="?",
        const="ids",
        choices=("ids", "positions"),
        help="write every predicted mask to RUN/report/predictions/LABEL/IMAGE_ID.png, original size, with the ids of "
        "the data set's own masks (default), or with the places of the classes in the class list",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
