"""What proposals for a next sweep are worth: how often there is one where nothing speaks for it, and where much does.

    python -m benchmarks.proposals [--sweeps 200] [--splits 600]

Ranges are moved off an end where the best trials stand there (`next_sweep.edges`). Searches of three ranges are
simulated with the sweep's own samplers: the score depends on none of them, or on the first alone, by a parabola whose
top lies in the middle of the range, near an end, at it, or beyond; the score at the top is once or four times as far
above that half a range from it as the luck of seeds scatters (`gain`). A proposal is right if it moves towards the top
of a range that the score depends on and the top lies within a tenth of the range's end or beyond; any other is wrong.

A larger input, and losses for rare classes, are proposed where an interval lies beyond a limit. Splits are drawn from
the populations of `benchmarks.interval_coverage`; how often the interval lies beyond the true value, as the limit may
be, is the share that is wrong where it can be most often.

Whether a factor is called a reason where it is none, at which transformations are aimed, is in benchmarks/factors.py.

Prints the shares in per cent, with 95% intervals (Wilson), and keeps them in benchmarks/results/proposals.txt.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import optuna
import pandas as pd

from analysis.failures.kinds import class_kinds
from analysis.next_sweep import edges, rare, small
from analysis.next_sweep.proposal import Searched
from benchmarks.claims import share
from benchmarks.populations import failures, real, subset
from search_spaces.core.parameter import choice, number
from search_spaces.core.space import SearchSpace
from sweep.objectives import DEFAULT, objective_of
from sweep.samplers import SAMPLERS, Draw

RESULTS = Path(__file__).parent / "results" / "proposals.txt"
LOSS = "loss.name"
KEYS = ("optimizer.lr", "optimizer.weight_decay", "training.ema")
SPACE = SearchSpace(
    name="simulated",
    description="Three ranges and a choice; the names are those of real keys, the effects are not.",
    parameters=(
        choice(LOSS, ("cross_entropy", "dice")),
        number(KEYS[0], 1e-4, 1e-2, log=True),
        number(KEYS[1], 1e-5, 1e-2, log=True),
        number(KEYS[2], 0.0, 0.9),
    ),
    label_by=LOSS,
)
NO_LOSS = dataclasses.replace(
    SPACE, parameters=(choice("model.name", ("a", "b")), *SPACE.parameters[1:]), label_by="model.name"
)
TOPS = (None, 0.5, 0.15, 0.05, 1.0, 1.25)
"""Where the score is highest, as a place in the first range; None where it depends on nothing."""
GAINS = (1.0, 4.0)
"""The score at the top less that half a range from it, in standard deviations of the seeds' luck."""
OBJECTIVE = objective_of(str(DEFAULT))


def search(sampler: str, trials: int, top: float | None, gain: float, seed: int) -> pd.DataFrame:
    """A simulated search, as rows of `trials.csv`."""
    rng = np.random.default_rng([seed, trials])
    study = optuna.create_study(direction="maximize")
    bounds = {KEYS[0]: (-4, -2), KEYS[1]: (-5, -2), KEYS[2]: (0.0, 0.9)}
    rows = []
    for place in range(trials):
        study.sampler = SAMPLERS.get(sampler)(Draw(SPACE, seed, place, trials=trials))
        trial = study.ask()
        values = {
            KEYS[0]: trial.suggest_float(KEYS[0], 1e-4, 1e-2, log=True),
            KEYS[1]: trial.suggest_float(KEYS[1], 1e-5, 1e-2, log=True),
            KEYS[2]: trial.suggest_float(KEYS[2], 0.0, 0.9),
        }
        low, high = bounds[KEYS[0]]
        at = (np.log10(values[KEYS[0]]) - low) / (high - low)
        trial.suggest_categorical(LOSS, ["cross_entropy", "dice"])
        score = rng.standard_normal() - (0.0 if top is None else gain * ((at - top) / 0.5) ** 2)
        study.tell(trial, score)
        rows.append({f"config/{key}": value for key, value in values.items()} | {OBJECTIVE.key: 0.5 + score / 100})
    return pd.DataFrame(rows).assign(phase="search", state="completed", parent="", epochs=1, seconds=1.0)


