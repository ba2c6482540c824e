"""Predefined weights: files that are checked before they are read, torchvision's from torch's hub cache.

torch.hub verifies a file's hash while downloading it, never when it finds it in the cache; and no trial may
start from a truncated or swapped file. Files are read without unpickling code (`weights_only`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast
from urllib.parse import urlparse

import torch
from torch import Tensor, nn
from torchvision.models._api import WeightsEnum

from trainables.errors import WeightsError
from trainables.models.weight_files import digest


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
    found = digest(path)
    if not found.startswith(named.group(1)):
        raise WeightsError(
            f"damaged weights file {path} ({path.stat().st_size:,} bytes): its SHA-256 starts with "
            f"{found[: len(named.group(1))]}, its name promises {named.group(1)}; delete the file so that it is "
            "downloaded again, or put a whole copy in its place"
        )


def ensure_file(name: str, weights: WeightsEnum) -> Path:
    """Makes sure that a weights file is in the cache and whole, downloading it once if it is not there.

    Args:
        name: The model or backbone, for messages.
        weights: torchvision's description of the file.

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
                f"no weights {weights} for {name}: {path.name} is not in {path.parent} and could not be "
                f"downloaded ({error}); connect to the network once, or copy the file there, or train from scratch "
                "with --weights none"
            ) from error
    verify_cached_file(path)
    return path


def described(kind: str, path: Path) -> str:
    """What was loaded, for a trial's record: the kind of weights, the file, the first digits of its SHA-256."""
    return f"{kind}: {path.name} sha256:{digest(path)[:8]}"


def tensors_digest(module: nn.Module) -> str:
    """SHA-256 over all parameters and buffers, in their order."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def read_weights(path: Path, cure: str = "delete it so that it is downloaded again") -> dict[str, Tensor]:
    """The state dict in a file, on the CPU.

    Args:
        path: The file.
        cure: What to do about one that cannot be read.

    Raises:
        WeightsError: If torch cannot read the file, or not without running code.
    """
    try:
        state = torch.hub.load_state_dict_from_url(
            path.as_uri(), str(path.parent), map_location="cpu", file_name=path.name, weights_only=True
        )
    except Exception as error:
        raise WeightsError(f"{path} cannot be read as a weights file ({str(error).splitlines()[0]}); {cure}") from error
    return cast("dict[str, Tensor]", state)


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], path: Path, name: str) -> None:
    """Loads a state dict that must have exactly the module's entries.

    Args:
        module: What to load it into.
        state: The state dict.
        path: Where it was read, for messages.
        name: What it should fit, for messages.

    Raises:
        WeightsError: If it does not fit.
    """
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        fault = " ".join(str(error).split())[:300]
        raise WeightsError(f"{path} does not fit {name}; is it another model's file? {fault}") from error


def load_whole_model(
    name: str, model: nn.Module, weights: WeightsEnum, final_layers: Sequence[str], class_names: Sequence[str]
) -> str:
    """Loads a segmentation model's weights.

    The layers whose outputs are classes keep their fresh initialisation unless `class_names` are those that the
    weights were trained for, in that order.

    Returns:
        What was loaded (see `described`).

    Raises:
        WeightsError: If the file cannot be obtained or does not fit.
    """
    path = ensure_file(name, weights)
    state = read_weights(path)
    if getattr(model, "aux_classifier", None) is None:
        state = {key: tensor for key, tensor in state.items() if not key.startswith("aux_classifier.")}
    if not same_classes(class_names, weights.meta["categories"]):
        final = tuple(f"{layer}." for layer in final_layers)
        state = {key: tensor for key, tensor in state.items() if not key.startswith(final)}
        state |= {key: tensor for key, tensor in model.state_dict().items() if key.startswith(final)}
    load_strictly(model, state, path, name)
    return described("coco_voc", path)


def same_classes(names: Sequence[str], others: Sequence[str]) -> bool:
    """Whether two lists name the same classes in the same order, up to case and punctuation ("__background__")."""
    return [_letters(name) for name in names] == [_letters(name) for name in others]


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
