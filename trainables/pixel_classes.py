"""The classes of an image's pixels from logits at a head's resolution, most of which need not be enlarged for it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from trainables.data.resizing import Size
from trainables.logits import WHOLE, Share, ids_type, neighbours, predicted_class, resize_logits

_ROUNDING = 1e-6
"""More than the rounding of an enlarged logit, relative to the largest that it is made of: a float32 has 7 digits."""
_MOST_IN_DOUBT = 0.5
"""Share of an image from which on enlarging all of it is as fast."""


def predicted_at(logits: Tensor, size: Size, *, seen: Share = WHOLE) -> Tensor:
    """The classes of an image's pixels: exactly those of `predicted_class` of `resize_logits`, several times as fast.

    Between two rows of logits that are enlarged to the image's width every logit is a straight line down a column: a
    class that leads in both rows leads at all pixels between them. Only where another one leads, or hardly one does,
    are pixels looked at; and of the classes only those that lead somewhere (`largest_somewhere`).

    Args:
        logits: Of a model's whole input, shape (C, h, w), at the head's resolution; finite.
        size: Height and width of the image.
        seen: As for `resize_logits`.

    Returns:
        `ids_type` of shape (H, W).
    """
    if logits.device.type != "cpu":
        return predicted_class(resize_logits(logits, size, seen=seen))
    classes = largest_somewhere(logits)
    logits, ids = logits[classes], classes.to(ids_type(len(logits)))
    if len(classes) == 1:
        return ids.expand(size).clone()
    margin = _ROUNDING * logits.abs().amax()
    wide = resize_logits(logits, (logits.shape[1], size[1]), seen=(1.0, seen[1]))
    leading, in_doubt = predicted_class(wide), _rivalled(wide, margin)
    above, below, share = neighbours(size[0], logits.shape[1], seen[0], wide)
    if seen == WHOLE:
        share = _as_interpolated(above, logits.shape[1])
    tops, counts = above.unique_consecutive(return_counts=True)
    ends = counts.cumsum(0)
    bottoms = below[ends - 1]
    in_doubt = in_doubt[tops] | in_doubt[bottoms] | (leading[tops] != leading[bottoms])
    place, column = in_doubt.nonzero(as_tuple=True)
    if len(place) > _MOST_IN_DOUBT * in_doubt.numel():
        return ids.take(predicted_class(resize_logits(logits, size, seen=seen)).long())
    chosen = ids.take(leading.long())[above]
    # As many pixels down each of these columns, the last one again where there are fewer.
    rows = (ends - counts)[:, None] + torch.arange(int(counts.max()))
    rows = rows.minimum(ends[:, None] - 1)[place]
    upper, lower = (wide[:, row[place], column, None] for row in (tops, bottoms))
    values = upper.lerp(lower, share[rows])
    column = column[:, None].expand_as(rows)
    chosen[rows, column] = ids.take(predicted_class(values).long())
    close = _rivalled(values, margin)
    if close.any():  # rounding decides, and it has to be that of `resize_logits`
        rivals = values[:, close] >= values[:, close].amax(dim=0) - margin
        few = rivals.any(dim=1).nonzero().squeeze(1)
        exact = resize_logits(logits[few], size, seen=seen)[:, rows[close], column[close]]
        chosen[rows[close], column[close]] = ids[few].take(predicted_class(exact[:, None])[0].long())
    return chosen


def largest_somewhere(logits: Tensor) -> Tensor:
    """The classes that can have the largest logit somewhere between the pixels of (C, h, w): int64, rising.

    An enlarged logit is a mean of four neighbours, weighted alike for all classes: a class whose highest of the four is
    below the lowest of another class is below that one everywhere between them.
    """
    highest, lowest = _of_four(torch.maximum, logits), _of_four(torch.minimum, logits)
    bar = lowest.amax(dim=0) - _ROUNDING * logits.abs().amax()
    return (highest >= bar).flatten(1).any(dim=1).nonzero().squeeze(1)


def _of_four(which: Callable[[Tensor, Tensor], Tensor], logits: Tensor) -> Tensor:
    """The largest or smallest of each four neighbours: (C, h, w) to (C, h - 1, w - 1); a side of one stays."""
    if logits.shape[1] > 1:
        logits = which(logits[:, 1:], logits[:, :-1])
    return which(logits[..., 1:], logits[..., :-1]) if logits.shape[2] > 1 else logits


def _as_interpolated(above: Tensor, side: int) -> Tensor:
    """How near pixels are to the logit behind them, to the last digit as `interpolate` has it.

    Read off from what it makes of 0, 1, 0, 1 ...

    Args:
        above: The logit before each pixel, shape (pixels,).
        side: Logits in all.
    """
    line = (torch.arange(side) % 2).float()[None, None, :, None]
    found = functional.interpolate(line, size=(len(above), 1), mode="bilinear", align_corners=False).flatten()
    return torch.where(above % 2 == 0, found, 1 - found)


def _rivalled(logits: Tensor, margin: Tensor) -> Tensor:
    """Where a second class comes as near to the largest logit as rounding might: (C, ...) to bool (...)."""
    return (logits >= logits.amax(dim=0) - margin).sum(dim=0, dtype=ids_type(len(logits))) != 1
