"""What a trial can be made of, as Markdown: `python -m trainables.components > docs/COMPONENTS.md`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from trainables.augmentations import POLICIES, TRANSFORMS, family_transforms
from trainables.losses import LOSSES
from trainables.models import MODELS, min_train_batch, parameter_count
from trainables.optimizers import OPTIMIZERS, SCHEDULES
from trainables.registry import Choice, Parameter, Range, Registry

_INTRODUCTION = """# Components

What a trial can be made of, and the hyperparameters of each part: configuration key, type, bounds, default. Written by
`python -m trainables.components` from the registries; a test compares this file with them. Pixels marked void (255)
count in no loss; where a transformation shows what lay beyond the border or hides something, the mask becomes void.
"""


def components_markdown() -> str:
    """The whole document."""
    sections = [
        _INTRODUCTION,
        _section("Models", "model", MODELS, "Chosen by `model.name`. Parameters are those for 21 classes, with the "
                 "auxiliary head and (in brackets) without.", _model_facts),
        _section("Losses", "loss", LOSSES, "Chosen by `loss.name`."),
        _section("Optimizers", "optimizer", OPTIMIZERS, "Chosen by `optimizer.name`."),
        _section("Learning-rate schedules", "schedule", SCHEDULES, "Chosen by `schedule.name`. A schedule is a "
                 "multiplier of `optimizer.lr` at each optimizer step; `warmup` is a fraction of all steps."),
        _policies(),
        _section("Transformations", "augment", TRANSFORMS, "In the order of application. Each also has "
                 "`augment.NAME.p`, its probability, 0 .. 1 (0 turns it off).", nested=True),
    ]  # fmt: skip
    return "\n".join(sections)


def _section(
    title: str,
    prefix: str,
    registry: Registry[Any],
    introduction: str,
    facts: Callable[[str], str] | None = None,
    *,
    nested: bool = False,
) -> str:
    rows = []
    for name in registry:
        keys = f"{prefix}.{name}" if nested else prefix
        described = [_describe(f"{keys}.{key}", value) for key, value in registry.parameters(name).items()]
        summary = _summary(registry.get(name)) + (f" {facts(name)}" if facts else "")
        rows.append((f"`{name}`", summary, "<br>".join(described) or "none"))
    return f"## {title}\n\n{introduction}\n\n{_table(('name', 'what it is', 'hyperparameters'), rows)}"


def _policies() -> str:
    rows = []
    for family in POLICIES:
        members = [f"`{name}` {p:g}" for name, p in family_transforms(family).items()]
        rows.append((f"`{family}`", _summary(POLICIES.get(family)), ", ".join(members) or "none"))
    introduction = (
        "Chosen by `augment.policy`. A policy may contain its family's transformations; what is not said otherwise has "
        "the probability given here and the magnitude's default below."
    )
    return f"## Augmentation policies\n\n{introduction}\n\n{_table(('name', 'what it is', 'transformations'), rows)}"


def _model_facts(name: str) -> str:
    count, deployed = (parameter_count(name, 21, aux_weight=weight) for weight in (None, 0.0))
    smallest = min_train_batch(name)
    size = f"{count:,} parameters" + (f" ({deployed:,})" if deployed != count else "")
    return f"{size}." + (f" Training batches of at least {smallest}." if smallest > 1 else "")


def _describe(key: str, parameter: Parameter) -> str:
    default = "required" if parameter.required else f"default {parameter.default}"
    return f"`{key}`: {parameter.type.__name__}, {_bounds(parameter.bounds)}, {default}"


def _bounds(bounds: Range | Choice | None) -> str:
    if bounds is None:
        return "any"
    if isinstance(bounds, Choice):
        return " or ".join(bounds.values)
    low = "" if bounds.low is None else f"{'>' if bounds.exclusive_low else '>='} {bounds.low:g}"
    high = "" if bounds.high is None else f"<= {bounds.high:g}"
    return " and ".join(part for part in (low, high) if part)


def _summary(factory: Callable[..., Any]) -> str:
    """The first paragraph of a docstring on one line."""
    return " ".join((inspect.getdoc(factory) or "").split("\n\n")[0].split()).replace("|", "\\|")


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


if __name__ == "__main__":
    print(components_markdown(), end="")
