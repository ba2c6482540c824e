"""What the decoded cache costs and gives on a data set: size, seconds to build, to find again, images per second.

python benchmarks/cache.py voc2012 --data-root VOCdevkit --image-size 384x384
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from trainables.config import parse_size
from trainables.data import DATASETS
from trainables.data.cache.decoded import DecodedCache


def seconds(work: Callable[[], object]) -> float:
    """How long something takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Builds the cache of train and val in a folder of its own, finds it again and reads every image twice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=sorted(DATASETS))
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--image-size", type=parse_size, help="HEIGHTxWIDTH; the data set's own by default")
    options = parser.parse_args()
    data = DATASETS.get(options.data)(root=options.data_root)
    size = options.image_size or data.default_image_size
    splits = data.splits()
    ids = (splits.train, splits.val)
    with tempfile.TemporaryDirectory() as folder:
        places = {"limit_bytes": 10**15, "folder": Path(folder)}
        cache, again = DecodedCache(data, size, **places), DecodedCache(data, size, **places)
        print(cache.plan(*ids))
        print(f"build         {seconds(lambda: cache.build(*ids)):8.2f} s")
        print(f"find again    {seconds(lambda: again.build(*ids)):8.2f} s")
        fly = DecodedCache(data, size, limit_bytes=0)
        for label, arrays in (
            ("on the fly", fly.train_arrays),
            ("first read", again.train_arrays),
            ("later reads", again.train_arrays),
        ):
            rate = len(splits.train) / seconds(lambda arrays=arrays: [arrays(image_id) for image_id in splits.train])
            print(f"{label:<13} {rate:8.0f} training images per second")


if __name__ == "__main__":
    main()
