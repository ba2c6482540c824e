"""Weights from a file of the user's: `--weights PATH`, of a backbone or of a whole model.

What stands in the file decides what it is: its names are tried as those of the whole model, of torchvision's classifier
and of timm's, and the reading in which most numbers fit is taken. It is read without unpickling code.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from trainables.errors import WeightsError
from trainables.limits import check_archive
from trainables.models.weights import read_weights
from trainables.words import counted, some_of

LEAST_SHARE = 0.9
"""Of the backbone's numbers, that a file must give: with fewer it is another model's."""
_NESTED = ("state_dict", "model_state_dict", "model_state", "model", "net", "weights")
"""Under which other programs keep a state dict in a file."""
_READINGS = (
    *(("", ""), ("", "backbone."), ("features.", "backbone.")),
    *(("", "backbone.body."), ("backbone.", "backbone.body.")),
    *(("encoder.", "backbone.body."), ("", "backbone.body.model.")),
)
"""What is taken from the front of a name in the file, and what is put there instead: as in the model, in torchvision,
in timm (whose transformers stand one deeper as a backbone), in segmentation_models.pytorch."""
_CURE = "save model.state_dict() of the model whose weights are wanted"
_WRAPPERS = ("module.", "model.", "_orig_mod.", "net.", "encoder.")
"""Before every name, where a model was wrapped when it was saved."""


@dataclass(frozen=True)
class Loaded:
    """What of a model came out of a file.

    Attributes:
        share: Of the backbone's numbers.
        fresh: Tensors of the model that keep their initialisation.
        unused: Tensors of the file that the model has no place for.
    """

    share: float
    fresh: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        told = [f"{self.share:.0%} of the backbone's numbers"]
        for what, names in (("fresh", self.fresh), ("not used", self.unused)):
            if names:
                told.append(f"{what}: {counted(len(names), 'tensor')} ({some_of(_parts(names), 3)})")
        return ", ".join(told)


def load_own(model: nn.Module, path: Path, name: str) -> Loaded:
    """Loads what fits of a file into a model; the rest of the model stays as it is.

    Args:
        model: With a part called `backbone`.
        path: A safetensors file, or one of torch that holds a state dict, perhaps below a usual key.
        name: Of the model, for messages.

    Raises:
        WeightsError: If the file holds no state dict, or fits less than `LEAST_SHARE` of the backbone.
    """
    state = read_state(path)
    own = model.state_dict()
    if renamed := getattr(model.backbone, "in_own_names", None):
        state = renamed(state)
    readings = [_fitting(state, own, *reading) for reading in _readings(state)]
    fitting = max(readings, key=lambda found: _numbers({key: own[key] for key in found}))
    wanted = {key: tensor for key, tensor in own.items() if key.startswith("backbone.") and tensor.ndim > 0}
    share = _numbers({key: own[key] for key in fitting if key in wanted}) / max(1, _numbers(wanted))
    if share < LEAST_SHARE:
        missing = next((key for key in wanted if key not in fitting), "")
        raise WeightsError(
            f"{path} does not fit {name}: it gives {share:.0%} of its backbone's numbers; less than {LEAST_SHARE:.0%} "
            f"is another model's file; for instance {missing} {tuple(own[missing].shape)} is not in it"
        )
    model.load_state_dict({**own, **{key: state[source] for key, source in fitting.items()}})
    used = set(fitting.values())
    return Loaded(
        share,
        tuple(key for key in own if key not in fitting and own[key].ndim > 0),
        tuple(key for key in state if key not in used and state[key].ndim > 0),
    )


def _parts(names: Sequence[str]) -> list[str]:
    """The modules of tensors, each once."""
    return list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))


def read_state(path: Path, cure: str = _CURE) -> dict[str, Tensor]:
    """The tensors of a state dict in a file, read without running code.

    Args:
        path: A safetensors file, or one of torch that holds a state dict, perhaps below a usual key.
        cure: What to do about one that cannot be read.

    Raises:
        WeightsError: If it cannot be read, or holds no state dict.
    """
    if path.suffix == ".safetensors":
        try:
            return dict(load_file(path))
        except (OSError, SafetensorError) as error:
            raise WeightsError(f"{path} cannot be read as a weights file ({error}); {cure}") from error
    with contextlib.suppress(OSError, ValueError):  # no archive: torch says what is wrong with it
        check_archive(path, together=True)
    content: Any = read_weights(path, cure)
    while isinstance(content, Mapping) and not any(isinstance(one, Tensor) for one in content.values()):
        inner = next((content[key] for key in _NESTED if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    named = content.items() if isinstance(content, Mapping) else ()
    tensors = {str(key): one for key, one in named if isinstance(one, Tensor)}
    if not tensors:
        raise WeightsError(f"{path} holds no state dict; {cure}")
    return tensors


def _readings(state: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    yield from _READINGS
    for wrapper in _WRAPPERS:
        if all(key.startswith(wrapper) for key in state):
            yield from ((wrapper + taken, put) for taken, put in _READINGS)


def _fitting(state: Mapping[str, Tensor], own: Mapping[str, Tensor], taken: str, put: str) -> dict[str, str]:
    """Names in the model to names in the file, of tensors of the same shape."""
    found = {}
    for source, tensor in state.items():
        rest = source.removeprefix(taken)
        for key in (put + rest, put + re.sub(r"\.(\d+)\.", r"_\1.", rest, count=1)):  # timm's backbones join the two
            if source.startswith(taken) and key in own and own[key].shape == tensor.shape:
                found[key] = source
    return found


def _numbers(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors.values())
