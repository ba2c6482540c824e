"""Flags that commands share which take images or open a run; apart from `trainables/flags.py`: these need no torch."""

from __future__ import annotations

import argparse

from trainables import plugins
from trainables.data.base import DATASETS
from trainables.data.reading.names import expanded


def add_data_flags(group: argparse._ActionsContainer) -> None:
    """`--data`, `--data-root`, `--download`, `--splits`, `--group-by`."""
    group.add_argument(
        "--data", metavar="NAME", default="scenes", help=f"{', '.join(DATASETS)} (default: scenes, embedded)"
    )
    add_data_root_flag(group)
    group.add_argument("--download", action="store_true", help="let torchvision fetch the data set where it can")
    group.add_argument(
        "--splits",
        type=expanded,
        metavar="PATH",
        help="given splits: a folder of text files, or a CSV with id and split",
    )
    group.add_argument(
        "--group-by",
        metavar="RULE",
        help="where splits are drawn, keep images together: ids that share the first group of a regular expression, "
        "a column of FILE.csv[:COLUMN], or pictures that are nearly the same: near-duplicates",
    )


def add_run(p: argparse.ArgumentParser) -> None:
    """RUN."""
    p.add_argument("run", type=expanded, metavar="RUN", help="folder of the run, such as runs/NAME")


def add_run_flags(p: argparse.ArgumentParser) -> None:
    """RUN, `--data-root` and `--plugins`: of commands that open a run and its data."""
    add_run(p)
    add_data_root_flag(p)
    plugins.add_flag(p)


def add_data_root_flag(group: argparse._ActionsContainer) -> None:
    """`--data-root`."""
    group.add_argument("--data-root", type=expanded, metavar="DIR", help="where the images are (not for scenes)")
