"""What an exported file says of itself."""

from __future__ import annotations

import json

from analysis.export.graph import Graph
from analysis.model import TrainedModel
from trainables.config import format_size
from trainables.data.tiles import OVERLAP
from trainables.options import CROP, STRETCH, TILE, scale_of, way_of


def metadata_of(trained: TrainedModel, graph: Graph) -> dict[str, str]:
    """What a user of the file must know, by key; lists and numbers as JSON."""
    record, size = trained.record, graph.input_size(trained.size)
    resize = graph.resize(trained)
    sides = f"sides of {graph.least} pixels and more"
    if graph.module.multiple > 1:
        sides = f"{sides}, multiples of {graph.module.multiple}"
    if graph.fixed:
        sides = f"of {format_size(graph.fixed)} pixels and of no other size"
    channels, what = len(trained.normalisation["mean"]), _channels(trained)
    bands = {} if trained.bands is None else {"bands": json.dumps(trained.bands.to_json())}
    return {
        "segsweep.format": "1",
        "classes": json.dumps([info.name for info in trained.classes]),
        "ids": json.dumps(trained.ids),
        "colors": json.dumps([info.color for info in trained.classes]),
        "input": f"images: uint8 (batch, height, width, {channels}), {what}, {sides}",
        **bands,
        "output": "logits: float32 (batch, classes, height, width); the class of a pixel is the largest",
        "input_size": format_size(size),
        "multiple": str(graph.module.multiple),
        "resize": resize,
        "resizing": _resizing(resize, format_size(size)),
        "normalisation": json.dumps({**trained.normalisation, "where": "inside the graph"}),
        "model": record.config.model.name,
        "trial_id": record.trial_id,
        "checkpoint_sha256": record.sha256,
        "provenance": "\n".join(trained.provenance.lines()),
    }


def _channels(trained: TrainedModel) -> str:
    """What the channels of an image are, and how files become them."""
    bands = trained.bands
    if bands is None:
        return "RGB"
    pages = ", each page of a file one" if bands.pages else ""
    if bands.scale is not None:
        scale = f"values from {bands.scale[0]:g} to {bands.scale[1]:g} as 0 to 255, those beyond clipped"
    elif trained.image_bits is None:
        scale = "8 bits as they are"
    elif trained.image_bits == 0:
        scale = "values of 0 to 1 times 255, rounded"
    else:
        scale = f"values deeper than 8 bits divided by {2 ** (trained.image_bits - 8)} and rounded down"
    return f"{bands} in this order{pages} ({scale}; no data is 0)"


def _resizing(resize: str, size: str) -> str:
    how = "by the mean over the source area when shrinking (cv2.INTER_AREA), bilinearly when enlarging"
    if resize == STRETCH:
        return (
            f"as in training, each image is stretched to {size} (HEIGHTxWIDTH): {how}; the logits are resized "
            "bilinearly (half-pixel centres) to the size of the image"
        )
    if resize == CROP:
        return (
            f"as in an evaluation, each image keeps its aspect and is resized to cover {size} (HEIGHTxWIDTH), whole: "
            f"one side is that of {size}, the other as long or longer; {how}; the logits are resized bilinearly "
            "(half-pixel centres) to the size of the image"
        )
    if way_of(resize) == TILE:
        scale = scale_of(resize)
        seen = "not resized" if scale == 1 else f"resized to {scale:g} of its height and width ({how})"
        after = "" if scale == 1 else "; the averaged logits are resized bilinearly to the size of the image"
        return (
            f"as in an evaluation, windows of {size} (HEIGHTxWIDTH) slide over each image, which is {seen}, and "
            f"overlap by {OVERLAP:.0%} or more; an image that is smaller goes on below and to the right as its "
            "reflection (cv2.BORDER_REFLECT_101); the logits of windows are averaged, where two neighbours share "
            "pixels with a weight that is 0 in the quarter of them at a window's border and rises linearly over the "
            f"half behind it{after}"
        )
    return (
        f"as in training, each image keeps its aspect and is resized to fit within {size} (HEIGHTxWIDTH): {how}; it "
        "lies in the upper left corner, below and to the right of it is its reflection (cv2.BORDER_REFLECT_101); the "
        "logits are resized bilinearly (half-pixel centres) so that those of the image get its size, and the others "
        "are cut off"
    )
