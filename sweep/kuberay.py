"""`python -m sweep.kuberay`: a RayJob for the KubeRay operator that runs a sweep, and goes on when tried again."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from rich.console import Console

from sweep.scripts import Sweep, add_sweep, read_sweep, write
from trainables import commands
from trainables.errors import UsageError
from trainables.flags import command_parser
from trainables.guarded import guarded

SHARED = "/shared"
"""Where the volume is in every pod; the sweep's working directory."""
TRIES = 3
"""Times that Kubernetes starts the job again, each time with pods of its own."""


def parser() -> argparse.ArgumentParser:
    """The flags."""
    p = command_parser(
        "sweep.kuberay",
        "Write a RayJob that runs a sweep on Kubernetes, by the KubeRay operator (1.5 or later). Not yet "
        "run on a real one; see docs/cluster.md.",
        epilog=f"Example: {commands.prog('sweep.kuberay')} --image registry/segsweep:1 --claim my-volume --workers 2 "
        "--gpus-per-worker 1 -- --space augment --data folder --data-root images --name mine; then: kubectl apply -f "
        "mine.yaml",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=32, width=110),
    )
    p.add_argument(
        "--image",
        type=_image,
        required=True,
        metavar="IMAGE",
        help="of containers, with this project and Ray installed",
    )
    p.add_argument(
        "--claim",
        type=_name,
        required=True,
        metavar="NAME",
        help=f"PersistentVolumeClaim (ReadWriteMany), seen at {SHARED}",
    )
    p.add_argument("--workers", type=_positive, default=1, metavar="N", help="pods that train (default: 1)")
    p.add_argument("--gpus-per-worker", type=int, default=0, metavar="N", help="default: 0")
    p.add_argument("--cpus-per-worker", type=_positive, default=4, metavar="N", help="default: 4")
    p.add_argument("--memory", type=_memory, default="16Gi", metavar="16Gi", help="of each pod (default: 16Gi)")
    p.add_argument("--namespace", type=_name, metavar="NAME", help="default: that of kubectl")
    add_sweep(p)
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return guarded(lambda: _write(parser().parse_args(arguments)), interrupted="interrupted")


def ray_job(asked: argparse.Namespace, sweep: Sweep) -> dict[str, Any]:
    """The RayJob, as Kubernetes reads it.

    Args:
        asked: From `parser`.
        sweep: To run.

    Raises:
        UsageError: If the name of the run cannot be the name of a RayJob.
    """
    name = str(sweep.config.name).lower().replace("_", "-")
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?", name):
        raise UsageError(
            f"--name {sweep.config.name}: a RayJob's name has letters, digits and '-', begins with a letter and has at "
            "most 47 characters: give such a --name"
        )
    manifest = shlex.quote(str(PurePosixPath(sweep.config.run_dir) / "manifest.json"))
    words = shlex.join(["--address", "auto", *sweep.words])
    run = f"if [ -e {manifest} ]; then again=--resume; fi; exec segsweep run $again {words}"
    metadata_ = {"name": name, **({"namespace": asked.namespace} if asked.namespace else {})}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": metadata_,
        "spec": {
            "entrypoint": shlex.join(["sh", "-c", f"cd {SHARED}; {run}"]),
            "backoffLimit": TRIES,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 600,
            "rayClusterSpec": {
                "rayVersion": metadata.version("ray"),
                "authOptions": {"mode": "token"},
                "headGroupSpec": {
                    "rayStartParams": {"num-cpus": "0"},  # the driver's pod: no trial runs there
                    "template": _pod("ray-head", asked, gpus=0),
                },
                "workerGroupSpecs": [
                    {
                        "groupName": "trials",
                        "replicas": asked.workers,
                        "minReplicas": asked.workers,
                        "maxReplicas": asked.workers,
                        "rayStartParams": {},
                        "template": _pod("ray-worker", asked, gpus=asked.gpus_per_worker),
                    }
                ],
            },
        },
    }


def _pod(name: str, asked: argparse.Namespace, *, gpus: int) -> dict[str, Any]:
    amounts: Mapping[str, Any] = {
        "cpu": str(asked.cpus_per_worker),
        "memory": asked.memory,
        **({"nvidia.com/gpu": str(gpus)} if gpus else {}),
    }
    volumes = {"shared": SHARED, "memory": "/dev/shm"}  # loader processes and Ray's objects live there
    return {
        "spec": {
            "containers": [
                {
                    "name": name,
                    "image": asked.image,
                    "resources": {"limits": dict(amounts), "requests": dict(amounts)},
                    "volumeMounts": [{"name": volume, "mountPath": path} for volume, path in volumes.items()],
                }
            ],
            "volumes": [
                {"name": "shared", "persistentVolumeClaim": {"claimName": asked.claim}},
                {"name": "memory", "emptyDir": {"medium": "Memory"}},
            ],
        }
    }


def _write(asked: argparse.Namespace) -> int:
    if asked.gpus_per_worker < 0:
        raise UsageError("--gpus-per-worker cannot be negative")
    sweep = read_sweep(asked.sweep)
    path = asked.out or Path(f"{sweep.config.name}.yaml")
    head = f"# Written by {commands.prog('sweep.kuberay')}. Start it: kubectl apply -f {path.name}\n"
    write(head + yaml.safe_dump(ray_job(asked, sweep), sort_keys=False, width=120), path)
    Console(highlight=False).print(
        f"written: {path}\nstart it: kubectl apply -f {shlex.quote(str(path))}", markup=False, soft_wrap=True
    )
    return 0


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number above 0")
    return int(text)


def _name(text: str) -> str:
    """A name of Kubernetes (RFC 1123, a label)."""
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", text):
        raise argparse.ArgumentTypeError(f"{text!r} must be small letters, digits and '-', as Kubernetes names things")
    return text


def _image(text: str) -> str:
    if not text or re.search(r"[\s'\"]", text):
        raise argparse.ArgumentTypeError(f"{text!r} must be the name of an image such as registry/segsweep:1")
    return text


def _memory(text: str) -> str:
    if not re.fullmatch(r"\d+(Mi|Gi|Ti)", text):
        raise argparse.ArgumentTypeError(f"{text!r} must be an amount of memory such as 16Gi")
    return text


if __name__ == "__main__":
    sys.exit(main())
