"""Whether a file was saved with loss, so that no id or colour in it can be trusted."""

from __future__ import annotations

from pathlib import Path

import PIL.Image


def lossy_format(image: PIL.Image.Image, path: Path) -> str:
    """What a file is that was saved with loss, such as "a JPEG"; empty where it was not.

    Args:
        image: As PIL opened it.
        path: Its file.
    """
    if image.format in ("JPEG", "MPO"):
        return "a JPEG"
    if image.format == "WEBP" and _webp_is_lossy(path.read_bytes()):
        return "a lossy WebP"
    if image.format == "TIFF" and image.info.get("compression") in ("jpeg", "tiff_jpeg", "webp"):
        return "a TIFF with lossy compression"
    return ""


def _webp_is_lossy(content: bytes) -> bool:
    """Whether a WebP file has a lossy frame; `VP8L` is the lossless kind (WebP container specification)."""
    place = 12
    while place + 8 <= len(content):
        kind, size = content[place : place + 4], int.from_bytes(content[place + 4 : place + 8], "little")
        if kind == b"VP8 ":
            return True
        if kind == b"ANMF":
            place += 8 + 16
            continue
        place += 8 + size + size % 2
    return False
