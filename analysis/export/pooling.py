"""Average pooling to some cells, in operators that take images of any size in every format."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class PoolToCells(nn.Module):
    """What `nn.AdaptiveAvgPool2d` computes: ONNX has no operator for it where the size of the maps is not known.

    The mean over cells is a product with a matrix for the rows and one for the columns, each made from the size.

    Args:
        cells: Height and width of the result; None keeps that of the maps.
    """

    def __init__(self, cells: tuple[int | None, int | None]) -> None:
        super().__init__()
        self.cells = cells

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, C, h, w) to their means (N, C, *cells)."""
        rows, columns = self.cells
        if rows is not None:
            maps = _shares(rows, maps.shape[-2], maps) @ maps
        if columns is not None:
            maps = maps @ _shares(columns, maps.shape[-1], maps).T
        return maps


def _shares(cells: int, side: int, like: Tensor) -> Tensor:
    """Shape (cells, side): the share of each pixel in the mean of each cell, torch's borders of cells."""
    pixel = torch.arange(side, device=like.device)
    cell = torch.arange(cells, device=like.device).unsqueeze(1)
    begin, end = cell * side // cells, ((cell + 1) * side + cells - 1) // cells
    inside = ((pixel >= begin) & (pixel < end)).to(like.dtype)
    return inside / (end - begin).to(like.dtype)


def pool_in_any_format(model: nn.Module) -> None:
    """Replaces the poolings of a model that have several cells by `PoolToCells`."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size not in (1, (1, 1)):
                size: Any = child.output_size
                setattr(parent, name, PoolToCells(tuple(size) if isinstance(size, tuple | list) else (size, size)))
