"""`python -m analysis.predict RUN images/`: what the winner of a sweep, or another model of it, sees in any images."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from rich.console import Console

from trainables import plugins
from trainables.data.reading.names import expanded
from trainables.data.reading.read import DEEP_BITS
from trainables.errors import INTERRUPTED, SegsweepError, UsageError
from trainables.flags import command_parser
from trainables.guarded import guarded, say_error
from trainables.options import LETTERBOX, STRETCH, TILE, way_of
from trainables.words import counted, some_of

if TYPE_CHECKING:
    from analysis.inputs import Inputs, Picture
    from analysis.model import TrainedModel
    from analysis.predicted import Results
    from analysis.predicting import Predictor

FAR_TOO_LARGE = 4
"""An image this many times as long as the model's input loses so much that it is told."""
_FILES_NAMED = 5
_OUT = "predictions"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code: 0 done, 1 an image failed, 2 bad usage, 130 interrupted."""
    options = parser().parse_args(arguments)
    console = Console(highlight=False)
    return guarded(
        lambda: _run(options, console), interrupted="interrupted; what is written stays", elsewhere="--out DIR"
    )


def parser() -> argparse.ArgumentParser:
    """The flags."""
    made = command_parser(
        "analysis.predict",
        "Predicts images of any size: masks with the data set's own ids, overlays, and a summary with one "
        "row per image. Of a run it takes the winner trained again on train and val where there is one, else the best.",
        epilog="Exit codes: 0 done, 1 an image failed (the others are done), 2 bad usage, 130 interrupted (what is "
        "written stays).",
    )
    made.add_argument("model", type=expanded, metavar="RUN|best/LABEL", help="folder of a run, or of one of its models")
    made.add_argument(
        "images", type=expanded, metavar="IMAGES", help="folder of images, nested as you like, or one image"
    )
    made.add_argument(
        "--out", type=expanded, default=Path(_OUT), metavar="DIR",
        help=f"folder for the results (default {_OUT}/); what an earlier call wrote there is replaced, other files are "
        "left alone",
    )  # fmt: skip
    made.add_argument(
        "--tile", type=_tile, metavar="HEIGHTxWIDTH",
        help="cut images that are larger than this, in pixels, into overlapping tiles of this size; by default every "
        "image is predicted as in an evaluation: whole, resized as in training, or in tiles where training had them",
    )  # fmt: skip
    made.add_argument(
        "--overlap", type=_overlap, default=0.25, metavar="SHARE",
        help="how much of a tile the next one covers, 0 .. 0.9 (default 0.25)",
    )  # fmt: skip
    made.add_argument("--no-overlays", action="store_true", help="masks and summary only")
    made.add_argument(
        "--bits", type=int, choices=(0, *DEEP_BITS),
        help="from which depth images deeper than 8 bits are scaled, 0 for 0 .. 1 (default: as in training)",
    )  # fmt: skip
    made.add_argument(
        "--exif", choices=("turned", "stored"), default="turned",
        help="turn pictures as their camera noted, or take the pixels as stored (default: turned)",
    )  # fmt: skip
    made.add_argument("--device", choices=("cpu", "cuda"), help="where to compute (default: a GPU where there is one)")
    plugins.add_flag(made)
    return made


@dataclass
class _Faults:
    """What went wrong with images, by kind, and of how many it went well."""

    kinds: dict[str, list[str]] = field(default_factory=dict)

    def add(self, error: BaseException, picture: Picture) -> str:
        """Notes an error; returns it in one line, without the path of the file."""
        text = " ".join(str(error).split()).removeprefix(f"{picture.path}: ")
        kind = re.sub(r" \([^()]*(\([^()]*\)[^()]*)*\)", "", text)  # what differs from file to file is in brackets
        self.kinds.setdefault(kind, []).append(picture.name)
        return text

    @property
    def count(self) -> int:
        """Images that failed."""
        return sum(map(len, self.kinds.values()))

    def lines(self) -> list[str]:
        """One paragraph per kind."""
        return [
            f"{counted(len(names), 'image')}: {kind}\n  {some_of(names, _FILES_NAMED)}"
            for kind, names in self.kinds.items()
        ]


@dataclass
class _Totals:
    images: int = 0
    seconds: float = 0.0
    pixels: Any = 0
    shrunk: int = 0


def _run(options: argparse.Namespace, console: Console) -> int:
    import torch

    from analysis.inputs import find_inputs
    from analysis.model import load_model
    from analysis.predicted import Results, check_out
    from analysis.predicting import Predictor

    if options.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: this machine has no GPU that torch can use")
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    check_out(options.out, options.images, options.model)
    trained = load_model(options.model, plugin_files=options.plugins)
    inputs = find_inputs(
        options.images,
        out=options.out,
        bits=options.bits,
        trained_bits=trained.image_bits,
        turned=options.exif == "turned",
        bands=trained.bands,
    )
    _tell_model(trained, options, console)
    for note in inputs.notes:
        console.print(f"note      {note}", markup=False, soft_wrap=True)
    predictor = Predictor(trained, device=device, tile=options.tile, overlap=options.overlap)
    faults, totals = _Faults(), _Totals()
    with Results.made(options.out, inputs, trained, overlays=not options.no_overlays) as results:
        tiling = {"tile": list(predictor.tile), "overlap": options.overlap} if predictor.tile else {"tile": None}
        results.describe(trained, {"model": str(options.model), **tiling, "bits": inputs.bits, "exif": options.exif})
        try:
            with _progress(console, len(inputs.pictures)) as advance:
                for picture in inputs.pictures:
                    _one(picture, inputs, predictor, results, faults, totals)
                    advance(faults.count)
        except KeyboardInterrupt:
            done = f"{totals.images + faults.count} of {counted(len(inputs.pictures), 'image')}"
            say_error(f"interrupted after {done}; what is written stays in {options.out}")
            return INTERRUPTED
    _tell_end(trained, totals, options, console)
    for line in faults.lines():
        say_error(line)
    return 1 if faults.count else 0


def _one(
    picture: Picture, inputs: Inputs, predictor: Predictor, results: Results, faults: _Faults, totals: _Totals
) -> None:
    """Predicts an image and writes what comes of it; a fault becomes a row and does not stop the others."""
    begin = time.perf_counter()
    try:
        image = inputs.read(picture)
        prediction = predictor(image)
        results.write(picture, image, prediction)
    except (SegsweepError, OSError, MemoryError, RuntimeError, cv2.error) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        told: BaseException = error
        if isinstance(error, MemoryError | RuntimeError):
            told = SegsweepError("not enough memory for it; give a smaller --tile HEIGHTxWIDTH")
        elif isinstance(error, cv2.error):
            told = SegsweepError(f"it cannot be resized ({error})")
        elif isinstance(error, OSError):
            told = SegsweepError(f"its results cannot be written ({error}); free space, or give --out DIR")
        results.fault(picture, faults.add(told, picture))
        return
    seconds = time.perf_counter() - begin
    pixels = np.bincount(prediction.classes.ravel(), minlength=len(results.classes))
    results.row(picture, image.shape[:2], prediction, seconds, pixels)
    totals.images += 1
    totals.seconds += seconds
    totals.pixels = totals.pixels + pixels
    longer = max(side / own for side, own in zip(image.shape[:2], predictor.size, strict=True))
    totals.shrunk += prediction.tiles == 1 and longer > FAR_TOO_LARGE and predictor.resize in (LETTERBOX, STRETCH)


@contextmanager
def _progress(console: Console, total: int) -> Iterator[Callable[[int], None]]:
    """A bar with the time that is left; call it after each image with how many failed so far."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("predicting", total=total)

        def advance(failed: int) -> None:
            bars.update(task, advance=1, description=f"predicting, {failed} failed" if failed else "predicting")

        yield advance


