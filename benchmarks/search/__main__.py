"""Which sampler, stop rule and allocation of epochs find the best configuration at an equal number of epochs?

    python -m benchmarks.search [--minutes 40] [--slots 2,16] [--strategies all|SAMPLER:RULE:ALLOCATION,...]

Plays searches, repetition after repetition, on a member of each simulated family (`families.py`) and on recorded curves
of real trainings (`recorded.py`), and writes `benchmarks/results/search.txt`. Regret is the best true value that there
is minus that of the crowned configuration, in mIoU. Intervals are 95% over repetitions; differences are paired: in a
repetition all strategies meet the same landscapes, noise and seeds. With --keep FILE every search is kept there, and
the same command goes on where it ended.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import platform
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import torch

from benchmarks.search.families import FAMILIES, Landscape, member
from benchmarks.search.recorded import SEEDS, Recording, read_lines
from benchmarks.search.replay import ALLOCATIONS, Strategy, length, replay
from benchmarks.search.table import Replayed, by_landscape, rows
from sweep.samplers import SAMPLERS, check_sampler
from sweep.schedulers import SCHEDULERS
from trainables.errors import UsageError

RESULTS = Path(__file__).parents[1] / "results" / "search.txt"
DEFAULT = Strategy()
LANDSCAPES = (*FAMILIES, "recorded lr", "recorded full")
GIVEN = {"simulated": 320, "recorded": 64}
"""Epochs of a search: 16 full trials of the length that is planned, and 8 where few configurations are recorded."""
PAIRS = (
    Strategy("random", "none"),
    Strategy("random", "none", "shorter"),
    Strategy("nsga2", "none"),
    Strategy("qmc", "epoch"),
    Strategy("random", "epoch", "rung epoch 1"),
)
"""Beside those that differ from the default in one thing: nothing clever at all, and what was published together; the
last is early discarding after one epoch as in Egele et al. (2024)."""


def one_at_a_time() -> list[Strategy]:
    """The default, then everything that differs from it in one thing, then `PAIRS`."""
    changed = [dataclasses.replace(DEFAULT, sampler=name) for name in SAMPLERS]
    changed += [dataclasses.replace(DEFAULT, rule=name) for name in SCHEDULERS]
    changed += [dataclasses.replace(DEFAULT, allocation=name) for name in ALLOCATIONS]
    return list(dict.fromkeys([DEFAULT, *changed, *PAIRS]))


def strategies(text: str) -> list[Strategy]:
    """Those that are asked for, the default first: `all` crosses everything with everything.

    Raises:
        UsageError: If one has an unknown part.
    """
    if text == "all":
        asked = [Strategy(*parts) for parts in itertools.product(SAMPLERS, SCHEDULERS, ALLOCATIONS)]
    elif text:
        asked = [Strategy(*one.split(":")) for one in text.split(",")]
    else:
        asked = one_at_a_time()
    for one in asked:
        SAMPLERS.check(one.sampler)
        SCHEDULERS.check(one.rule)
        if one.allocation not in ALLOCATIONS:
            raise UsageError(f"unknown allocation {one.allocation!r}; known: {', '.join(ALLOCATIONS)}")
    return list(dict.fromkeys([DEFAULT, *asked]))


@cache
def landscape(name: str, repetition: int) -> Landscape:
    """A member of a family, another in each repetition; of a recording, the curves of one seed."""
    if name in FAMILIES:
        return member(name, repetition)
    return Recording(name.split()[1], SEEDS[repetition % len(SEEDS)], read_lines())


def can_play(strategy: Strategy, on: Landscape, given: int) -> bool:
    """Whether the sampler can search the space, and the lengths have the allocation's."""
    try:
        check_sampler(strategy.sampler, on.space)
        length(on, ALLOCATIONS[strategy.allocation], given=given)
    except (UsageError, ValueError):
        return False
    return True


