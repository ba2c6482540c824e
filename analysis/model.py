"""One trained model with all that must be known to use it: `load_model`, for a run, a label or a folder of its own."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.journal import JOURNAL_FILE, Event, read_events
from sweep.manifest import SweepManifest
from sweep.objectives import DEFAULT, Objective, objective_of, recorded_objectives
from sweep.refitted import PROVENANCE, last_refit, refit_text
from sweep.verdict import last_verdict, sentence, why_unconfirmed
from sweep.verify import open_run
from trainables import plugins
from trainables.checkpoint import MODEL_FILE, TRIAL_FILE, load_trial, rebuild_model
from trainables.config import format_size
from trainables.data.bands import Bands
from trainables.data.base import DATASETS, ClassInfo, file_ids
from trainables.errors import CheckpointError, DataError, SegsweepError, UsageError
from trainables.labels import BASELINE, BEST
from trainables.options import CROP, LETTERBOX, STRETCH, TILE, scale_of, way_of
from trainables.paths import within
from trainables.record import TrialRecord
from trainables.run_folder import BEST_MODELS, MANIFEST_FILE, REFIT

if TYPE_CHECKING:
    from torch import nn

LARGEST_ID = 65535
"""The largest id that a PNG of 16 bits holds."""


@dataclass(frozen=True)
class Provenance:
    """Where a model comes from, in sentences without a full stop.

    Attributes:
        what: Which trial it is, and what it was trained on.
        scores: What it scored, on which images; or of which other model the scores are.
        evidence: What its run may claim of it; empty where the model is not in a run.
        notes: What else a user of it must know.
    """

    what: str
    scores: str
    evidence: str = ""
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """All of it, in this order."""
        return [line for line in (self.what, self.scores, self.evidence, *self.notes) if line]


@dataclass(frozen=True)
class TrainedModel:
    """A trained model in evaluation mode on the CPU, and all that must be known to use it.

    Attributes:
        model: Normalised images of shape (N, 3, H, W), or with the channels of `bands`, to `{"out": logits
            (N, C, H, W)}`, or with `resize=False` to logits (N, C, h, w) of the head's resolution.
        record: Its `trial.json`.
        folder: Where it was read.
        ids: The id in the data set's own masks for each class, 0 .. 65535; the places of the classes where they are
            not known (then a note says so).
        provenance: Where it comes from.
        run_dir: The run that it belongs to; None for a folder of its own.
        scored: The record with its scores on val: that of the model before a refit. None where it is not there.
    """

    model: nn.Module
    record: TrialRecord
    folder: Path
    ids: tuple[int, ...]
    provenance: Provenance
    run_dir: Path | None
    scored: TrialRecord | None

    @property
    def classes(self) -> tuple[ClassInfo, ...]:
        """Names and colours; class `i` is channel `i` of the logits."""
        return self.record.classes

    @property
    def normalisation(self) -> dict[str, tuple[float, ...]]:
        """`mean` and `std` of each channel (red, green and blue, or `bands`), for images scaled to 0 .. 1."""
        return {key: tuple(self.record.normalisation[key]) for key in ("mean", "std")}

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of its input in training and evaluation.

        `trainables.data.resizing.fit_image` brings an image to it, as `resize` says; the logits of the part that shows
        the image are enlarged bilinearly to the size of the image before the class is decided. With `crop` a whole
        image covers it and is larger; with `tile` it is the size of the windows (`trainables.windows.in_tiles`).
        """
        return self.record.config.image_size

    @property
    def resize(self) -> str:
        """How images come to that size, one of `trainables.options.RESIZES` or `tile@SCALE`."""
        return self.record.config.resize

    @property
    def resizing(self) -> str:
        """What happens to an image before the model sees it, in a few words."""
        size, scale = format_size(self.size), scale_of(self.resize)
        seen = "not resized" if scale == 1 else f"resized to {scale:g} of its height and width"
        return {
            STRETCH: f"stretched to {size}",
            LETTERBOX: f"resized to fit within {size}",
            CROP: f"resized to cover {size}",
            TILE: f"in overlapping windows of {size}, {seen}",
        }[way_of(self.resize)]

    @property
    def bands(self) -> Bands | None:
        """Which bands of image files its channels are; None: red, green and blue."""
        told = self.record.data.get("bands")
        return None if told is None else Bands.from_json(told)

    @property
    def image_bits(self) -> int | None:
        """From how many bits its training images deeper than 8 were scaled; None where there were none."""
        bits = self.record.data.get("image_bits")
        return bits if isinstance(bits, int) else None


