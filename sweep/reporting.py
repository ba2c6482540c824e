"""The report on val, written by a process of its own at the end of a sweep."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from trainables import commands, plugins
from trainables.run_folder import REPORT_FILE, report_folder


def report_on_val(run_dir: Path, console: Console, *, pictures: int) -> bool:
    """Writes the report on val in a process of its own, showing how far it is, and says where it lies.

    If it fails, only the report is missing.

    Returns:
        Whether it was written.

    Raises:
        KeyboardInterrupt: On Ctrl-C; the report that is being written ends, and one that was there stays.
    """
    command = commands.subprocess_command(
        "analysis.report",
        str(run_dir),
        *("--split", "val"),
        *("--pictures", str(pictures)),
        "--plain-progress",
        *plugins.flags(),
    )
    with (
        console.status("writing the report on val") as status,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
        ) as process,
    ):
        errors = _read_aside(process)
        try:
            for line in process.stdout or ():
                what, _, count = line.strip().partition("\t")
                if count:
                    status.update(f"writing the report on val: {escape(what)} {count}")
            code = process.wait()
        except KeyboardInterrupt:
            process.kill()
            raise
    if code != 0:
        told = "\n".join(errors()) or f"exit code {code}"
        console.print(f"[red]the report on val failed[/red]: {escape(told)}", soft_wrap=True)
        console.print(f"  again: {commands.report(run_dir, '--split', 'val')}", markup=False, soft_wrap=True)
    else:
        page = (report_folder(run_dir, "val") / REPORT_FILE).resolve().as_uri()
        console.print(f"[bold]report[/bold]    {escape(page)}   [dim](on val)[/dim]", highlight=False, soft_wrap=True)
    return code == 0


def _read_aside(process: subprocess.Popen[str]) -> Callable[[], list[str]]:
    """Reads a process's errors in a thread, so that it never waits for a reader; gives them when it has ended."""
    lines: list[str] = []
    thread = threading.Thread(target=lambda: lines.extend(line.rstrip() for line in process.stderr or ()), daemon=True)
    thread.start()

    def ended() -> list[str]:
        thread.join(5)
        return lines

    return ended
