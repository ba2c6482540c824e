"""Where files of the Hugging Face hub come from and where they lie, for machines without network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path


def by_hand(repository: str, files: Sequence[str], revision: str = "main") -> str:
    """What to do so that files are found in the hub's cache folder on this machine.

    A revision that is no commit is looked up in `refs/`; what stands there is the folder's name below `snapshots/`.

    Args:
        repository: Such as `timm/resnet18.a1_in1k`.
        files: Their names in the repository.
        revision: A commit (40 hexadecimal digits), or the name of a branch or tag.
    """
    # Imported here: only reached where a model of timm's or of segmentation_models.pytorch is built with weights.
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.file_download import repo_folder_name

    cache = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model")
    copies = [
        f"{hf_hub_url(repository, file, revision=revision)} as {cache / 'snapshots' / revision / file}"
        for file in files
    ]
    named = (
        "" if re.fullmatch("[0-9a-f]{40}", revision) else f", with the word {revision} in {cache / 'refs' / revision}"
    )
    return f"copy {' and '.join(copies)}{named}"
