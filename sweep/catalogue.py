"""The names that help texts list, remembered so that `--help` loads neither torch nor Optuna.

They are collected from the registries once for each version of the code and of the packages that bring names of their
own, and kept in the cache folder. With plugins of the user's loaded they are collected anew, and not kept.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata

from sweep.manifest import code_version
from trainables import plugins
from trainables.data.cache.places import cache_root
from trainables.files import write_json

_PACKAGES = ("torchvision", "timm", "optuna")


@dataclass(frozen=True)
class Names:
    """Names in the order in which help texts list them; `model_pattern` says how further models are named."""

    spaces: list[str]
    models: list[str]
    model_pattern: str
    weights: list[str]
    samplers: list[str]
    schedulers: list[str]
    precisions: list[str]


def names() -> Names:
    """The names, from the cache folder where it has them."""
    if plugins.loaded():
        return _collected()
    return _remembered()


@lru_cache(maxsize=1)
def _remembered() -> Names:
    path = cache_root() / f"names-{_key()}.json"
    try:
        return Names(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        found = _collected()
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, not the command
        write_json(path, dataclasses.asdict(found), indent=None)
    return found


def _key() -> str:
    versions = []
    for package in _PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            versions.append(f"{package} absent")
    return hashlib.sha256("\n".join([code_version(), *versions]).encode()).hexdigest()[:16]


def _collected() -> Names:
    from search_spaces import SPACES
    from sweep.optuna_study import SAMPLERS
    from sweep.schedulers import SCHEDULERS
    from trainables.models import MODELS, WEIGHTS
    from trainables.updates import PRECISIONS

    return Names(
        spaces=SPACES.names(),
        models=MODELS.names(),
        model_pattern=MODELS.pattern,
        weights=list(WEIGHTS),
        samplers=SAMPLERS.names(),
        schedulers=SCHEDULERS.names(),
        precisions=list(PRECISIONS),
    )
