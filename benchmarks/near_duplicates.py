"""How far near-duplicates and different pictures are apart by the measure of `trainables.data.near_duplicates`.

    python benchmarks/near_duplicates.py --data-root DATA_ROOT [--images 300] [--out FILE]

Each picture is compared with altered copies of itself, and with all other pictures of its data set. Printed are, for
each alteration, the share that is found at the limit, and the lowest and the median correlation; and of different
pictures the highest correlations and how many pairs are above the limit. The frames of CamVid come from videos: pairs
above the limit there are neighbours. Last come the seconds that comparing 10,000 thumbnails with each other takes.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
from tabulate import tabulate

from trainables.data import DATASETS
from trainables.data.base import Image
from trainables.data.near_duplicates import ALIKE, SIDE, likeness, near_duplicates, thumbnail


def altered(image: Image) -> Iterator[tuple[str, Image]]:
    """Copies of a picture that show nearly the same."""
    height, width = image.shape[:2]
    packed = io.BytesIO()
    PIL.Image.fromarray(image).save(packed, "JPEG", quality=30)
    yield "JPEG quality 30", np.array(PIL.Image.open(packed))
    yield "half the size", cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    yield "1.2 times as bright", np.clip(image * 1.2 + 10, 0, 255).astype(np.uint8)
    yield "grey", np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    turned = cv2.getRotationMatrix2D((width / 2, height / 2), 1, 1)
    yield "turned by 1 degree", cv2.warpAffine(image, turned, (width, height), borderMode=cv2.BORDER_REFLECT)
    for percent in (3, 6):
        cut = max(1, percent * min(height, width) // 100)
        yield f"{percent}% cut off at each side", image[cut:-cut, cut:-cut]
    yield "mirrored", np.ascontiguousarray(image[:, ::-1])


def table(name: str, root: Path | None, images: int) -> str:
    """The rows of one data set."""
    data = DATASETS.get(name)(root=root)
    ids = list(data.ids())[:images]
    small = [thumbnail(data.image(image_id)) for image_id in ids]
    found: dict[str, list[float]] = {}
    for image_id, own in zip(ids, small, strict=True):
        for kind, copy in altered(data.image(image_id)):
            found.setdefault(kind, []).append(float(likeness([own], [thumbnail(copy)])[0, 0]))
    rows = [
        [kind, f"{np.mean(np.array(values) >= ALIKE):.3f}", f"{min(values):.3f}", f"{np.median(values):.3f}"]
        for kind, values in found.items()
    ]
    among = likeness(small, small)[np.triu_indices(len(small), 1)]
    highest = ", ".join(f"{value:.3f}" for value in sorted(among)[:-6:-1])
    text = tabulate(rows, ["copy", f"found (>= {ALIKE})", "lowest", "median"], disable_numparse=True)
    pairs = f"{int((among >= ALIKE).sum())} of {len(among):,} pairs of different pictures above it"
    return f"{name}: {len(ids)} pictures\n{text}\n{pairs}; the highest: {highest}\n"


def seconds_of(pictures: int) -> float:
    """Of comparing so many pictures of noise with each other."""
    noise = np.random.default_rng(0).integers(0, 256, (pictures, SIDE, SIDE, 3), np.uint8)
    small = {str(place): thumbnail(picture) for place, picture in enumerate(noise)}
    began = time.perf_counter()
    list(near_duplicates(small))
    return time.perf_counter() - began


def main() -> None:
    """Prints a table for each data set, and the seconds."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--data-root", type=Path, required=True, help="holds VOCdevkit and CamVid")
    flags.add_argument("--images", type=int, default=300, metavar="N", help="of each data set")
    flags.add_argument("--out", type=Path, metavar="FILE")
    asked = flags.parse_args()
    roots = {"scenes": None, "voc2012": asked.data_root, "camvid": asked.data_root / "CamVid"}
    text = "\n".join(table(name, root, asked.images) for name, root in roots.items())
    text += f"\n10,000 thumbnails compared with each other: {seconds_of(10_000):.1f} s\n"
    print(text)
    if asked.out:
        asked.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
