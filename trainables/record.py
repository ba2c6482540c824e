"""What a trial was and how far it came, as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainables import plugins
from trainables.config import TrialConfig
from trainables.data.base import ClassInfo
from trainables.errors import CheckpointError
from trainables.paths import check_name

FORMAT = 1


@dataclass(frozen=True)
class TrialRecord:
    """What a trial was and how far it came: enough, with the weights, to rebuild its model anywhere.

    Attributes:
        trial_id: Identity within the run.
        label: Label of the run that the trial represents; empty in a trial's own checkpoints.
        config: The configuration asked for.
        classes: Names and colours in the order of the model's outputs.
        normalisation: `mean` and `std` of each channel of the input, for images scaled to 0..1.
        history: One entry per epoch: `epoch`, `seconds`, `metrics`.
        applied: What was really built, read back from the built objects.
        parameters: Number of the model's parameters, frozen ones and those of an auxiliary head included.
        sha256: Hash of `model.safetensors`.
        data: Where the images came from: `name` of the data set, `root` (text or None) and `splits`, the content hash
            of train and val (`split_hash`); where they are known, `ids` (the id in its mask files for each class) and
            `image_bits` (the depth of images deeper than 8 bits) and `bands` (`trainables.data.bands.Bands`: which
            bands of files the channels are, where they are not red, green and blue); of a refit, `refit` (`of`: the
            trial, `trained_on`).
            Empty in a trial's own checkpoints, and in models published before 0.2.
        plugins: `name` and `sha256` of the user's own files, or packages, that some component of `config` comes from.
    """

    trial_id: str
    label: str
    config: TrialConfig
    classes: tuple[ClassInfo, ...]
    normalisation: Mapping[str, Sequence[float]]
    history: tuple[Mapping[str, Any], ...]
    applied: Mapping[str, Any]
    parameters: int
    sha256: str = field(default="")
    data: Mapping[str, Any] = field(default_factory=dict)
    plugins: tuple[Mapping[str, str], ...] = ()

    @property
    def epochs(self) -> int:
        """Epochs trained so far."""
        return int(self.history[-1]["epoch"]) if self.history else 0

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the last epoch."""
        return dict(self.history[-1]["metrics"]) if self.history else {}

    @property
    def train_seconds(self) -> float:
        """Seconds spent in all epochs, validation included."""
        return float(sum(entry["seconds"] for entry in self.history))

    def to_json(self) -> dict[str, Any]:
        """Primitives only; `from_json` restores an equal record."""
        return {
            "format": FORMAT,
            "trial_id": self.trial_id,
            "label": self.label,
            "config": self.config.flat(),
            "policy": {"line": self.config.augment.describe(), "transforms": self.config.augment.to_list()},
            "classes": [{"name": c.name, "color": list(c.color)} for c in self.classes],
            "normalisation": {key: list(values) for key, values in self.normalisation.items()},
            "metrics": self.metrics,
            "history": [dict(entry) for entry in self.history],
            "applied": dict(self.applied),
            "parameters": self.parameters,
            "sha256": self.sha256,
            "data": dict(self.data),
            "plugins": [dict(plugin) for plugin in self.plugins],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TrialRecord:
        """Rebuilds a record.

        Raises:
            CheckpointError: If it has another format, or needs a plugin that is not loaded.
            UnsafePathError: If its trial id or label, which become names of folders, are not safe as such.
        """
        if content.get("format") != FORMAT:
            raise CheckpointError(f"format {content.get('format')!r}, expected {FORMAT}")
        needed = tuple(content.get("plugins", ()))
        plugins.require(needed)
        label = content["label"]
        return cls(
            trial_id=check_name(content["trial_id"], "its trial id"),
            label=check_name(label, "its label") if label else "",
            config=TrialConfig.from_flat(content["config"]),
            classes=tuple(ClassInfo(c["name"], tuple(c["color"])) for c in content["classes"]),
            normalisation=content["normalisation"],
            history=tuple(content["history"]),
            applied=content["applied"],
            parameters=content["parameters"],
            sha256=content["sha256"],
            data=content.get("data", {}),
            plugins=needed,
        )