def load_model(place: Path | str, *, plugin_files: Sequence[Path] = ()) -> TrainedModel:
    """Loads a trained model; nothing is unpickled, and no code from the run is executed.

    Of a run it is the winner trained again on train and val together (`RUN/refit`) where there is one, else the label
    `best`.

    Args:
        place: A run (`runs/NAME`), one of its models (`runs/NAME/best/LABEL`, `runs/NAME/refit`), or a copy of such a
            folder anywhere.
        plugin_files: The user's own files that define components of it; they are run, so look at them first.

    Raises:
        UsageError: If there is no model at that place.
        CheckpointError: If the weights are not those that `trial.json` names, or what it says cannot be used.
        DataError: If the files of the run are not those that it wrote.

    Example:
        >>> from analysis import load_model
        >>> trained = load_model("runs/NAME")  # doctest: +SKIP
        >>> [info.name for info in trained.classes], trained.size  # doctest: +SKIP
        (['background', 'crack'], (256, 256))
    """
    place = Path(place)
    folder, run_dir = _found(place)
    manifest = None
    if run_dir is not None:
        manifest = open_run(run_dir)
        plugins.load_recorded(manifest.plugins, plugin_files, run=run_dir)
    else:
        plugins.load(plugin_files)
    events = list(read_events(run_dir / JOURNAL_FILE)) if run_dir is not None else []
    notes: list[str] = []
    if folder is None:
        assert run_dir is not None
        folder, notes = _chosen(run_dir, events)
    record = load_trial(folder)
    if run_dir is not None and folder.absolute() == run_dir.absolute() / REFIT:
        _check_refit(folder, record, events)
    _check_normalisation(folder, record)
    ids, about_ids = _ids(record, manifest)
    scored = _scored(record, run_dir)
    provenance = dataclasses.replace(
        _provenance(folder, run_dir, record, scored, manifest, events), notes=(*notes, *about_ids)
    )
    model, record = rebuild_model(folder)
    return TrainedModel(model, record, folder, ids, provenance, run_dir, scored)


def _found(place: Path) -> tuple[Path | None, Path | None]:
    """The folder of the model (None: the run decides) and that of its run (None: it is in none)."""
    if (place / MANIFEST_FILE).is_file():
        return None, place
    if (place / TRIAL_FILE).is_file():
        absolute = place.absolute()
        run = absolute.parent.parent if absolute.parent.name == BEST_MODELS else absolute.parent
        in_run = (run / MANIFEST_FILE).is_file() and (run / JOURNAL_FILE).is_file()
        return place, run if in_run else None
    what = "does not exist" if not place.exists() else "is a file" if place.is_file() else "holds neither"
    raise UsageError(
        f"{place} {what}: give the folder of a run (with {MANIFEST_FILE}), such as runs/NAME, or that of a model (with "
        f"{TRIAL_FILE} and {MODEL_FILE}), such as runs/NAME/{BEST_MODELS}/{BEST}"
    )


def _chosen(run_dir: Path, events: Sequence[Event]) -> tuple[Path, list[str]]:
    """The model that a run gives to its user, and what must be said of the choice."""
    best = within(run_dir, BEST_MODELS, BEST)
    refit = within(run_dir, REFIT)
    last = last_refit(events)
    winner = load_trial(best).trial_id
    if last is None:
        return best, []
    if last["event"] == "refitted" and last["of"] == winner:
        if (refit / TRIAL_FILE).is_file():
            return refit, []
        return best, [f"{refit} is gone, in which the journal says that it was trained again on train and val"]
    return best, [text for text in [refit_text(events, winner, run_dir)] if text]


def _check_refit(folder: Path, record: TrialRecord, events: Iterable[Event]) -> None:
    """Refuses a refitted model that is not the one which the journal tells of."""
    last = last_refit(events) or {}
    told = {"trial_id": record.trial_id, "sha256": record.sha256}
    if last.get("event") != "refitted" or {key: last.get(key) for key in told} != told:
        raise CheckpointError(
            f"{folder} is not the model that the journal of its run tells of: it was altered or put there by hand; "
            f"remove it and take {BEST_MODELS}/{BEST}, or train it again"
        )


def _check_normalisation(folder: Path, record: TrialRecord) -> None:
    told: Any = record.normalisation
    try:
        bands = None if record.data.get("bands") is None else Bands.from_json(record.data["bands"])
    except DataError as error:
        raise CheckpointError(f"{folder / TRIAL_FILE}: {error}") from error
    channels = 3 if bands is None else bands.channels
    try:
        mean, std = ([float(value) for value in told[key]] for key in ("mean", "std"))
        good = len(mean) == len(std) == channels and all(map(math.isfinite, mean + std)) and min(std) > 0
    except (KeyError, TypeError, ValueError):
        good = False
    if not good:
        what = f"a mean and a deviation of {channels} channels"
        raise CheckpointError(f"{folder / TRIAL_FILE}: the normalisation is not {what}")