def play(played: Sequence[Strategy], names: Sequence[str], slots: Sequence[int], done: set[tuple[object, ...]],
         end: float) -> Iterator[Replayed]:  # fmt: skip
    """Whole repetitions until the time is over; at least one."""
    for repetition in itertools.count():
        todo = [
            (name, strategy, count)
            for name, count, strategy in itertools.product(names, slots, played)
            if (name, strategy, count, repetition) not in done
        ]
        if todo and repetition > 0 and time.monotonic() > end:
            return
        for name, strategy, count in todo:
            on, given = landscape(name, repetition), GIVEN["simulated" if name in FAMILIES else "recorded"]
            if not can_play(strategy, on, given):
                continue
            found = replay(on, strategy, given=given, slots=count, seed=repetition)
            yield Replayed(name, strategy, count, repetition, found.regret, found.trials, found.spent / given,
                           found.driver_seconds)  # fmt: skip
        landscape.cache_clear()


def main() -> None:
    """Plays, prints and writes the table."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--minutes", type=float, default=40.0, help="whole repetitions are begun until then")
    flags.add_argument("--slots", default="2,16", metavar="N,...", help="trials at once")
    flags.add_argument("--strategies", default="", metavar="SAMPLER:RULE:ALLOCATION,...|all")
    flags.add_argument("--landscapes", default=",".join(LANDSCAPES), metavar="NAME,...")
    flags.add_argument("--keep", type=Path, metavar="FILE", help="of all searches, one line each, to go on with")
    flags.add_argument("--out", type=Path, default=RESULTS, metavar="FILE", help=f"default: {RESULTS.name}")
    asked = flags.parse_args()
    torch.set_num_threads(1)  # the sampler gp computes with it
    end = time.monotonic() + 60 * asked.minutes
    played = strategies(asked.strategies)
    slots = [int(text) for text in asked.slots.split(",")]
    names = asked.landscapes.split(",")
    found = kept(asked.keep)
    done: set[tuple[object, ...]] = {(one.landscape, one.strategy, one.slots, one.repetition) for one in found}
    replay(member("parallel", 0), DEFAULT, given=GIVEN["simulated"], slots=2, seed=0)  # loads Optuna
    for one in play(played, names, slots, done, end):
        found.append(one)
        if asked.keep is not None:
            with asked.keep.open("a") as stream:
                stream.write(json.dumps(dataclasses.asdict(one), separators=(",", ":")) + "\n")
    wanted = set(played)
    text = "\n".join(told([one for one in found if one.strategy in wanted and one.landscape in names])) + "\n"
    asked.out.write_text(text)
    print(text, end="")


def kept(path: Path | None) -> list[Replayed]:
    """The searches of an earlier run of the same command."""
    if path is None or not path.is_file():
        return []
    read = [json.loads(line) for line in path.read_text().splitlines()]
    return [Replayed(**{**one, "strategy": Strategy(**one["strategy"])}) for one in read]


def told(found: Sequence[Replayed]) -> list[str]:
    """The table, what it was made of, and the differences by landscape."""
    names = list(dict.fromkeys(one.landscape for one in found))
    counts = {name: len({one.repetition for one in found if one.landscape == name}) for name in names}
    repetitions = ", ".join(f"{name} {count}" for name, count in counts.items())
    sizes = {name: len(Recording(name.split()[1], SEEDS[0], read_lines())) for name in names if name not in FAMILIES}
    recorded = ", ".join(f"{name.split()[1]} {count}" for name, count in sizes.items())
    return [
        f"{len(found)} searches; repetitions: {repetitions}",
        f"{GIVEN['simulated']} epochs a search on simulated curves, {GIVEN['recorded']} on recorded ones; "
        f"one core of {platform.machine()}, Python {platform.python_version()}",
        f"recorded configurations, {len(SEEDS)} seeds each: {recorded or 'none played'}",
        "regret in mIoU, 95% intervals; '- default': paired difference, negative is better, * beyond its interval",
        "trials, epochs spent of those given, and ms/trial (CPU time of the driver) are those on simulated curves",
        "",
        *rows(found, DEFAULT),
        "",
        "by landscape, both numbers of slots: regret of the default, then differences from it",
        "",
        *by_landscape(found, DEFAULT),
    ]


if __name__ == "__main__":
    main()
