"""`python -m analysis.report RUN`: evaluates a run's checkpoints, then writes tables, figures, pictures and the page.

Looking at the test split is written down by `analysis.evaluate` at the moment it happens; a report that only reads
kept evaluations opens nothing.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from analysis.colours import css_variables
from analysis.evaluate import Progress
from analysis.export import write_tables
from analysis.figures import save_figures
from analysis.gallery import EMBEDDING_BUDGET, Gallery, build_gallery, save_predictions
from analysis.results import Results, build_results, open_data
from analysis.sections import TEMPLATES, Material, build_sections, environment, page_summary
from sweep.manifest import SweepManifest
from trainables.data.base import SegmentationData
from trainables.errors import SegsweepError

REPORT_FILE = "report.html"


@dataclass(frozen=True)
class Report:
    """What a report run left behind."""

    path: Path
    results: Results
    gallery: Gallery
    predictions: int


def write_report(
    results: Results,
    data: SegmentationData,
    *,
    predictions: bool = False,
    budget: int = EMBEDDING_BUDGET,
    progress: Progress | None = None,
) -> Report:
    """Writes tables, figures, failure pictures and `report.html` into `RUN/report`.

    Args:
        results: What was measured.
        data: Source of the images and true masks behind the failures.
        predictions: Whether to write every predicted mask as well.
        budget: Bytes of pictures inside the page.
        progress: Told the stage, how much of it is done, and of how much.

    Returns:
        Where the page is, and what it was made from.
    """
    step = progress or _silent
    folder = results.run_dir / "report"
    folder.mkdir(parents=True, exist_ok=True)
    write_tables(results, folder / "tables")
    step("figures", 0, 1)
    figures = save_figures(results, folder / "figures")
    step("figures", 1, 1)
    failing = results.failures["image_id"].nunique()
    gallery = build_gallery(results, data, folder, budget=budget, advance=_counter(step, "pictures", failing))
    saved = 0
    if predictions:
        total = sum(len(results.evaluations[record.trial_id].image_ids) for record in results.labels.values())
        saved = save_predictions(results, folder, advance=_counter(step, "predictions", total))
    page = render_page(Material(results, figures, gallery))
    path = folder / REPORT_FILE
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(path)
    return Report(path, results, gallery, saved)


def render_page(material: Material) -> str:
    """The whole page as one text: styles, script and pictures inside, nothing to be fetched.

    The content security policy admits data URIs, inline styles, and the one script whose hash it names.
    """
    script = (TEMPLATES / "script.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        environment()
        .get_template("report.html")
        .render(
            title=material.results.manifest.name,
            policy=policy,
            light=css_variables(dark=False),
            dark=css_variables(dark=True),
            style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
            script=Markup(script),
            summary=page_summary(material.results),
            sections=build_sections(material),
        )
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code: 0 done, 1 something failed, 2 bad usage, 130 interrupted."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False)
    try:
        report = _run(options, console)
    except SegsweepError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {error}", markup=False)
        return error.exit_code
    except KeyboardInterrupt:
        again = shlex.join(["python", "-m", "analysis.report", *(arguments if arguments is not None else sys.argv[1:])])
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"interrupted; finished evaluations are kept, go on with: {again}", markup=False
        )
        return 130
    for line in answer_lines(report, save_asked=options.save_predictions):
        console.print(line, markup=False, soft_wrap=True)
    return 0


def answer_lines(report: Report, *, save_asked: bool = False) -> list[str]:
    """The answer in at most five lines: score, difference, openings, where the page is, what to type next."""
    results = report.results
    scores = results.comparison.set_index("label")
    lines = []
    for label in ("best", "baseline"):
        if label in results.labels:
            row = scores.loc[label]
            has_interval = row["iou_low"] == row["iou_low"]
            interval = f" [{row['iou_low']:.3f}, {row['iou_high']:.3f}]" if has_interval else ""
            lines.append(f"{label:<9} mIoU {row['iou']:.3f}{interval} on {results.split}")
    answer = results.answer
    if answer is not None and not answer.same_trial and len(lines) == 2:
        verdict = {None: "too few images for an interval", True: "interval leaves 0 out", False: "not distinguishable"}
        bounds = "" if answer.distinguishable is None else f" [{answer.low:+.3f}, {answer.high:+.3f}]"
        lines[0] += f", {answer.difference:+.3f}{bounds} against baseline: {verdict[answer.distinguishable]}"
    elif answer is not None:
        lines[0] += ", the same trial as baseline"
    times = "once" if results.openings == 1 else f"{results.openings} times"
    lines.append(f"test      opened {times} so far, one checkpoint a label: no claim about configurations yet")
    lines.append(f"report    {report.path.resolve().as_uri()}")
    lines.append(f"next      {_next_command(results, save_asked=save_asked)}")
    return lines


def _next_command(results: Results, *, save_asked: bool) -> str:
    run = shlex.quote(results.run_dir.as_posix())
    if results.split == "val":
        return f"python -m analysis.report {run}   (opens the test split)"
    if not save_asked:
        return f"python -m analysis.report {run} --save-predictions   (every predicted mask, opens nothing anew)"
    where = results.run_dir.parent.as_posix()
    elsewhere = "" if where == "runs" else f" --runs-dir {shlex.quote(where)}"
    name = shlex.quote(results.run_dir.name)
    return f"python -m sweep.run --extend {results.manifest.budget['trials']} --name {name}{elsewhere}   (more trials)"


def _run(options: argparse.Namespace, console: Console) -> Report:
    manifest = SweepManifest.load(options.run)
    data = open_data(manifest)
    with _display(console) as step:
        results = build_results(
            options.run,
            split=options.split,
            top=options.top,
            iou=options.iou,
            data=data,
            progress=lambda what, done, total: step(
                what if what == "failures" else f"{options.split}: {what}", done, total
            ),
        )
        return write_report(results, data, predictions=options.save_predictions, progress=step)


@contextmanager
def _display(console: Console) -> Iterator[Progress]:
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


def _silent(what: str, done: int, total: int) -> None:
    pass


def _counter(step: Progress, what: str, total: int) -> Callable[[], None]:
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        step(what, done, total)

    return advance


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m analysis.report",
        description="Evaluates a sweep's checkpoints and writes RUN/report: report.html, tables, figures, failures.",
        epilog="Evaluating a checkpoint on the test split for the first time is written to test_openings.jsonl beside "
        "the run. Evaluations are kept: a second report takes seconds and opens nothing.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run, such as runs/NAME")
    parser.add_argument("--split", choices=("test", "val"), default="test", help="where to evaluate (default: test)")
    parser.add_argument(
        "--top", type=_whole, default=0, metavar="K", help="add the K best trials beside the labels (default: 0)"
    )
    parser.add_argument(
        "--iou", type=_share, default=0.5, metavar="T", help="a region fails at or below this IoU (default: 0.5)"
    )
    parser.add_argument(
        "--save-predictions",
        action="store_true",
        help="write every predicted mask to RUN/report/predictions/LABEL/IMAGE_ID.png (class ids, original size)",
    )
    return parser


def _whole(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 on, not {text}")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be within 0 .. 1, not {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
