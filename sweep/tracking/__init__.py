"""Where a sweep can be followed: W&B, TensorBoard, MLflow; each is one class in one module (`base` says what it is).

`python -m sweep.tracking RUN` tells a tracker of a sweep that has ended.
"""

from __future__ import annotations

from collections.abc import Sequence

from sweep.tracking.base import TRACKERS, TrackedSweep
from sweep.tracking.follower import Followers

__all__ = ["TRACKERS", "Followers", "TrackedSweep", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see `sweep.tracking.__main__`."""
    from sweep.tracking.__main__ import main as run

    return run(arguments)
