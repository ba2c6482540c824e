"""Predefined weights: torchvision's files from torch's hub cache, checked before they are read.

torch.hub verifies a file's hash while downloading it, never when it finds it in the cache; and a truncated or swapped
file must not become a trial. Files are read without unpickling code (`weights_only`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import cast
from urllib.parse import urlparse

import torch
from torch import Tensor, nn
from torchvision.models._api import WeightsEnum

from trainables.errors import WeightsError

_CLASSIFICATION_HEAD = ("fc.", "classifier.")


def cached_file(weights: WeightsEnum) -> Path:
    """Where torch.hub keeps the file of `weights`, whether it is there or not."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name


def verify_cached_file(path: Path) -> None:
    """Checks that a file's content has the SHA-256 that its name ends with (`name-<first digits>.pth`).

    Raises:
        WeightsError: If it has another one.
    """
    named = re.search(r"-([0-9a-f]{8,})\.", path.name)
    if named is None:
        return
    status = path.stat()
    found = _sha256(path, status.st_size, status.st_mtime_ns)
    if not found.startswith(named.group(1)):
        raise WeightsError(
            f"damaged weights file {path} ({status.st_size:,} bytes): its SHA-256 starts with "
            f"{found[: len(named.group(1))]}, its name promises {named.group(1)}; delete the file so that it is "
            "downloaded again, or put a whole copy in its place"
        )


@lru_cache
def _sha256(path: Path, size: int, modified_ns: int) -> str:
    """The file's digest, computed once as long as neither size nor modification time change."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def ensure_file(model_name: str, weights: WeightsEnum) -> Path:
    """Makes sure that a weights file is in the cache and whole, downloading it once if it is not there.

    Raises:
        WeightsError: If it is damaged, or neither there nor downloadable.
    """
    path = cached_file(weights)
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            expected = re.search(r"-([0-9a-f]{8,})\.", path.name)
            torch.hub.download_url_to_file(weights.url, str(path), expected and expected.group(1), progress=False)
        except (OSError, RuntimeError) as error:
            raise WeightsError(
                f"no weights {weights} for {model_name}: {path.name} is not in {path.parent} and could not be "
                f"downloaded ({error}); connect to the network once, or copy the file there, or train from scratch "
                "with --weights none"
            ) from error
    verify_cached_file(path)
    return path


def read_weights(model_name: str, weights: WeightsEnum) -> dict[str, Tensor]:
    """The state dict of predefined weights, on the CPU.

    Raises:
        WeightsError: As `ensure_file`, and if the file holds no state dict.
    """
    path = ensure_file(model_name, weights)
    try:
        return cast("dict[str, Tensor]", weights.get_state_dict(progress=False, map_location="cpu", weights_only=True))
    except Exception as error:
        raise WeightsError(
            f"{path} cannot be read as a weights file ({error}); delete it so that it is downloaded again"
        ) from error


def load_backbone(model_name: str, backbone: nn.Module, weights: WeightsEnum) -> None:
    """Loads a classifier's weights into the part of it that serves as a backbone.

    Raises:
        WeightsError: If the file does not fit.
    """
    state = {
        name.removeprefix("features."): tensor
        for name, tensor in read_weights(model_name, weights).items()
        if not name.startswith(_CLASSIFICATION_HEAD)
    }
    _load(backbone, state, model_name, weights, may_miss=lambda name: False)


def load_whole_model(
    model_name: str, model: nn.Module, weights: WeightsEnum, final_layers: Sequence[str], class_names: Sequence[str]
) -> None:
    """Loads a segmentation model's weights.

    The layers whose outputs are classes keep their fresh initialisation unless `class_names` are those that the
    weights were trained for, in that order.

    Raises:
        WeightsError: If the file does not fit.
    """
    state = read_weights(model_name, weights)
    kept = same_classes(class_names, weights.meta["categories"])
    final = tuple(f"{layer}." for layer in final_layers)
    has_aux = getattr(model, "aux_classifier", None) is not None
    wanted = {
        name: tensor
        for name, tensor in state.items()
        if (kept or not name.startswith(final)) and (has_aux or not name.startswith("aux_classifier."))
    }
    _load(model, wanted, model_name, weights, may_miss=lambda name: not kept and name.startswith(final))


def same_classes(names: Sequence[str], others: Sequence[str]) -> bool:
    """Whether two lists name the same classes in the same order, up to case and punctuation ("__background__")."""
    return [_letters(name) for name in names] == [_letters(name) for name in others]


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _load(
    module: nn.Module,
    state: Mapping[str, Tensor],
    model_name: str,
    weights: WeightsEnum,
    *,
    may_miss: Callable[[str], bool],
) -> None:
    try:
        result = module.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise WeightsError(f"{cached_file(weights)} does not fit {model_name}: {error}") from error
    missing = [name for name in result.missing_keys if not may_miss(name)]
    faults = [f"missing {', '.join(missing[:3])}"] if missing else []
    faults += [f"unexpected {', '.join(result.unexpected_keys[:3])}"] if result.unexpected_keys else []
    if faults:
        raise WeightsError(
            f"{cached_file(weights)} does not fit {model_name}: {'; '.join(faults)}; is it another model's file?"
        )
