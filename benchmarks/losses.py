"""How long each loss takes, forward and backward, relative to `F.cross_entropy(ignore_index=255)`.

python benchmarks/losses.py [--repeats 30]

One CPU thread. Two batches of logits, (8, 21, 224, 224) and (2, 21, 480, 480), each as an untrained model gives them
(noise) and as a trained one does (85% of blocks right and certain). Lovász is the only loss whose time depends on it:
it sorts no pixel whose error is below every error of the class. Each number is the median over repetitions of the
processor time divided by that of `F.cross_entropy` just before.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from tabulate import tabulate
from torch import Tensor
from torch.nn import functional as F

from trainables.data.base import VOID
from trainables.losses import LOSSES

N_CLASSES = 21
SIZES = ((8, 224, 224), (2, 480, 480))


def reference(logits: Tensor, target: Tensor) -> Tensor:
    """What a bare training loop would call."""
    return F.cross_entropy(logits, target, ignore_index=VOID)


def batch(size: tuple[int, int, int], *, trained: bool) -> tuple[Tensor, Tensor]:
    """Logits and a target of blocks, 5% of it void."""
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, N_CLASSES, (size[0], size[1] // 16, size[2] // 16), generator=generator)
    logits = torch.randn(size[0], N_CLASSES, *size[1:], generator=generator)
    if trained:
        wrong = torch.rand(blocks.shape, generator=generator) < 0.15
        seen = blocks.where(~wrong, torch.randint(0, N_CLASSES, blocks.shape, generator=generator))
        logits = 2 * logits + 9 * F.one_hot(enlarged(seen), N_CLASSES).movedim(-1, 1)
    void = torch.rand(size, generator=generator) < 0.05
    return logits.contiguous().requires_grad_(), enlarged(blocks).masked_fill(void, VOID)


def enlarged(blocks: Tensor) -> Tensor:
    """Each block as 16 x 16 pixels."""
    return blocks.repeat_interleave(16, 1).repeat_interleave(16, 2)


def seconds(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, target: Tensor) -> float:
    """Processor time of one step's forward and backward."""
    logits.grad = None
    started = time.process_time()
    loss(logits, target).backward()
    return time.process_time() - started


def ratio(name: str, logits: Tensor, target: Tensor, repeats: int) -> float:
    """The median ratio to the reference, measured in turn."""
    loss = LOSSES.get(name)(lambda: torch.arange(1, N_CLASSES + 1))
    pairs = [(seconds(reference, logits, target), seconds(loss, logits, target)) for _ in range(repeats + 1)]
    return statistics.median(ours / theirs for theirs, ours in pairs[1:])


def main() -> None:
    """Prints a line a loss."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=30)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    batches = {
        f"{size[0]}x{size[1]}x{size[2]} {'trained' if trained else 'untrained'}": batch(size, trained=trained)
        for size in SIZES
        for trained in (False, True)
    }
    rows = [
        [name, *(ratio(name, *batches[key], repeats) for key in batches)]
        for name in [*LOSSES, "cross_entropy+dice", "cross_entropy+lovasz"]
    ]
    print(tabulate(rows, headers=["loss", *batches], floatfmt=".2f"))


if __name__ == "__main__":
    main()
