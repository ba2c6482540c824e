"""Images with other channels than red, green and blue: which bands of a file a model sees, and how people see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.errors import DataError

MOST_CHANNELS = 512
"""Of an image."""

STRETCH = (2.0, 98.0)
"""Percentiles of a band that are black and white in a picture."""


@dataclass(frozen=True)
class Bands:
    """Which bands of its image files a model sees, and what is known of them.

    Attributes:
        numbers: The bands in the order in which the model sees them; the first band of a file is 1.
        of: How many bands the files have.
        colours: Which of `numbers` are red, green and blue; None where nobody knows, or not all three are among them.
        scale: The values that become 0 and 255, linearly; what lies beyond is clipped. None: by the depth of the files.
        pages: Whether each page of a file is a band.
    """

    numbers: tuple[int, ...]
    of: int
    colours: tuple[int, int, int] | None = None
    scale: tuple[float, float] | None = None
    pages: bool = False

    @property
    def channels(self) -> int:
        """How many channels the model sees."""
        return len(self.numbers)

    @property
    def places(self) -> tuple[int, int, int] | None:
        """Where red, green and blue are among the model's channels, from 0."""
        if self.colours is None:
            return None
        red, green, blue = (self.numbers.index(number) for number in self.colours)
        return red, green, blue

    @property
    def shown(self) -> tuple[int, int, int]:
        """The channels that pictures show as red, green and blue, from 0: those, else the first three of the model."""
        if self.places is not None:
            return self.places
        return (0, 1, 2) if self.channels >= 3 else (0, 0, 0)

    def __str__(self) -> str:
        """Such as `bands 4,3,2 of 5`."""
        everything = self.numbers == tuple(range(1, self.of + 1))
        named = f"{self.numbers[0]} to {self.of}" if everything and self.of > 1 else ",".join(map(str, self.numbers))
        return f"bands {named} of {self.of}"

    def caption(self) -> str:
        """How pictures show such an image, for whoever looks at them."""
        chosen = [self.numbers[place] for place in self.shown]
        low, high = STRETCH
        what = f"band {chosen[0]} as grey" if len(set(chosen)) == 1 else f"bands {','.join(map(str, chosen))} as RGB"
        return f"pictures show {what}, each stretched from percentile {low:g} to {high:g} of the image"

    def short_caption(self) -> str:
        """The same over a picture."""
        chosen = [self.numbers[place] for place in self.shown]
        named = f"band {chosen[0]}" if len(set(chosen)) == 1 else f"bands {','.join(map(str, chosen))}"
        low, high = STRETCH
        return f"{named} ({low:g}% to {high:g}%)"

    def to_json(self) -> dict[str, Any]:
        """Primitives only; `from_json` restores it."""
        return {
            "numbers": list(self.numbers),
            "of": self.of,
            "colours": None if self.colours is None else list(self.colours),
            "scale": None if self.scale is None else list(self.scale),
            "pages": self.pages,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Bands:
        """Reads what `to_json` gave, perhaps changed by somebody.

        Raises:
            DataError: If it is not such a thing.
        """
        try:
            numbers = tuple(content["numbers"])
            of, colours, scale = content["of"], content.get("colours"), content.get("scale")
            good = all(type(number) is int for number in (of, *numbers, *(colours or ())))
            good = good and 0 < len(set(numbers)) == len(numbers) and 1 <= min(numbers) <= max(numbers) <= of
            good = good and (colours is None or (len(set(colours)) == 3 == len(colours) and {*colours} <= {*numbers}))
            low, high = (0.0, 1.0) if scale is None else (float(value) for value in scale)
            good = good and -np.inf < low < high < np.inf and isinstance(content.get("pages", False), bool)
        except (KeyError, TypeError, ValueError, AttributeError):
            good = False
        if not good:
            raise DataError(f"not a choice of bands: {content!r}")
        red_green_blue = None if colours is None else (colours[0], colours[1], colours[2])
        return cls(numbers, of, red_green_blue, None if scale is None else (low, high), content.get("pages", False))


def any_bands(channels: int) -> Bands | None:
    """Bands of which only the number is known; None for three, which any model takes."""
    return None if channels == 3 else Bands(tuple(range(1, channels + 1)), channels)


def picture_of(
    image: npt.NDArray[np.uint8], bands: Bands | None, *, like: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.uint8]:
    """An image as people see it.

    Args:
        image: uint8 of shape (H, W, C), as `SegmentationData.image` gives it.
        bands: What its channels are; None: red, green and blue, which are shown as they are.
        like: The image (h, w, C) whose percentiles count: that before a change which the picture is to show.

    Returns:
        RGB, uint8 of shape (H, W, 3): the channels `Bands.shown`, each stretched linearly so that its percentiles
        `STRETCH` become 0 and 255. A channel without contrast is shown as it is.
    """
    if bands is None:
        return image
    stretched = {}
    for place in dict.fromkeys(bands.shown):
        channel: npt.NDArray[Any] = image[..., place].astype(np.float32)
        source = (image if like is None else like)[..., place]
        low, high = np.percentile(source, STRETCH) if source.size else (0.0, 0.0)
        if high > low:
            channel = (channel - low) * (255 / (high - low))
        stretched[place] = np.rint(channel).clip(0, 255).astype(np.uint8)
    return np.stack([stretched[place] for place in bands.shown], axis=-1)


def grey_of(image: npt.NDArray[np.uint8], bands: Bands | None) -> npt.NDArray[np.uint8]:
    """One number for each pixel, uint8 of shape (H, W): the luma of ITU-R BT.601, or the mean of bands.

    Args:
        image: uint8 of shape (H, W, C).
        bands: What its channels are; None: red, green and blue.
    """
    if bands is None:
        import cv2

        return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    return np.asarray(np.rint(image.mean(axis=-1, dtype=np.float32)), np.uint8)
