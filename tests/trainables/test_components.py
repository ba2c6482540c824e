"""The list of components says what the registries hold."""

from __future__ import annotations

from trainables.components import components_markdown
from trainables.losses import LOSSES
from trainables.models import MODELS


def test_every_component_has_a_row_with_its_keys() -> None:
    lines = components_markdown().splitlines()
    for name in [*MODELS, *LOSSES, LOSSES.example, MODELS.example]:
        assert sum(line.startswith(f"| `{name}` |") for line in lines) == 1, name
    (row,) = [line for line in lines if line.startswith("| `focal` |")]
    assert "`loss.gamma`: float, >= 0 and <= 5, default 2.0" in row
    (row,) = [line for line in lines if line.startswith("| `training.accumulate` |")]
    assert "Batches whose gradients are averaged before a step" in row
    assert "int, >= 1 and <= 1024, default 1" in row
    (row,) = [line for line in lines if line.startswith("| `deeplabv3_resnet50` |")]
    assert "42,004,074 parameters (39,638,869). Training batches of at least 2." in row
