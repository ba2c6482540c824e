"""Where it is measured what trials cost: on this machine, or on a node of the cluster that they will run on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from trainables.cost import Cost
from trainables.cost_apart import measure_apart
from trainables.execution import Execution, TrialData
from trainables.flags import default_precision
from trainables.latency import Latency, time_models

Progress = Callable[[int, int], None]


class Place(Protocol):
    """A machine like those of the trials."""

    def has(self, execution: Execution) -> bool:
        """Whether it has the device of the trials."""

    def precision(self, device: str) -> str:
        """The best that its device computes in."""

    def at_once(self, trials: int) -> int:
        """How many of so many trials run at once there."""

    def costs(
        self,
        configs: Sequence[Mapping[str, Any]],
        data: TrialData,
        execution: Execution,
        *,
        at_once: int,
        root: Path | None,
        progress: Progress,
    ) -> list[Cost]:
        """See `trainables.cost_apart.measure_apart`."""

    def latencies(
        self,
        configs: Sequence[Mapping[str, Any]],
        classes: int,
        execution: Execution,
        *,
        channels: int,
        progress: Progress,
    ) -> list[Latency]:
        """See `trainables.latency.time_models`."""


@dataclass(frozen=True)
class Here:
    """This machine.

    Attributes:
        meanwhile: What can be done while processes that are to measure load torch.
    """

    meanwhile: Callable[[], object] | None = None

    def has(self, execution: Execution) -> bool:
        """See `Place`."""
        return execution.is_possible_here

    def precision(self, device: str) -> str:
        """See `Place`."""
        return default_precision(device)

    def at_once(self, trials: int) -> int:
        """See `Place`."""
        return trials

    def costs(
        self,
        configs: Sequence[Mapping[str, Any]],
        data: TrialData,
        execution: Execution,
        *,
        at_once: int,
        root: Path | None,
        progress: Progress,
    ) -> list[Cost]:
        """See `Place`."""
        return measure_apart(
            configs, data, execution, at_once=at_once, root=root, progress=progress, meanwhile=self.meanwhile
        )

    def latencies(
        self,
        configs: Sequence[Mapping[str, Any]],
        classes: int,
        execution: Execution,
        *,
        channels: int,
        progress: Progress,
    ) -> list[Latency]:
        """See `Place`."""
        return time_models(
            configs,
            classes,
            device=execution.device,
            precision=execution.precision,
            channels=channels,
            progress=progress,
        )


HERE = Here()