def moved(trials: pd.DataFrame) -> list[tuple[str, str]]:
    """The ranges that are proposed to be moved, and to which side."""
    best = trials.loc[trials[OBJECTIVE.key].idxmax()]
    searched = Searched(SPACE, {}, {key: float(best[f"config/{key}"]) for key in KEYS})
    with mock.patch.object(edges, "_is_valid", lambda parameter, searched: True):
        proposals = edges.off_edges(searched, trials, OBJECTIVE)
    found = []
    for proposal in proposals:
        (after,) = proposal.parameters
        before = SPACE.parameter(after.key)
        assert before is not None
        found.append((after.key, "upper" if after.high > before.high else "lower"))
    return found


def off_edges(sweeps: int) -> Iterator[str]:
    """A row per sampler, number of trials, and top."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield f"Ranges moved off an end; per cent of {sweeps} searches of three ranges"
    yield f"{'sampler':<9}{'trials':>6}{'top at':>8}{'gain':>6}   {'a right one':<20}a wrong one"
    for sampler in ("random", "tpe"):
        for trials in (16, 32, 60):
            for top in TOPS:
                for gain in GAINS if top is not None else (0.0,):
                    side = "" if top is None or 0.1 < top < 0.9 else "lower" if top <= 0.1 else "upper"
                    right = wrong = 0
                    for seed in range(sweeps):
                        told = moved(search(sampler, trials, top, gain, seed))
                        right += (KEYS[0], side) in told
                        wrong += any(one != (KEYS[0], side) for one in told)
                    cells = f"{share(right, sweeps) if side else '':<20} {share(wrong, sweeps)}"
                    where = "nowhere" if top is None else f"{top:.2f}"
                    yield f"{sampler:<9}{trials:>6}{where:>8}{gain:>6.0f}   {cells}"


def beyond_limits(splits: int) -> Iterator[str]:
    """How often the intervals of the other rules lie beyond the truth."""
    _, after = failures("scenes, 2 epochs", "scenes, 10 epochs")
    population = real("scenes, 10 epochs")
    classes = population.confusions.shape[1]
    names = [f"c{one}" for one in range(classes)]
    kinds = class_kinds(names)
    pixels = population.confusions.sum(axis=(0, 2))
    parts = np.array(small.lost_by_size(after)).sum(axis=1)
    is_rare = pixels / pixels.sum() < rare.RARE_SHARE / classes
    iou = np.diag(total := population.confusions.sum(axis=0)) / (total.sum(0) + total.sum(1) - np.diag(total))
    limits = {"larger input": parts[0] / parts[1], "rare classes": float(iou[~is_rare].mean() - iou[is_rare].mean())}
    yield ""
    yield f"Proposals where the truth is at the limit; per cent of {splits} splits of {len(after.images)} scenes"
    yield f"{'images':>8}   " + "   ".join(f"{f'{name} ({value:.2f})':<22}" for name, value in limits.items())
    searched = Searched(NO_LOSS, {"image_size": "48x64"}, {"image_size": "48x64", "loss.name": "cross_entropy"})
    for images in (20, 50, 100, 300):
        counts = dict.fromkeys(limits, 0)
        for seed in range(splits):
            places = np.random.default_rng([seed, images]).integers(0, len(after.images), images)
            drawn = SimpleNamespace(
                confusions=population.confusions[places], groups=(None,) * images, image_ids=tuple(map(str, places))
            )
            with mock.patch.object(small, "SMALL_SHARE", limits["larger input"]):
                counts["larger input"] += bool(small.larger_input(searched, subset(after, places), drawn))  # type: ignore[arg-type]
            with mock.patch.object(rare, "LEAST_GAP", limits["rare classes"]):
                told = rare.for_rare_classes(searched, drawn, kinds, names, pixels.tolist())  # type: ignore[arg-type]
                counts["rare classes"] += bool(told)
        yield f"{images:>8}   " + "   ".join(f"{share(count, splits):<22}" for count in counts.values())


def main() -> None:
    """Prints both tables."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--sweeps", type=int, default=200, metavar="N", help="simulated for each row (default: 200)")
    flags.add_argument("--splits", type=int, default=600, metavar="N", help="drawn for each row (default: 600)")
    asked = flags.parse_args()
    lines = []
    for table in (off_edges(asked.sweeps), beyond_limits(asked.splits)):
        for line in table:
            print(line, flush=True)
            lines.append(line)
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
