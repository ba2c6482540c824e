"""Several processes that train one trial, a rank each: what they tell one another in an epoch.

Every rank holds the whole model. Of each batch, and of the images of val, rank r of N takes every N-th, from the r-th
on; gradients are summed before each step, so that all take the same one. `trainables.followers` starts the ranks beside
the first. A trial that one process trains has one rank, for which all this does nothing.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.distributed import FileStore, HashStore  # type: ignore[attr-defined]

from trainables.errors import RankDiedError
from trainables.losses.base import known_pixels

MEETING = "ranks"
"""The file in which ranks find one another."""
TIMEOUT = timedelta(minutes=30)
"""For which a rank waits for others that live; longer than any of them computes between two sums."""
T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)


class Ranks:
    """One of the processes that train a trial.

    Args:
        rank: 0 .. size - 1.
        size: How many there are.
        device: `cpu` or `cuda`.
    """

    def __init__(self, rank: int = 0, size: int = 1, *, device: str = "cpu") -> None:
        self.rank = rank
        self.size = size
        self.device = device

    def join(self, folder: Path) -> None:
        """Connects this process with the others, over loopback alone; on GPUs it takes that of its rank.

        Args:
            folder: In which they find one another; nobody else may write there.
        """
        if sys.platform == "linux":
            for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
                os.environ.setdefault(variable, "lo")
        if self.device == "cuda":
            torch.cuda.set_device(self.rank)
        try:
            distributed.init_process_group(
                "nccl" if self.device == "cuda" else "gloo",
                store=FileStore(str(folder / MEETING), self.size),
                rank=self.rank,
                world_size=self.size,
                timeout=TIMEOUT,
            )
        except Exception:
            _count_groups_anew()
            raise

    @property
    def own(self) -> slice:
        """What of a batch, or of the images of val, is this rank's."""
        return slice(self.rank, None, self.size)

    def weighted(self, mean: Tensor, logits: Tensor, target: Tensor) -> Tensor:
        """A mean over this rank's known pixels as its part of that over all ranks' pixels: these add up to it.

        Args:
            mean: Scalar.
            logits: Of this rank, shape (B, C, H, W).
            target: Of this rank, shape (B, H, W).
        """
        if self.size == 1:
            return mean
        own = torch.count_nonzero(known_pixels(logits, target)).double()
        return mean * (own / self.sum(own).clamp(min=1)).float()

    def sum(self, value: Tensor) -> Tensor:
        """Over all ranks."""
        if self.size == 1:
            return value
        total = value.detach().clone()
        with _others_are_there():
            distributed.all_reduce(total)
        return total

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Gives each rank the sums of all ranks' gradients."""
        self._in_one([one.grad for one in parameters if one.grad is not None], distributed.all_reduce)

    def take_first(self, tensors: Iterable[Tensor]) -> None:
        """Gives each rank the numbers of rank 0."""
        self._in_one(list(tensors), lambda flat: distributed.broadcast(flat, 0))

    def agree(self, yes: bool) -> bool:
        """What rank 0 says."""
        if self.size == 1:
            return yes
        said = torch.tensor([yes], dtype=torch.uint8, device=self.device)
        self.take_first([said])
        return bool(said.item())

    @torch.no_grad()
    def _in_one(self, tensors: list[Tensor], act: Callable[[Tensor], Any]) -> None:
        """Acts on all numbers of a type at once: many small messages take longer than a large one."""
        for dtype in dict.fromkeys(one.dtype for one in tensors) if self.size > 1 else ():
            alike = [one for one in tensors if one.dtype is dtype]
            flat = torch.cat([one.reshape(-1) for one in alike])
            with _others_are_there():
                act(flat)
            parts = flat.split([one.numel() for one in alike])
            torch._foreach_copy_(alike, [part.view(one.shape) for part, one in zip(parts, alike, strict=True)])

    def everywhere(self, function: Callable[..., T], built: Any, *arguments: Any) -> list[T]:
        """Calls a function with what each rank has built; only rank 0 asks for it.

        Args:
            function: Of a module, or a method. It may use what ranks tell one another.
            built: Of this rank; the others were built by `Leader`.
            arguments: The same for all.

        Returns:
            What it returned, by rank.

        Raises:
            Exception: What it raised in any of them; then all but rank 0 have ended.
        """
        return [function(built, *arguments)]

    def together(self) -> AbstractContextManager[None]:
        """What ends another rank is raised in the body, at rank 0, in place of what follows from it there."""
        return contextlib.nullcontext()

    def close(self) -> None:
        """Ends the other ranks, at rank 0."""


ALONE = Ranks()
"""Of a trial that one process trains."""


def _count_groups_anew() -> None:
    """Has torch name the next group as a fresh process does, where groups of other names never meet.

    It counts a group that did not come about, too; the count begins anew when a group ends.
    """
    distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    distributed.destroy_process_group()


@contextlib.contextmanager
def _others_are_there() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        told = " ".join(str(error).split())[:300]
        raise RankDiedError(f"the processes of the trial lost one another: {told}") from error


def with_shared_statistics(model: M) -> M:
    """The model, now with BatchNorm over the images of all ranks, which torch has for GPUs; weights and names stay."""
    convert: Callable[[M], M] = nn.SyncBatchNorm.convert_sync_batchnorm
    if any(type(one).__module__.startswith("timm.") for one in model.modules()):
        from trainables.models.timm_backbones import with_synchronised_norms as convert
    return convert(model)
