"""Names of folders and files, and what they say: images, masks, a split, a copy for the eye.

A new word for one of them is added here and nowhere else.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

Role = Literal["image", "mask", "aside", ""]

IMAGE_WORDS = frozenset((
    "image", "images", "img", "imgs", "pic", "pics", "picture", "pictures", "photo", "photos", "rgb",
    "jpegimages", "jpegs", "leftimg8bit", "input", "inputs", "original", "originals", "orig", "raw", "frame",
    "frames", "scan", "scans", "imagedata",
))  # fmt: skip
MASK_WORDS = frozenset((
    "mask", "masks", "label", "labels", "lbl", "lbls", "annotation", "annotations", "annotated", "annot",
    "annots", "anno", "annos", "ann", "anns", "gt", "gts", "gtfine", "groundtruth", "groundtruths", "truth",
    "truths", "seg", "segs", "segmentation", "segmentations", "segmentationclass", "segmentationclassaug",
    "segmentationobject", "semantic", "semantics", "labelid", "labelids", "labelmap", "labelmaps", "trimap",
    "trimaps", "target", "targets", "manual", "manual1", "segmap", "segmaps", "labelled", "labeled",
))  # fmt: skip
ASIDE_WORDS = frozenset((
    "prediction", "predictions", "pred", "preds", "overlay", "overlays", "visualization", "visualizations",
    "visualisation", "visualisations", "vis", "viz", "preview", "previews", "thumbnail", "thumbnails", "thumbs",
))  # fmt: skip
"""Folders of what programs drew: neither images nor masks."""

COPY_WORDS = frozenset((
    "color", "colors", "colored", "colour", "colours", "coloured", "instance", "instances", "instanceid",
    "instanceids", "object", "objects", "segmentationobject", "human", "vis", "viz", "visualization", "rgb",
))  # fmt: skip
"""Masks that another copy of themselves is to be preferred to: drawn for the eye, or with objects told apart."""

PARTS = {
    **dict.fromkeys(("train", "training", "trn", "tr"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "ts"), "test"),
}
"""Names of splits."""

MASK_AFFIX = re.compile(
    r"^(?:(?:mask|label|lbl|gt|seg|segmentation|annotation)s?[_\-. ]+)|"
    r"[_\-. ]+\(?(?:masks?|labels?|lbl|lab|segs?|segmentations?|gt|ground[_\-]?truth|annotations?|annot|anno|ann|"
    r"manual\d?|trimap|semantic|L|l|(?:gt[fF]ine_)?label(?:Train)?Ids|gtFine_color|label[_\-]?ids?)\)?$"
)
"""What is added to the name of an image, with its separator, to name its mask."""

IMAGE_AFFIX = re.compile(
    r"^(?:(?:image|img|photo|rgb)s?[_\-. ]+)|[_\-. ]+(?:image|img|im|rgb|sat|photo|leftImg8bit|training|orig|input)$",
    re.IGNORECASE,
)

_TOKEN = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+(?:st|nd|rd|th)?|[A-Z]")


@dataclass(frozen=True)
class FolderName:
    """What the name of a folder says."""

    role: Role
    part: str | None
    """train, val or test."""
    rest: str
    """What is left of it without its role, in lower case for a split; empty for nothing."""
    copy: bool
    """Whether it holds copies (`COPY_WORDS`)."""


def folder_name(name: str) -> FolderName:
    """What the name of a folder says.

    Example:
        >>> folder_name("trainannot").role, folder_name("trainannot").rest, folder_name("validation").part
        ('mask', 'train', 'val')
    """
    words = tokens(name)
    compact = "".join(words)
    role, rest = _role(words, compact)
    left = tokens(rest) if role else words
    part = next((PARTS[word] for word in left if word in PARTS), None)
    if "".join(left) in PARTS:
        rest = PARTS["".join(left)]
    elif not role:
        rest = normal(name)
    return FolderName(role, part, rest, compact in COPY_WORDS or not COPY_WORDS.isdisjoint(words))


def tokens(name: str) -> list[str]:
    """The words of a name in lower case, cut at separators, digits and capitals."""
    return [word.lower() for word in _TOKEN.findall(normal(name))]


def normal(name: str) -> str:
    """A name in the one Unicode form (NFC) in which names are compared; some file systems keep another."""
    return unicodedata.normalize("NFC", name)


def _role(words: list[str], compact: str) -> tuple[Role, str]:
    """The role, and what the name says beside it."""
    known: tuple[tuple[Role, frozenset[str]], ...] = (
        ("aside", ASIDE_WORDS),
        ("mask", MASK_WORDS),
        ("image", IMAGE_WORDS),
    )
    for role, those in known:
        if compact in those:
            return role, ""
    for role, those in known:
        if not those.isdisjoint(words):
            every = IMAGE_WORDS | MASK_WORDS | ASIDE_WORDS | COPY_WORDS | {"dir", "all", "prepped"}
            return role, "_".join(word for word in words if word not in every)
    for role, those in known[1:]:
        for part in PARTS:
            for rest in (compact.removeprefix(part), compact.removesuffix(part)):
                if rest != compact and rest in those:
                    return role, part
    return "", ""
