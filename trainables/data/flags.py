"""The flags of every command that takes images; apart from `trainables/flags.py`, as checking data needs no torch."""

from __future__ import annotations

import argparse

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


def add_data_root_flag(group: argparse._ActionsContainer) -> None:
    """`--data-root`."""
    group.add_argument("--data-root", type=expanded, metavar="DIR", help="where the images are (not for scenes)")
