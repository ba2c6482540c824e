"""Plugin files that tests load, and a process in which they leave nothing behind."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from trainables.registry import snapshot

LOSS = '''
from typing import Annotated

from torch.nn import functional as F

from trainables.data import VOID
from trainables.losses import LOSSES, Loss
from trainables.registry import Range, Search


@LOSSES.register("sharpened")
class Sharpened(Loss):
    """Cross-entropy of logits that are multiplied first.

    Args:
        class_pixels: Not used.
        sharpness: By how much.
    """

    def __init__(
        self, class_pixels, *, sharpness: Annotated[float, Range(0.1, 9), Search(0.5, 2, log=True, reason="mine")] = 1.5
    ):
        super().__init__()
        self.sharpness = sharpness

    def value(self, logits, target):
        total = F.cross_entropy(logits * self.sharpness, target, ignore_index=VOID, reduction="sum")
        return total / (target != VOID).sum().clamp(min=1)
'''


@contextmanager
def nothing_left_behind(cache: Path) -> Iterator[Callable[[], None]]:
    """Registries and modules as before, and a cache folder in which no plugin was ever used.

    Yields:
        What makes this process as one that was just started: what the user ran before stays in the cache folder.
    """
    undo, modules = snapshot(), set(sys.modules)

    def restore() -> None:
        undo()
        for name in [name for name in sys.modules if name.startswith("segsweep_plugin_") and name not in modules]:
            del sys.modules[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGSWEEP_CACHE", str(cache))
        try:
            yield restore
        finally:
            restore()


def write(folder: Path, source: str, name: str = "mine.py") -> Path:
    """A plugin file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(source, encoding="utf-8")
    return path
