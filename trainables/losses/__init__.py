"""Losses behind one registry; importing the package registers all of them."""

from trainables.losses import cross_entropy, overlap
from trainables.losses.base import LOSSES, Loss

__all__ = ["LOSSES", "Loss", "cross_entropy", "overlap"]
