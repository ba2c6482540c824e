"""What the claims of a sweep are worth: simulated sweeps of equals, and sweeps with one true gain.

    python -m benchmarks.claims [--sweeps 2000] [--tables rule,chances,power,report]

A sweep tries configurations with one seed each on val, picks the best few, trains them and the baseline again with
fresh seeds, and compares them by `sweep.claims.compare`: on val, whose images picked them, and on test. A seed moves a
score by 0.012, the images of a split move a configuration by `luck`. Beside it stands what is said without fresh seeds:
the best of all trials against the baseline by the interval of the two checkpoints over images.

A chance that is told must be true: `chances` counts how often sweeps of equals are told one as small as some numbers,
where images count for more and for less than seeds.

The last table has sweeps of equals that are simulated image by image and go through the report's own rules
(`benchmarks/simulated_report.py`): the share in which any sentence or row of a table calls a configuration better or
worse, on val and on test, without a confirmation and with it, and in which two checkpoints are told apart.

Prints, and keeps in benchmarks/results/claims-TABLE.txt, the share of sweeps that call something better (or worse),
with its 95% interval (Wilson), and for true gains the share in which the better configuration is claimed, beside
theory.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks import simulated_report
from sweep.claims import Arm, Design, Outcome, compare, power

RESULTS = Path(__file__).parent / "results"
SEED_SD = 0.012
IMAGES = 100
GAINS = (0.01, 0.02, 0.03, 0.04)
EQUALS = (
    # tried, picked, seeds, luck of the images, ratio of the largest to the smallest spread over seeds
    (5, 1, 3, 0.007, 1.0),
    (20, 2, 3, 0.007, 1.0),
    (20, 2, 5, 0.007, 1.0),
    (50, 3, 5, 0.007, 1.0),
    (50, 3, 5, 0.020, 1.0),
    (20, 2, 3, 0.007, 3.0),
)


def play(
    rng: np.random.Generator, tried: int, picked: int, seeds: int, luck: float, spread: float, gain: float = 0.0
) -> tuple[bool, bool, bool, bool]:
    """One sweep: whether val, test, and two checkpoints on test, call something better; whether test calls it worse."""
    sds = SEED_SD * np.exp(rng.uniform(-0.5, 0.5, tried + 1) * math.log(spread))
    true = np.zeros(tried + 1)
    true[1] = gain
    of_val, of_test = rng.normal(0, luck, (2, tried + 1))
    first = sds * rng.normal(size=tried + 1)
    searched = true + of_val + first
    best = np.argsort(-searched[1:])[:picked] + 1
    fresh = sds[:, None] * rng.normal(size=(tried + 1, seeds))
    variance = 2 * luck**2 * rng.chisquare(IMAGES - 1) / (IMAGES - 1)
    found = []
    for images, chosen_from in ((of_val, tried), (of_test, None)):
        arms = [Arm(str(one), tuple(true[one] + images[one] + fresh[one])) for one in (0, *best)]
        contrasts = compare(
            arms[0], arms[1:], image_variance={arm.name: variance for arm in arms}, units=IMAGES,
            chosen_from=chosen_from, draws=4000,
        )  # fmt: skip
        found.append({one.outcome for one in contrasts})
    two = (true + of_test + first)[[best[0], 0]]
    alone = two[0] - two[1] > stats.norm.ppf(0.975) * math.sqrt(variance)
    return Outcome.BETTER in found[0], Outcome.BETTER in found[1], alone, Outcome.WORSE in found[1]


def share(count: int, of: int) -> str:
    """A share with its 95% interval (Wilson)."""
    interval = stats.binomtest(count, of).proportion_ci(0.95, method="wilson")
    return f"{100 * count / of:5.1f} [{100 * interval.low:4.1f}, {100 * interval.high:4.1f}]"


def rule(sweeps: int) -> list[str]:
    """Sweeps of equals, by the rule alone."""
    lines = [f"Sweeps of equals, {sweeps} of each kind; per cent that call something better", ""]
    columns = ("val, fresh seeds", "test, fresh seeds", "test: worse", "two checkpoints")
    lines.append("tried picked seeds   luck spread   " + "   ".join(f"{name:<18}" for name in columns))
    for tried, picked, seeds, luck, spread in EQUALS:
        rng = np.random.default_rng([tried, picked, seeds, int(1000 * luck), int(spread)])
        told = [play(rng, tried, picked, seeds, luck, spread) for _ in range(sweeps)]
        on_val, on_test, alone, worse = (sum(column) for column in zip(*told, strict=True))
        cells = "   ".join(share(count, sweeps) for count in (on_val, on_test, worse, alone))
        lines.append(f"{tried:5} {picked:6} {seeds:5} {luck:6.3f} {spread:6.0f}   {cells}")
        print(lines[-1], flush=True)
    return lines


CHANCES = (0.05, 0.025, 0.01, 0.003, 0.001)
CHANCE_KINDS = (
    # picked, seeds, spread over seeds, luck of the images
    (1, 3, 0.012, 0.0),
    (1, 3, 0.012, 0.002),
    (1, 3, 0.012, 0.007),
    (1, 3, 0.004, 0.010),
    (2, 3, 0.012, 0.007),
    (2, 5, 0.012, 0.007),
)


def chances(sweeps: int) -> list[str]:
    """How often sweeps of equals are told a chance as small as that."""
    lines = [f"Per cent of {sweeps} sweeps of equals whose smallest chance is at most so many per cent", ""]
    lines.append("picked seeds seed SD   luck   " + "   ".join(f"{100 * one:<18g}" for one in CHANCES))
    for picked, seeds, sd, luck in CHANCE_KINDS:
        rng, told = np.random.default_rng([picked, seeds, int(1000 * sd), int(1000 * luck)]), []
        for _ in range(sweeps):
            arms = [Arm(str(n), tuple(rng.normal(0, luck) + rng.normal(0, sd, seeds))) for n in range(picked + 1)]
            variance = 2 * luck**2 * rng.chisquare(IMAGES - 1) / (IMAGES - 1)
            found = compare(
                arms[0], arms[1:], image_variance={arm.name: variance for arm in arms}, units=IMAGES, draws=20_000
            )
            told.append(min(one.chance for one in found))
        cells = "   ".join(share(int(np.sum(np.array(told) <= one)), sweeps) for one in CHANCES)
        lines.append(f"{picked:6} {seeds:5} {sd:7.3f} {luck:6.3f}   {cells}")
        print(lines[-1], flush=True)
    return lines


def gains(sweeps: int) -> list[str]:
    """How often a true gain is claimed."""
    lines = [f"One configuration better by a true gain, seeds alone; per cent that claim it, {sweeps} sweeps", ""]
    lines.append("seeds picked   gain   claimed              theory")
    for seeds, picked in ((3, 1), (3, 2), (5, 2), (6, 3)):
        for gain in GAINS:
            rng = np.random.default_rng([seeds, picked, int(1000 * gain)])
            claimed = 0
            for _ in range(sweeps):
                arms = [
                    Arm(str(one), tuple(gain * (one == 1) + SEED_SD * rng.normal(size=seeds)))
                    for one in range(picked + 1)
                ]
                claimed += compare(arms[0], arms[1:], draws=4000)[0].outcome is Outcome.BETTER
            expected = 100 * power(gain, Design((seeds,) * (picked + 1)), SEED_SD)
            lines.append(f"{seeds:5} {picked:6} {gain:6.2f}   {share(claimed, sweeps)}   {expected:5.1f}")
            print(lines[-1], flush=True)
    return lines


REPORTS = (
    simulated_report.Design(tried=5, picked=1, seeds=3),
    simulated_report.Design(tried=20, picked=2, seeds=3),
    simulated_report.Design(tried=50, picked=3, seeds=5),
)


def report(sweeps: int) -> list[str]:
    """Sweeps of equals, through the report's own rules."""
    lines = [f"What reports say of {sweeps} sweeps of equals, 100 images each of val and test; per cent", ""]
    lines.append(f"{'tried picked seeds   split, evidence':<42}any better or worse    two checkpoints told apart")
    for design in REPORTS:
        found: dict[str, list[simulated_report.Said]] = {}
        for seed in range(sweeps):
            for where, told in simulated_report.play(design, seed).items():
                found.setdefault(where, []).append(told)
        for where, said in found.items():
            head = f"{design.tried:5} {design.picked:6} {design.seeds:5}   {where}"
            better, apart = (sum(getattr(one, name) for one in said) for name in ("better", "checkpoints"))
            lines.append(f"{head:<42}{share(better, len(said)):<22} {share(apart, len(said))}")
            print(lines[-1], flush=True)
    return lines


TABLES = {"rule": rule, "chances": chances, "power": gains, "report": report}


def main() -> None:
    """Prints the tables."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--sweeps", type=int, default=2000, metavar="N", help="of each kind (default: 2000)")
    flags.add_argument("--tables", default=",".join(TABLES), metavar="NAME,...", help="default: all")
    asked = flags.parse_args()
    for name in asked.tables.split(","):
        lines = TABLES[name](asked.sweeps)
        (RESULTS / f"claims-{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
