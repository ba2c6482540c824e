"""`python -m sweep.run --show`: the compiled space, without a data set and without loading what trains."""

from __future__ import annotations

import typing

from rich.console import Console

from search_spaces import to_yaml
from sweep import answer
from sweep.compiled import plan_space
from sweep.config import SweepConfig
from sweep.objectives import objective_of
from sweep.schedulers import comparison_note, scheduler_for
from sweep.warm_start import warm_start
from trainables.data import DATASETS


def show(config: SweepConfig, console: Console) -> int:
    """Prints the compiled space, or writes it as YAML; returns the exit code."""
    # No data set is built: a space can be read where its images are not.
    space, base = plan_space(config, usual_size(config.data))
    if config.warm_start is not None:
        warm = warm_start(space, base, config.warm_start, objective_of(config.objective[0]))
        space = warm.space
        for line in [] if config.as_yaml else warm.lines(config.warm_start):
            console.print(line, markup=False, soft_wrap=True)
    if config.as_yaml:
        print(to_yaml(space), end="")
        return 0
    scheduler = scheduler_for(space, config.scheduler)
    note = f"how many epochs a trial has, and when {scheduler} compares trials, follow from the time budget"
    if config.max_epochs is not None:
        note = comparison_note(scheduler, config.max_epochs)
    own_epochs = config.max_epochs is not None
    answer.show_space(console, space, base, trials=config.trials, own_epochs=own_epochs, note=note)
    if space.parameter("image_size") is not None:
        told = f"Image sizes are for images that fill {base['image_size']}: a sweep has the aspect of its own."
        console.print(told, style="dim", soft_wrap=True)
    return 0


def usual_size(data: str) -> tuple[int, int]:
    """The image size that a data set has by default, as the class that its factory returns says it; else any."""
    kind = typing.get_type_hints(DATASETS.get(data)).get("return")
    size: tuple[int, int] = getattr(kind, "default_image_size", (96, 128))
    return size
