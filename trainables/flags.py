"""Flags that several commands share: how a trial is executed, kinds of values. Those of data are in `data/flags.py`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection

from trainables.errors import UsageError
from trainables.options import PRECISIONS, TILE
from trainables.places import DEFAULT_LIMIT_BYTES

MOST_PICTURES = 100
"""Pictures of failures that a report draws by default."""
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def add_execution_flags(group: argparse._ActionsContainer) -> None:
    """`--precision`, `--channels-last`, `--compile`, `--workers`, `--cache-limit`."""
    group.add_argument(
        "--precision",
        choices=tuple(PRECISIONS),
        help="precision of convolutions (default: bf16 on a GPU that has it, otherwise fp32)",
    )
    group.add_argument(
        "--channels-last",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="memory layout of images; faster almost everywhere (default: on)",
    )
    group.add_argument("--compile", action="store_true", help="compile models with torch.compile")
    add_workers_flag(group)
    group.add_argument(
        "--cache-limit",
        type=byte_size,
        default=DEFAULT_LIMIT_BYTES,
        metavar="10G",
        help=f"most that decoded images may take in the cache folder (default: {DEFAULT_LIMIT_BYTES // 2**30}G)",
    )


def add_workers_flag(group: argparse._ActionsContainer) -> None:
    """`--workers`."""
    group.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="loader processes per trial (default: 0 on a CPU; 4 on a GPU, fewer where the trial has fewer CPUs)",
    )


def add_tile_flag(group: argparse._ActionsContainer) -> None:
    """`--tile`; see `tile_settings`."""
    group.add_argument(
        "--tile",
        type=tile,
        metavar="512",
        help="train on random tiles of so many pixels (or HEIGHTxWIDTH), and slide windows of that size over whole "
        "images in evaluations, without resizing any; the same as --set resize=tile --set image_size=512x512",
    )


def default_precision(device: str) -> str:
    """bf16 on a GPU that computes in it, otherwise fp32."""
    if not device.startswith("cuda"):
        return "fp32"
    import torch

    there = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if there else "fp32"


def default_workers(device: str) -> int:
    """Loader processes of a trial: on a CPU they would only take cores from training."""
    return 4 if device.startswith("cuda") else 0


def tile(text: str) -> str:
    """The `type` of `--tile`: HEIGHTxWIDTH of a number or two.

    Example:
        >>> tile("512"), tile("512x768")
        ('512x512', '512x768')
    """
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip().lower())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} must be pixels, such as 512, or HEIGHTxWIDTH")
    return f"{found[1]}x{found[2] or found[1]}"


def tile_settings(size: str, given: Collection[str]) -> dict[str, str]:
    """The settings that `--tile` stands for.

    Args:
        size: HEIGHTxWIDTH.
        given: Keys that are set beside it.

    Raises:
        UsageError: If they are among these.
    """
    settings = {"image_size": size, "resize": TILE}
    if both := sorted(settings.keys() & given):
        raise UsageError(f"--tile {size} is --set image_size={size} --set resize={TILE}: leave --set {both[0]} out")
    return settings


def byte_size(text: str) -> int:
    """Bytes of a size such as 500M or 10G (powers of 1024); 0 is allowed.

    Raises:
        argparse.ArgumentTypeError: If it is not a size.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write 500M or 10G")
    return int(float(found.group(1)) * _UNITS[found.group(2).upper()])


def whole(text: str) -> int:
    """The `type` of a flag that takes a whole number, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, 0 or more")
    return int(text)


def share(text: str) -> float:
    """The `type` of a flag that takes a number within 0 .. 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number within 0 .. 1")
    return value
