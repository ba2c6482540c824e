"""Measures of a model alone: what it costs to keep and to run, whatever it predicts."""

from __future__ import annotations

import math

from trainables.metrics.registry import Measure


def _show_count(value: float) -> str:
    return f"{value:,.0f}"


def _show_milliseconds(value: float) -> str:
    return f"{value:.3g} ms" if value < 100 else f"{value:,.0f} ms"


PARAMS = Measure(
    name="params",
    words="parameters",
    definition="docs/METRICS.md#cost",
    direction="min",
    bounds=(0.0, math.inf),
    show=_show_count,
)
"""Counted in the model that a trial built (`trainables.applied`)."""

LATENCY = Measure(
    name="latency_ms",
    words="time per image",
    definition="docs/METRICS.md#cost",
    direction="min",
    bounds=(0.0, math.inf),
    show=_show_milliseconds,
)
"""Measured by `trainables.latency`, once for each model and size."""

OF_MODEL = (PARAMS, LATENCY)
