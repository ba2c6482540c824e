"""What a trial can be made of, as Markdown: `python -m trainables.components > docs/COMPONENTS.md`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from trainables import plugins
from trainables.flags import command_parser
from trainables.guarded import guarded
from trainables.losses import LOSSES
from trainables.models import MODELS, min_train_batch, parameter_count
from trainables.optimizers import OPTIMIZERS, SCHEDULES
from trainables.options import TrainingOptions
from trainables.registry import Choice, Hyperparameter, Range, Registry, parameters_of

_INTRODUCTION = """# Components

What a trial can be made of, and the hyperparameters of each part: configuration key, type, bounds, default. Written by
`python -m trainables.components` from the registries; a test compares this file with them. More on
[models](MODELS.md), [losses](LOSSES.md), [search spaces](SPACES.md).
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
        _training(),
        "Augmentation policies and their transformations, chosen by `augment.policy`, have a page of their own: "
        "[AUGMENTATION.md](AUGMENTATION.md).\n",
    ]  # fmt: skip
    return "\n".join(sections)


def _section(
    title: str,
    prefix: str,
    registry: Registry[Any],
    introduction: str,
    facts: Callable[[str], str] | None = None,
) -> str:
    rows = []
    for name in [*registry, *([registry.example] if registry.example else [])]:
        described = [f"`{prefix}.{key}`: {_describe(value)}" for key, value in registry.parameters(name).items()]
        summary = _summary(registry.get(name)) + (f" {facts(name)}" if facts else "")
        rows.append((f"`{name}`", summary, "<br>".join(described) or "none"))
    introduction += f" Beside the names below: {registry.pattern}." if registry.pattern else ""
    return f"## {title}\n\n{introduction}\n\n{markdown_table(('name', 'what it is', 'hyperparameters'), rows)}"


def _training() -> str:
    meanings = dict(re.findall(r"^    (\w+): (.+?)(?=^    \w|\Z)", inspect.getdoc(TrainingOptions) or "", re.M | re.S))
    rows = [
        (f"`training.{key}`", " ".join(meanings[key].split()), _describe(parameter))
        for key, parameter in parameters_of(TrainingOptions).items()
    ]
    table = markdown_table(("key", "what it is", "values"), rows)
    return f"## Training\n\nOptions beside the named components.\n\n{table}"


def _model_facts(name: str) -> str:
    count, deployed = (parameter_count(name, 21, aux_weight=weight) for weight in (None, 0.0))
    smallest = min_train_batch(name)
    size = f"{count:,} parameters" + (f" ({deployed:,})" if deployed != count else "")
    return f"{size}." + (f" Training batches of at least {smallest}." if smallest > 1 else "")


def _describe(parameter: Hyperparameter) -> str:
    default = "required" if parameter.required else f"default {parameter.default}"
    return f"{parameter.type.__name__}, {_bounds(parameter.bounds)}, {default}"


def _bounds(bounds: Range | Choice | None) -> str:
    if bounds is None:
        return "any"
    if isinstance(bounds, Choice):
        return " or ".join(map(str, bounds.values))
    low = "" if bounds.low is None else f"{'>' if bounds.exclusive_low else '>='} {bounds.low:g}"
    high = "" if bounds.high is None else f"<= {bounds.high:g}"
    return " and ".join(part for part in (low, high) if part)


def _summary(factory: Callable[..., Any]) -> str:
    """The first paragraph of a docstring on one line."""
    return " ".join((inspect.getdoc(factory) or "").split("\n\n")[0].split()).replace("|", "\\|")


def markdown_table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table; cells are taken as they are."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the list."""
    description = "List every model, loss, optimizer and schedule with its parameters, as Markdown."
    return print_document("trainables.components", description, components_markdown, arguments)


def print_document(
    module: str, description: str, text: Callable[[], str], arguments: Sequence[str] | None = None
) -> int:
    """The command of a generated document: loads plugins, then prints it; returns the exit code.

    Args:
        module: That is run.
        description: For its help.
        text: Makes the document.
        arguments: Of the command line.
    """
    p = command_parser(module, description)
    plugins.add_flag(p)
    p.parse_args(arguments)

    def show() -> int:
        plugins.load_given(arguments)
        print(text(), end="")
        return 0

    return guarded(show, interrupted="interrupted")


if __name__ == "__main__":
    raise SystemExit(main())
