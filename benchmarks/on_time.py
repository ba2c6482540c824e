"""Whether sweeps end within their time budget: real ones, some of them killed on the way and resumed.

    python benchmarks/on_time.py [--runs 20] [--killed 5] [--budgets 60,90,150] [--set image_size=48x64]

Each run is `python -m sweep.run --space SPACE --time-budget B` on embedded images; spaces and budgets take turns. The
driver of a killed run is ended by SIGKILL at a share of its budget that differs from run to run, and resumed after a
pause that is not counted. The time is that of the processes, from their start to their end, by this script's clock.
Printed are budget, prediction and time of each run, what it trained (a refit: the winner again, on train and val), and
how many ended within 1.05 times their budget. `--out` keeps that.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SPACES = ("augment", "loss", "lr")
LATE = 1.05


def main() -> None:
    """Prints a line per run and the count."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--runs", type=int, default=20, metavar="N")
    flags.add_argument("--killed", type=int, default=5, metavar="N", help="how many of them are killed and resumed")
    flags.add_argument("--budgets", default="60,90,150", metavar="SECONDS,...")
    flags.add_argument("--set", dest="held", default="image_size=48x64", metavar="KEY=VALUE")
    flags.add_argument("--out", type=Path, metavar="FILE", help="where the table is written, beside the terminal")
    options = flags.parse_args()
    budgets = [int(text) for text in options.budgets.split(",")]
    row = "{:>3} {:<8} {:>6} {:>8} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6}  {}"
    if options.out:
        options.out.unlink(missing_ok=True)

    def say(line: str) -> None:
        print(line, flush=True)
        if options.out:
            with options.out.open("a", encoding="utf-8") as file:
                file.write(line.rstrip() + "\n")

    titles = ("run", "space", "budget", "foreseen", "took", "share", "trials", "epochs", "seeds", "refit", "what")
    say(row.format(*titles))
    in_time = refused = 0
    every = max(1, options.runs // max(1, options.killed))
    with tempfile.TemporaryDirectory() as folder:
        for run in range(options.runs):
            space, budget = SPACES[run % len(SPACES)], budgets[run % len(budgets)]
            is_killed = run % every == 0 and run // every < options.killed
            kill = budget * (0.3 + 0.5 * (run % 7) / 6) if is_killed else 0.0
            path = Path(folder, f"r{run}")
            took, code = sweep(path, space, budget, options.held, kill)
            told = manifest(path)
            if told is None:
                refused += 1
                say(row.format(run, space, budget, "-", f"{took:.0f}", *[""] * 5, "refused: too short"))
                continue
            plan = told["plan"]
            foreseen = sum(plan[f"{part}_seconds"] for part in ("prepare", "trials", "confirm", "refit", "report"))
            in_time += took <= LATE * budget and code == 0
            what = f"killed at {kill:.0f} s and resumed" if kill else ""
            what += "" if code == 0 else f" exit code {code}"
            times = (f"{foreseen:.0f}", f"{took:.0f}", f"{took / budget:.2f}")
            searched, seeds, refit = trained(path)
            say(row.format(run, space, budget, *times, searched, plan["max_epochs"], seeds, refit, what))
    ran = options.runs - refused
    say(f"{in_time} of {ran} within {LATE:g} times their budget; {refused} refused as too short")


def sweep(run: Path, space: str, budget: int, held: str, kill: float) -> tuple[float, int]:
    """Seconds of a sweep's processes, and the exit code of the last."""
    where = ["--runs-dir", str(run.parent), "--name", run.name]
    begun = ["--space", space, "--time-budget", f"{budget}s", "--set", held, "--no-dashboard"]
    first, code = timed([*begun, *where], kill)
    if not kill or code == 2:
        return first, code
    time.sleep(8)  # what the driver had started ends without it
    last, code = timed(["--resume", *where], 0.0)
    return first + last, code


def timed(arguments: list[str], kill: float) -> tuple[float, int]:
    """Seconds and exit code of a command, which is killed after so many seconds unless they are 0."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "sweep.run", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(kill or None)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    return time.perf_counter() - began, process.returncode


def manifest(run: Path) -> dict[str, dict[str, float]] | None:
    """A run's manifest, or None if the run was refused."""
    path = run / "manifest.json"
    return json.loads(path.read_text()) if path.is_file() else None


def trained(run: Path) -> tuple[int, int, str]:
    """Trials of the search that were begun, trials with fresh seeds, and whether the winner was trained again."""
    events = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    phases = [event["phase"] for event in events if event["event"] == "suggested"]
    refit = "yes" if any(event["event"] == "refitted" for event in events) else "no"
    return phases.count("search"), phases.count("confirm"), refit


if __name__ == "__main__":
    main()