def _tell_model(trained: TrainedModel, options: argparse.Namespace, console: Console) -> None:
    from trainables.config import format_size

    for place, line in enumerate(trained.provenance.lines()):
        console.print(f"{'' if place else 'model':<9} {_printable(line)}", markup=False, soft_wrap=True)
    whole = f"{trained.resizing}, as in training"
    if options.tile is None:
        how = f"each image {'' if way_of(trained.resize) == TILE else 'whole, '}{whole}"
    else:
        tile = format_size(options.tile)
        how = f"in tiles of {tile} that overlap by {options.overlap:.0%}; images that fit into one are {whole}"
    console.print(f"how       {how}", markup=False, soft_wrap=True)


def _tell_end(trained: TrainedModel, totals: _Totals, options: argparse.Namespace, console: Console) -> None:
    if totals.images:
        each = totals.seconds / totals.images
        console.print(f"done      {counted(totals.images, 'image')}, {each:.2f} s each", soft_wrap=True)
        shares = totals.pixels / totals.pixels.sum()
        seen = [place for place in np.argsort(-shares) if shares[place] > 0]
        named = [f"{_printable(trained.classes[place].name)} {shares[place]:.1%}" for place in seen]
        console.print(f"pixels    {some_of(named, 8)}", markup=False, soft_wrap=True)
    if totals.shrunk:
        who = f"{counted(totals.shrunk, 'image')} with a side more than {FAR_TOO_LARGE} times that of the model's input"
        cure = "what is small there is lost; --tile HEIGHTxWIDTH predicts large images in parts"
        console.print(f"note      {who}: {cure}", markup=False, soft_wrap=True)
    console.print(f"results   {options.out.resolve().as_uri()}", markup=False, soft_wrap=True)


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _tile(text: str) -> tuple[int, int]:
    from trainables.config import parse_size

    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _overlap(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 0.9:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number within 0 .. 0.9")
    return value


if __name__ == "__main__":
    sys.exit(main())
