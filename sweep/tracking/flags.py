"""`--track NAME[=PLACE]`, for every command that has it."""

from __future__ import annotations

import argparse

from sweep.tracking.base import OF_ITS_OWN, TRACKERS
from trainables.errors import UsageError

NONE = "none"
"""In the place of a name: no tracker beside W&B."""


def add_track_flag(flags: argparse._ActionsContainer) -> None:
    """Adds the flag; what it gives is a list of pairs, None without it."""
    names = ", ".join(name for name in TRACKERS if name != OF_ITS_OWN)
    flags.add_argument(
        "--track",
        action="append",
        type=_tracker,
        metavar="NAME[=PLACE]",
        help=f"follow trials in another tracker, too ({names}), such as tensorboard, mlflow=http://HOST:5000 or "
        f"mlflow=FOLDER; may be repeated; {NONE}: in no other (default)",
    )


def trackers_of(pairs: list[tuple[str, str]] | None) -> dict[str, str] | None:
    """The place of each tracker that was named, by its name; None where nothing was said.

    Raises:
        UsageError: With every one that is not known, not installed, or named twice.
    """
    if pairs is None:
        return None
    faults, found = [], {}
    for name, place in pairs:
        if name == NONE and not place:
            continue
        if name in found:
            faults.append(f"--track names {name} twice")
        try:
            found[name] = TRACKERS.get(name).checked(place)
        except UsageError as error:
            faults.append(str(error))
    if faults:
        raise UsageError("\n".join(faults))
    return found


def _tracker(text: str) -> tuple[str, str]:
    name, _, place = text.partition("=")
    if not name:
        raise argparse.ArgumentTypeError(f"{text!r}: write NAME or NAME=PLACE")
    return name.strip(), place.strip()
