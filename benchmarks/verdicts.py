"""What real sweeps conclude where the truth is known: `augment` on the drawn scenes, and a space of equals.

    python benchmarks/verdicts.py [--runs verdicts.jsonl] [--count 10] [--parallel 2] [--out FILE]

Runs `python -m sweep.run` for sweep seeds 0 to N-1 of both spaces, at the size of `make sweep` and with a fixed number
of trials, epochs and fresh seeds, so that no result depends on how fast the machine is; then the report on test. Each
finished sweep is one line of `--runs`: started again, the command runs what is missing there. `--table` only prints
what there is. Sweeps train on the CPU; those that run at once have processors, a Ray session and a temporary folder of
their own.

What is true. Val and test of the scenes differ from train in light and colour (exposure 0.45 to 1.4, where train has
0.92 to 1.08), and in zoom, angle and noise (docs/DATA.md). Training images whose light is changed are therefore nearer
to val than those of the baseline, which are left as they are. So a sweep of `augment` is

    right   if its verdict calls a policy better than the baseline that changes the light (brightness, contrast,
            saturation, hue, gamma, or TrivialAugment, which draws them too), and the same fresh seeds are also ahead
            on test, whose images chose nothing
    open    if its verdict claims nothing: not false, but the truth was there to be found
    wrong   if it claims anything else. That is strict: a policy that only moves the camera may be better, too.

The names of `benchmarks/equals.py` are one model. A sweep of them is right if its verdict claims nothing, and wrong if
it calls one better or worse than the one called baseline.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy import stats
from tabulate import tabulate

from search_spaces.augment import KEY
from sweep.claims import Outcome
from sweep.verdict import last_verdict
from sweep.versions import describe_hardware, package_versions
from trainables.augmentations import family_transforms

EQUALS = Path(__file__).with_name("equals.py")
SPACES: Mapping[str, Sequence[str]] = {
    "augment": ("--space", "augment"),
    "equals": ("--space", "equals", "--plugins", str(EQUALS)),
}
LIGHT = frozenset(family_transforms("photometric")) | {"trivial"}
"""Transformations that change the light, or draw one that does."""
HELD = ("--set", "image_size=48x64", "--set", "resize=stretch")
"""As in `make sweep`."""
APART = 2.0
"""Seconds between the first starts: Ray sessions that look for free ports at the same time may find the same."""


@dataclass(frozen=True)
class Settings:
    """What decides a result beside the space and the seed."""

    trials: int
    max_epochs: int
    confirm: int

    def flags(self) -> list[str]:
        """Of `sweep.run`."""
        counts = {"--trials": self.trials, "--max-epochs": self.max_epochs, "--confirm": self.confirm}
        return [*itertools.chain.from_iterable((flag, str(count)) for flag, count in counts.items()), *HELD]


def key(space: str, seed: int, settings: Settings) -> str:
    """What a line of `--runs` is found by."""
    return json.dumps([space, seed, *settings.flags()])


def read(path: Path) -> dict[str, dict[str, Any]]:
    """The finished sweeps by their keys; a last line that was cut off is left out."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            run = json.loads(line)
        except ValueError:
            continue
        found[key(run["space"], run["seed"], Settings(**run["settings"]))] = run
    return found


