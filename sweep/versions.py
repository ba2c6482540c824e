"""With which code and packages, and on which machine, a sweep runs. Loads neither torch nor Ray."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from trainables.devices import gpu_names
from trainables.machine import cores, memory_bytes
from trainables.versions import code_version

PACKAGES = (
    "segsweep",
    "ray",
    "torch",
    "torchvision",
    "timm",
    "segmentation-models-pytorch",
    "transformers",
    "optuna",
    "wandb",
    "albumentations",
    "numpy",
    "opencv-python-headless",
)


@dataclass(frozen=True)
class Hardware:
    """The machine that runs the driver.

    Attributes:
        cpu: Name of the processor.
        cores: That this process may use; None where nobody says.
        memory_gib: Of the machine, in GiB; None where nobody says.
        gpus: Name of each.
        platform: Operating system, its version and architecture.
    """

    cpu: str
    cores: int | None
    memory_gib: float | None
    gpus: tuple[str, ...]
    platform: str


def package_versions() -> dict[str, str]:
    """Versions of Python, of our code, and of the packages that decide a result (`absent` where one is missing)."""
    versions = {"python": platform.python_version(), "code": code_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "absent"
    return versions


def describe_hardware() -> Hardware:
    """The machine that this process runs on."""
    memory = memory_bytes()
    return Hardware(
        cpu=_processor_name(),
        cores=cores(),
        memory_gib=round(memory / 2**30, 1) if memory else None,
        gpus=gpu_names(),
        platform=platform.platform(),
    )


def _processor_name() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
