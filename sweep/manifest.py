"""What a sweep was: everything that a reader needs to trust it and to run it again. Loads neither Ray nor W&B."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from trainables import commands
from trainables.commands import ROOT
from trainables.errors import DataError
from trainables.files import write_json
from trainables.paths import check_name
from trainables.run_folder import MANIFEST_FILE as FILE_NAME

FORMAT = 2
PACKAGES = (
    "segsweep",
    "ray",
    "torch",
    "torchvision",
    "optuna",
    "wandb",
    "albumentations",
    "numpy",
    "opencv-python-headless",
)


@dataclass(frozen=True)
class SweepManifest:
    """The head of a run folder, written once before the first trial starts.

    Attributes:
        name: Name of the run (its folder).
        created: UTC time, ISO 8601.
        command: The command line that started the sweep.
        seed: The sweep's seed: the sampler's, and the seed of every trial that has none of its own.
        data: `name`, `root` (text or None), `classes` (list of `name`, `color`), `values` (hash of what each value in a
            mask file stands for), `splits` (per split `images`, `hash` of its files and `groups`, a hash of its
            groups), `origin` (how the splits came about) and `warnings`.
        space: The compiled search space: `name`, `description`, `label_by` (the key whose values name the labels),
            `known_good` (flat configuration of trial 0), `start` (all points tried first), `fixed` (keys held for every
            trial), `reasons` (why), `base` (keys common to all trials) and `parameters` (list of `key`, `kind`, `low`,
            `high`, `choices`, `log`, `step`, `role`, `when`, `reason`, `default`).
        budget: `trials`, `max_epochs`, `time_budget_s` (or None), `sampler`, `scheduler`, `concurrent`.
        objective: The metric that ranks trials, such as `val/miou`.
        mode: `max` or `min`.
        resources: `cpus_per_trial`, `gpus_per_trial`, `concurrent`.
        hardware: `cpu`, `cores`, `memory_gib`, `gpus` (list of names), `platform`.
        versions: Package versions, `python`, and `code`, a hash of this project's source.
        execution: How every trial is run: the fields of `trainables.trial.Execution`, among them `precision`,
            `channels_last`, `compile`, `workers`, `cache_bytes` and `threads` (of torch in a trial).
        tracking: `wandb` (mode asked for) and `project`.
        plugins: The user's own components: `path` and `sha256` of each file, and `package` of an installed one.
    """

    name: str
    created: str
    command: tuple[str, ...]
    seed: int
    data: Mapping[str, Any]
    space: Mapping[str, Any]
    budget: Mapping[str, Any]
    objective: str
    mode: str
    resources: Mapping[str, Any]
    hardware: Mapping[str, Any]
    versions: Mapping[str, str]
    execution: Mapping[str, Any] = field(default_factory=dict)
    tracking: Mapping[str, str] = field(default_factory=dict)
    plugins: tuple[Mapping[str, str], ...] = ()

    def save(self, run_dir: Path) -> None:
        """Writes `manifest.json`, atomically."""
        content = {"format": FORMAT, **dataclasses.asdict(self), "command": list(self.command)}
        write_json(run_dir / FILE_NAME, content, indent=2)

    @classmethod
    def load(cls, run_dir: Path) -> SweepManifest:
        """Reads a run's manifest.

        Raises:
            DataError: If the folder is not a run folder, or the manifest is torn or of another format.
        """
        path = run_dir / FILE_NAME
        if not path.is_file():
            raise DataError(
                f"{run_dir} is not a run folder: it has no {FILE_NAME}\n"
                f"give the folder that a sweep printed, such as runs/NAME, or start one: {commands.start_sweep()}"
            )
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("format") != FORMAT:
                raise DataError(f"{path} has another format than {FORMAT}: read it with the version that wrote it")
            manifest = cls(
                **{
                    **content,
                    "command": tuple(content["command"]),
                    "plugins": tuple(content.get("plugins", ())),
                }
            )
            _check_shape(manifest)
            check_name(manifest.name, f"the name in {path}")
            return manifest
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(f"{path} is damaged ({error}); restore it from a backup of the run folder") from error


def _check_shape(manifest: SweepManifest) -> None:
    """Raises a TypeError if a field is of another kind than the class says; what is missing shows where it is used."""
    for key in ("data", "space", "budget", "resources", "hardware", "versions", "execution", "tracking"):
        if not isinstance(getattr(manifest, key), Mapping):
            raise TypeError(f"{key} must be an object")
    data = manifest.data
    splits, classes = data.get("splits", {}), data.get("classes", [])
    texts = [manifest.name, manifest.created, manifest.objective, data.get("name", ""), data.get("root") or ""]
    texts += [split["hash"] for split in splits.values()] + [info["name"] for info in classes]
    texts += manifest.versions.values()
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a name, a path, a hash or a version is not a text")


def package_versions() -> dict[str, str]:
    """Versions of Python, of our code, and of the packages that decide a result (`absent` where one is missing)."""
    versions = {"python": platform.python_version(), "code": code_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "absent"
    return versions


def code_version() -> str:
    """The first 12 hexadecimal digits of SHA-256 over the source of the four packages."""
    digest = hashlib.sha256()
    for package in ("trainables", "search_spaces", "sweep", "analysis"):
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def describe_hardware() -> dict[str, Any]:
    """The machine that runs the driver: processor, usable cores, memory in GiB, names of its GPUs."""
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else None
    return {
        "cpu": _processor_name(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "memory_gib": round(memory, 1) if memory else None,
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "platform": platform.platform(),
    }


def _processor_name() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
