"""A plugin: one model under many names, and a space that searches the names.

    python -m sweep.run --plugins benchmarks/equals.py --space equals --trials 5 --max-epochs 8

Every name builds LRASPP-MobileNetV3, initialised from a generator of its own: with one seed the configurations draw
different weights from one distribution, so that none is better than another, and yet no two trials are the same. (Under
one generator, too, they would be equal to the last digit, and a comparison could not go wrong.) Like the configurations
of a real space they share the order of images and what dropout draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from search_spaces import SPACES, SearchSpace
from search_spaces.common import known_good_lr
from search_spaces.core.parameter import choice
from trainables.models import MODELS
from trainables.models.base import SegmentationModel, Weights
from trainables.seeds import derived_seed

MODEL = "lraspp_mobilenet_v3_large"
NAMES = tuple(f"equal_{number}" for number in range(8))


def under(name: str) -> Callable[..., SegmentationModel]:
    """A factory of the model under a name."""

    def build(class_names: Sequence[str], *, weights: Weights = "none") -> SegmentationModel:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(name, torch.initial_seed()))
            model = MODELS.get(MODEL)(class_names, weights=weights)
        model.name = name
        return model

    build.__doc__ = f"{MODEL}, initialised from a generator of its own."
    return build


for _name in NAMES:
    MODELS.register(_name)(under(_name))


@SPACES.register("equals")
def equals(models: Sequence[str], weights: str) -> SearchSpace:
    """Which name is best? None: they are one model."""
    return SearchSpace(
        name="equals",
        description="Which of several names of one model is best?",
        parameters=(choice("model.name", NAMES, role="scientific", reason="nothing but the name differs"),),
        label_by="model.name",
        start=tuple({"model.name": name} for name in NAMES),
        fixed={"optimizer.name": "adamw", "optimizer.lr": known_good_lr(MODEL, weights)},
    )