def conclusion(events: Sequence[Mapping[str, Any]], on_test: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """What a sweep's verdict says of its leading configuration.

    Args:
        events: Of its journal.
        on_test: Rows of the table `confirmation` of its report on test.
    """
    verdict = last_verdict(events)
    if verdict is None:
        raise ValueError("the sweep ended without a verdict")
    leading = verdict.leading
    suggested = next(e for e in events if e["event"] == "suggested" and e["trial_id"] == leading.name)
    config = suggested["config"]
    test = next(row for row in on_test if row["trial_id"] == leading.name)
    return {
        "leading": verdict.of(leading.name).label,
        "outcome": verdict.outcome.value,
        "difference": leading.difference,
        "low": leading.low,
        "high": leading.high,
        "chance": leading.chance,
        "transformations": transformations(config),
        "test_difference": float(test["difference"]),
        "test_low": float(test["difference_low"]),
        "test_high": float(test["difference_high"]),
        "test_outcome": test["outcome"],
    }


def transformations(config: Mapping[str, Any]) -> list[str]:
    """Those that a configuration has on."""
    asked = {name: config.get(f"augment.{name}.p", usual) for name, usual in family_transforms(config[KEY]).items()}
    return [name for name, share in asked.items() if float(share) > 0]


def judged(run: Mapping[str, Any]) -> str:
    """`right`, `open` or `wrong`, as the docstring of this file says."""
    claims = run["outcome"] != Outcome.UNDECIDED.value
    if run["space"] == "equals":
        return "wrong" if claims else "right"
    if not claims:
        return "open"
    better = run["outcome"] == Outcome.BETTER.value
    return "right" if better and LIGHT & {*run["transformations"]} and run["test_difference"] > 0 else "wrong"


def told(runs: Iterable[Mapping[str, Any]], settings: Settings) -> str:
    """A row per sweep, and the counts."""
    runs = sorted(runs, key=lambda run: (run["space"], run["seed"]))
    headers = ["space", "seed", "leading", "verdict", "gain on val", "95% interval", "on test", "95% interval", "is"]
    rows = [
        [
            run["space"],
            run["seed"],
            run["leading"],
            run["outcome"],
            f"{run['difference']:+.3f}",
            f"{run['low']:+.3f} .. {run['high']:+.3f}",
            f"{run['test_difference']:+.3f}",
            f"{run['test_low']:+.3f} .. {run['test_high']:+.3f}",
            judged(run),
            f"{run['seconds']:.0f}",
        ]
        for run in runs
    ]
    lines = [
        f"{' '.join(settings.flags())}; one trial at a time, one thread",
        *sorted({run["machine"] for run in runs}),
        "",
        tabulate(rows, headers=[*headers, "seconds"], disable_numparse=True),
        "",
        *(counts(space, [run for run in runs if run["space"] == space]) for space in SPACES),
    ]
    return "\n".join(lines) + "\n"


def counts(space: str, runs: Sequence[Mapping[str, Any]]) -> str:
    """How many sweeps of a space are right, and how many claim something on val and on test."""
    if not runs:
        return f"{space}: not measured"
    of = {word: [judged(run) for run in runs].count(word) for word in ("right", "open", "wrong")}
    interval = stats.binomtest(of["right"], len(runs)).proportion_ci(method="wilson")
    claimed = sum(run["outcome"] != Outcome.UNDECIDED.value for run in runs)
    on_test = sum(run["test_outcome"] != Outcome.UNDECIDED.value for run in runs)
    return (
        f"{space}: right {of['right']} of {len(runs)} (95% interval {interval.low:.2f} to {interval.high:.2f}), open "
        f"{of['open']}, wrong {of['wrong']}; {claimed} claim a difference on val, {on_test} on test"
    )


def machine() -> str:
    """Where a sweep ran, in a line."""
    versions = package_versions()
    packages = ", ".join(f"{name} {versions[name]}" for name in ("torch", "numpy", "albumentations"))
    return f"{describe_hardware().cpu}, Python {versions['python']}, {packages}"


class Sweeps:
    """Runs sweeps, some of them at once.

    Args:
        folder: For run folders, which go as soon as they are read, and for logs.
        settings: Of every sweep.
        parallel: How many at once; each has the processors of its place to itself as far as there are enough.
    """

    def __init__(self, folder: Path, settings: Settings, parallel: int) -> None:
        self.folder, self.settings = folder, settings
        self.machine = machine()
        self._cores = sorted(os.sched_getaffinity(0))
        self._places: queue.SimpleQueue[int] = queue.SimpleQueue()
        for place in range(parallel):
            self._places.put(place)
        self._parallel = parallel
        self._began = time.monotonic()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._over = False

    def run(self, space: str, seed: int) -> dict[str, Any]:
        """Runs a sweep and its report on test; returns its line.

        Raises:
            RuntimeError: If a command failed; with the end of what it printed.
        """
        place = self._places.get()
        name, short = f"{space}-{seed}", tempfile.mkdtemp(prefix="v", dir="/tmp")  # short: Ray puts sockets there
        try:
            time.sleep(max(0.0, self._began + APART * place - time.monotonic()))
            run, began = self.folder / name, time.perf_counter()
            where = ["--runs-dir", str(self.folder), "--name", name, "--seed", str(seed)]
            once = ["--concurrent", "1", "--no-report", "--no-dashboard", "--wandb", "disabled"]
            arguments = [*SPACES[space], *self.settings.flags(), *where, *once]
            self._command("sweep.run", arguments, place, name, short)
            opened = [str(run), "--split", "test", "--pictures", "0", *SPACES[space][2:]]
            self._command("analysis.report", opened, place, name, short)
            events = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
            with (run / "report" / "tables" / "confirmation.csv").open(newline="") as file:
                found = conclusion(events, list(csv.DictReader(file)))
            seconds = time.perf_counter() - began
            shutil.rmtree(run)
        finally:
            shutil.rmtree(short, ignore_errors=True)
            self._places.put(place)
        known = {"space": space, "seed": seed, "settings": vars(self.settings)}
        return {**known, **found, "seconds": seconds, "machine": self.machine}

    def _command(self, module: str, arguments: Sequence[str], place: int, name: str, short: str) -> None:
        own = {"RAY_TMPDIR": short, "OMP_NUM_THREADS": "1", "COLUMNS": "160", "CUDA_VISIBLE_DEVICES": ""}
        environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"} | own
        log = self.folder / f"{name}.log"
        with log.open("ab") as output:
            with self._lock:
                if self._over:
                    raise RuntimeError("interrupted")
                process = subprocess.Popen(
                    [sys.executable, "-m", module, *arguments],
                    stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment,
                )  # fmt: skip
                self._running.add(process)
            mine = self._cores[place :: self._parallel] or [self._cores[place % len(self._cores)]]
            os.sched_setaffinity(process.pid, mine)
            code = process.wait()
        with self._lock:
            self._running.discard(process)
        if code and self._over:
            raise RuntimeError("interrupted")
        if code:
            end = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise RuntimeError(f"{name}: python -m {module} ended with exit code {code}\n{end}")

    def stop(self) -> None:
        """Ends what runs; nothing more is begun."""
        with self._lock:
            self._over = True
            for process in self._running:
                process.terminate()


def main() -> int:
    """Runs what is missing and prints the table; returns 1 if a sweep failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("verdicts.jsonl"), help="one line per finished sweep")
    parser.add_argument("--count", type=int, default=10, help="sweep seeds of each space")
    parser.add_argument("--trials", type=int, default=7)
    parser.add_argument("--max-epochs", type=int, default=8)
    parser.add_argument("--confirm", type=int, default=3, help="fresh seeds")
    parser.add_argument("--parallel", type=int, default=1, metavar="K", help="sweeps at once")
    parser.add_argument("--out", type=Path, help="where the table is written, beside the terminal")
    parser.add_argument("--table", action="store_true", help="run nothing")
    asked = parser.parse_args()
    settings = Settings(asked.trials, asked.max_epochs, asked.confirm)
    wanted = {key(space, seed, settings): (space, seed) for seed in range(asked.count) for space in SPACES}
    missing = [] if asked.table else [who for name, who in wanted.items() if name not in read(asked.runs)]
    failed = measure(missing, settings, asked.parallel, asked.runs) if missing else 0
    text = told([run for name, run in read(asked.runs).items() if name in wanted], settings)
    print(text)
    if asked.out:
        asked.out.write_text(text, encoding="utf-8")
    return 1 if failed else 0


def measure(missing: Sequence[tuple[str, int]], settings: Settings, parallel: int, runs: Path) -> int:
    """Runs sweeps and keeps a line of each, until all are done or a signal comes; returns how many failed."""
    signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    failed, lock = 0, threading.Lock()
    with tempfile.TemporaryDirectory() as folder:
        sweeps = Sweeps(Path(folder), settings, parallel)

        def one(who: tuple[str, int]) -> bool:
            try:
                run = sweeps.run(*who)
            except (RuntimeError, OSError, ValueError, StopIteration) as error:
                print(f"{who[0]} seed {who[1]}: {error}", file=sys.stderr, flush=True)
                return False
            with lock, runs.open("a", encoding="utf-8") as file:
                file.write(json.dumps(run) + "\n")
            print(
                f"{run['space']} seed {run['seed']}: {run['leading']} {run['outcome']}, {run['difference']:+.3f} "
                f"[{run['low']:+.3f}, {run['high']:+.3f}], {judged(run)}, {run['seconds']:.0f} s",
                flush=True,
            )
            return True

        with ThreadPoolExecutor(parallel) as pool:
            try:
                failed = [*pool.map(one, missing)].count(False)
            except KeyboardInterrupt:
                sweeps.stop()
                pool.shutdown(cancel_futures=True)
                print("interrupted: the same command goes on", flush=True)
                failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
