"""Decodes the images of a sweep once, before Ray starts: all trials of this machine share them."""

from __future__ import annotations

import itertools

from rich.console import Console

from sweep.compiled import values_of
from sweep.manifest import SweepManifest
from trainables.config import parse_size
from trainables.data.cache.decoded import DecodedCache
from trainables.execution import TrialData


def build_cache(data: TrialData, manifest: SweepManifest, console: Console) -> None:
    """Builds what is missing of the decoded cache, for every size and way of resizing that a trial may have.

    On a cluster each node builds its own, at the first trial.
    """
    space, base, limit = manifest.space, manifest.base, manifest.execution.cache_bytes
    for size, resize in itertools.product(values_of(space, base, "image_size"), values_of(space, base, "resize")):
        cache = DecodedCache(data.data, parse_size(str(size)), limit_bytes=limit, resize=str(resize))
        console.print(str(cache.plan(data.train, data.val)), markup=False, soft_wrap=True)
        with console.status("decoding the images") as status:
            cache.build(
                data.train,
                data.val,
                progress=lambda done, total: status.update(f"decoding the images: {done}/{total}"),
            )
