"""Flags that several commands share: how a trial is executed, kinds of values. Those of data are in `data/flags.py`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection
from typing import Any, NoReturn

from trainables import commands
from trainables.errors import UsageError
from trainables.options import LEAST_SCALE, PRECISIONS, TILE, parse_resize
from trainables.places import DEFAULT_LIMIT_BYTES
from trainables.redact import redacted_words

MOST_PICTURES = 100
"""Pictures of failures that a report draws by default."""
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class _Parser(argparse.ArgumentParser):
    """Whose errors repeat no key and no token that was typed."""

    def error(self, message: str) -> NoReturn:
        super().error(" ".join(redacted_words(message.split(" "))))


def command_parser(module: str, description: str, **options: Any) -> argparse.ArgumentParser:
    """The parser of a command; flags are to be written out.

    Args:
        module: That is run, such as `sweep.run`.
        description: What it does.
        options: Of `argparse.ArgumentParser`.
    """
    return _Parser(prog=commands.prog(module), description=description, allow_abbrev=False, **options)


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
        help="loader processes per trial, or per GPU of it where it has several (default: 0 on a CPU; 4 on a GPU, "
        "fewer where the trial has fewer CPUs)",
    )


def add_tile_flag(group: argparse._ActionsContainer) -> None:
    """`--tile`; see `tile_settings`."""
    group.add_argument(
        "--tile",
        type=tile,
        metavar="512",
        help="train on random tiles of so many pixels (or HEIGHTxWIDTH), and slide windows of that size over whole "
        "images in evaluations, without resizing any; the same as --set resize=tile --set image_size=512x512. 512@0.5 "
        "shows images at half their height and width (resize=tile@0.5); masks are scored at their own size",
    )


def default_precision(device: str) -> str:
    """bf16 on a GPU that computes in it, otherwise fp32."""
    if not device.startswith("cuda"):
        return "fp32"
    import torch

    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


def default_workers(device: str) -> int:
    """Loader processes of a trial: on a CPU they would only take cores from training."""
    return 4 if device.startswith("cuda") else 0


def tile(text: str) -> str:
    """The `type` of `--tile`: HEIGHTxWIDTH of a number or two, and the scale of images where one is given.

    Example:
        >>> tile("512"), tile("512x768"), tile("512@0.5")
        ('512x512', '512x768', '512x512@0.5')
    """
    found = re.fullmatch(r"(\d+)(?:x(\d+))?(?:@(.+))?", text.strip().lower())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} must be pixels, such as 512, or HEIGHTxWIDTH, and perhaps @SCALE")
    try:
        _, _, scale = parse_resize(f"{TILE}@{found[3] or 1}").partition("@")
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: the scale must be within {LEAST_SCALE:g} to 1") from error
    return f"{found[1]}x{found[2] or found[1]}" + (f"@{scale}" if scale else "")


def tile_settings(size: str, given: Collection[str]) -> dict[str, str]:
    """The settings that `--tile` stands for.

    Args:
        size: HEIGHTxWIDTH, or HEIGHTxWIDTH@SCALE.
        given: Keys that are set beside it.

    Raises:
        UsageError: If they are among these.
    """
    image_size, _, scale = size.partition("@")
    settings = {"image_size": image_size, "resize": f"{TILE}@{scale}" if scale else TILE}
    if both := sorted(settings.keys() & given):
        same = " ".join(f"--set {key}={value}" for key, value in settings.items())
        raise UsageError(f"--tile {size} is {same}: leave --set {both[0]} out")
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