def _ids(record: TrialRecord, manifest: SweepManifest | None) -> tuple[tuple[int, ...], list[str]]:
    """The data set's id of each class, and what is to be said of them."""
    count = len(record.classes)
    told: Any = record.data.get("ids") or (manifest.data.ids if manifest is not None else ())
    if told:
        good = isinstance(told, list | tuple) and len(told) == len(set(told)) == count
        if not (good and all(type(value) is int and 0 <= value <= LARGEST_ID for value in told)):
            raise CheckpointError(f"{TRIAL_FILE}: its ids of classes are not {count} different whole numbers")
        return tuple(told), []
    found = _ids_of_data(record, manifest)
    if found is not None:
        return found, []
    note = (
        "ids are the places of the classes, from 0: the model was trained before runs kept the ids of the data set's "
        "masks, and the data set is not where it was"
    )
    return tuple(range(count)), [note]


def _ids_of_data(record: TrialRecord, manifest: SweepManifest | None) -> tuple[int, ...] | None:
    """As the data set says today, where it still has the classes of the model."""
    name = record.data.get("name") or (manifest.data.name if manifest is not None else None)
    root = record.data.get("root") or (manifest.data.root if manifest is not None else None)
    if not isinstance(name, str) or name not in DATASETS or not isinstance(root, str | None):
        return None
    try:
        data = DATASETS.get(name)(root=None if root is None else Path(root))
    except (SegsweepError, OSError):
        return None
    same = [info.name for info in data.classes] == [info.name for info in record.classes]
    return tuple(file_ids(data)) if same else None


def _scored(record: TrialRecord, run_dir: Path | None) -> TrialRecord | None:
    """The record that holds scores on val: of the model before the refit, or its own."""
    if "refit" not in record.data:
        return record
    if run_dir is None:
        return None
    of = _refit_of(record)
    for folder in sorted((run_dir / BEST_MODELS).glob(f"*/{TRIAL_FILE}")):
        other = load_trial(folder.parent)
        if other.trial_id == of:
            return other
    return None


def _refit_of(record: TrialRecord) -> str:
    told = record.data["refit"]
    return str(told.get("of", "?")) if isinstance(told, dict) else "?"


def _provenance(
    folder: Path,
    run_dir: Path | None,
    record: TrialRecord,
    scored: TrialRecord | None,
    manifest: SweepManifest | None,
    events: Sequence[Event],
) -> Provenance:
    objective = recorded_objectives(manifest)[0] if manifest is not None else objective_of(DEFAULT)
    score = _score_text(scored, objective)
    if "refit" in record.data:
        of = _refit_of(record)
        label = f" (label {scored.label})" if scored is not None and scored.label else ""
        what = f"{folder}: trial {of}{label}, trained again on train and val together"
        before = f"{score} is of {of} before the refit" if score else "its run has the scores"
        scores = f"{before}; {PROVENANCE.format(of=of)}"
    else:
        what = f"{folder}: trial {record.trial_id} (label {record.label or '?'}), trained on train alone"
        chose = ", on the images that chose it among the trials" if record.label == BEST else ""
        scores = f"{score}{chose}" if score else "it was not measured on val"
    return Provenance(what, scores, _evidence(run_dir, record, scored, manifest, events, objective))


def _score_text(record: TrialRecord | None, objective: Objective) -> str:
    value = objective.value(record.metrics) if record is not None else None
    return f"{objective.key} {objective.show(value)}" if value is not None else ""


def _evidence(
    run_dir: Path | None,
    record: TrialRecord,
    scored: TrialRecord | None,
    manifest: SweepManifest | None,
    events: Sequence[Event],
    objective: Objective,
) -> str:
    """What the run may claim of its winner; empty for another model."""
    is_winner = "refit" in record.data or record.label == BEST or (scored is not None and scored.label == BEST)
    if manifest is None or run_dir is None or not is_winner:
        return ""
    verdict = last_verdict(events)
    if verdict is not None:
        return f"verdict of the run on {verdict.split}: {sentence(verdict, objective)}"
    baseline = within(run_dir, BEST_MODELS, BASELINE)
    floor = load_trial(baseline).trial_id if (baseline / TRIAL_FILE).is_file() else None
    if scored is not None and scored.trial_id == floor:
        return f"it is the {BASELINE}: on val nothing scored higher"
    why = why_unconfirmed(events)
    return "a candidate, not confirmed: val alone chose it" + (f" ({why})" if why else "")
