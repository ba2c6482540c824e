"""Many trials of a second each, ours beside stock Ray Tune: how much of the time is Tune's and the driver's own.

    python -m benchmarks.sleeping_trials [--trials 2000] [--slots 16] [--stock-trials N] [--seconds 1]
                                         [--sides SIDE ...]

A trial sleeps instead of training and reports one number. Ours is what a sweep runs (`sweep.tuner.run_trials` with its
conductor, journal, `trials.csv` and `study.db`, sampler `random`, space `augment`) in a Ray session of its own; stock
is Tune's function API with a random search of ten values and as many trials at once, as it is by default, and with
processes that take one trial after the other (`reusing`: `reuse_actors`). Each side is a process of its own and uses as
many CPUs of Ray as there are slots, however many the machine has: nothing computes.

Seconds are from the first suggestion to the end of the last trial, Ray's start aside; `ideal` is trials times seconds
over slots.
CPU is that of all processes of a side, with Ray's start; memory is the driver's highest. Where stock runs fewer trials
(`--stock-trials`), compare what each trial took.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.processes import timed

OBJECTIVE = "val/miou"


def ours(trials: int, slots: int, seconds: float) -> dict[str, float]:
    """Runs our sweep in this process."""
    import sweep.ray_environment

    # isort: split
    from ray import tune

    import sweep.tuner
    from benchmarks.driver_growth import make
    from sweep.journal import Journal
    from sweep.ray_session import ray_session
    from sweep.resources import Machines, Resources
    from sweep.views import Views
    from tests.sweep.simulated import fraction
    from trainables.data import DATASETS
    from trainables.execution import Execution, TrialData

    class Sleeping(tune.Trainable):
        """A trial that takes `seconds`."""

        def setup(self, config: dict[str, Any], **told: Any) -> None:
            """Takes what a trial is told."""
            self._settings = config["config"]

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            """Becomes another trial."""
            self._settings = new_config["config"]
            return True

        def step(self) -> dict[str, Any]:
            """Sleeps and reports."""
            time.sleep(seconds)
            score = 0.35 + fraction(self._settings) * 0.25
            return {"epoch": 1, "seconds": seconds, "metrics": {OBJECTIVE: score}, "done": True}

    vars(sweep.tuner)["SegmentationTrainable"] = Sleeping
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder, "journal.jsonl")) as journal:
        conductor = make(journal, "random", trials, 1, time.monotonic)
        views = Views(conductor, Path(folder), lambda config: 0.0)
        session = ray_session(address=None, dashboard=False, machines=Machines(slots, 0), on_stuck=print)
        with session as ray:
            conductor.start()
            before = time.process_time()
            sweep.tuner.run_trials(
                conductor,
                data=TrialData(DATASETS.get("scenes")(), (), ()),
                run_dir=Path(folder),
                resources=Resources(1.0, 0.0, slots),
                gpus=lambda config: 0.0,
                execution=Execution(),
                watch=ray.watch,
                on_tick=views.refresh,
            )
            views.write()
            driver = time.process_time() - before
        times = [event["time"] for event in journal.events if event["event"] in ("suggested", "ended")]
        ended = sum(event["event"] == "ended" for event in journal.events)
    return told(ended, span(times), driver)


def stock(trials: int, slots: int, seconds: float, *, reuse: bool = False) -> dict[str, float]:
    """Runs Tune's function API in this process.

    Args:
        trials: How many.
        slots: At once.
        seconds: Of each.
        reuse: Whether a process takes one trial after the other.
    """
    import ray
    from ray import tune

    def sleeping(config: dict[str, float]) -> None:
        time.sleep(seconds)
        tune.report({"miou": sum(config.values())})

    place = os.environ.get("RAY_TMPDIR")
    ray.init(num_cpus=slots, include_dashboard=False, log_to_driver=False, **({"_temp_dir": place} if place else {}))
    before = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(sleeping, {"CPU": 1}),
            param_space={f"value_{number}": tune.uniform(0, 1) for number in range(10)},
            tune_config=tune.TuneConfig(
                metric="miou", mode="max", num_samples=trials, max_concurrent_trials=slots, reuse_actors=reuse
            ),
            run_config=tune.RunConfig(storage_path=folder, name="stock", verbose=0),
        )
        began = time.monotonic()
        results = tuner.fit()
        wall = time.monotonic() - began
    ended = len(results) - len(results.errors)
    answer = told(ended, wall, time.process_time() - before)
    ray.shutdown()
    return answer


def span(times: list[str]) -> float:
    """Seconds from the first to the last of some moments of a journal."""
    moments = [datetime.fromisoformat(one).timestamp() for one in times]
    return max(moments) - min(moments)


def told(trials: int, wall: float, driver: float) -> dict[str, float]:
    """What a side took, memory included."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"trials": trials, "wall": wall, "driver": driver, "mib": peak}


Side = Callable[[int, int, float], dict[str, float]]
SIDES: dict[str, Side] = {"ours": ours, "stock": stock, "reusing": functools.partial(stock, reuse=True)}


def main() -> None:
    """Runs both sides, each in a process of its own, and prints the table."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--trials", type=int, default=2000, metavar="N")
    flags.add_argument("--stock-trials", type=int, metavar="N", help="default: as many")
    flags.add_argument("--slots", type=int, default=16, metavar="N")
    flags.add_argument("--seconds", type=float, default=1.0, metavar="S", help="of each trial")
    flags.add_argument("--sides", choices=SIDES, nargs="+", default=[*SIDES], help="ours is always among them")
    flags.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    asked = flags.parse_args()
    if asked.side:
        print(json.dumps(SIDES[asked.side](asked.trials, asked.slots, asked.seconds)))
        return
    print(
        f"{'':<14} {'trials':>7} {'wall, s':>8} {'of ideal':>9} {'CPU per trial, ms':>18} {'driver, ms':>11} {'MiB':>6}"
    )
    found = {}
    sides = [side for side in SIDES if side == "ours" or side in asked.sides]
    for side in sides:
        trials = asked.stock_trials if side != "ours" and asked.stock_trials else asked.trials
        numbers = ["--trials", str(trials), "--slots", str(asked.slots), "--seconds", str(asked.seconds)]
        took = timed([sys.executable, "-m", "benchmarks.sleeping_trials", "--side", side, *numbers])
        answer = json.loads(took.output.splitlines()[-1])
        if answer["trials"] < trials:
            raise SystemExit(f"{side}: {answer['trials']:g} of {trials} trials came to their end")
        over = answer["wall"] / (trials * asked.seconds / asked.slots)
        each = {"cpu": 1000 * took.cpu / trials, "driver": 1000 * answer["driver"] / trials}
        found[side] = {"wall": answer["wall"] / trials, "CPU": each["cpu"], "CPU of the driver": each["driver"]}
        row = f"{answer['wall']:>8.1f} {over:>9.2f} {each['cpu']:>18.1f} {each['driver']:>11.2f} {answer['mib']:>6.0f}"
        print(f"{side:<14} {trials:>7} {row}", flush=True)
    for side in sides[1:]:
        ratios = (f"{name} {found['ours'][name] / found[side][name]:.2f}" for name in found["ours"])
        print(f"ours to {side}, per trial:", ", ".join(ratios))


if __name__ == "__main__":
    main()
