"""What a sweep was: everything that a reader needs to trust it and to run it again. Loads neither torch nor Ray."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from search_spaces.core.space import SearchSpace
from sweep.latencies import MeasuredLatency
from sweep.plan import Plan, gpus_of
from sweep.resources import Resources
from sweep.versions import Hardware
from trainables import commands
from trainables.data.bands import Bands
from trainables.data.base import ClassInfo
from trainables.errors import ConfigError, DataError, UsageError
from trainables.execution import Execution
from trainables.files import write_json
from trainables.limits import check_file
from trainables.metrics.registry import Direction
from trainables.paths import check_name, within
from trainables.plugins import PluginRecord
from trainables.redact import redacted_content
from trainables.registry import Scalar
from trainables.run_folder import MANIFEST_FILE

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

FORMAT = 3
_NAMED = 5
"""How many faults a message names."""


@dataclass(frozen=True)
class SplitRecord:
    """A frozen split.

    Attributes:
        images: How many.
        hash: Of their ids and of the content of their files (`trainables.data.splits.frozen.split_hash`).
        groups: Hash of the group of each image (`sweep.verify.groups_hash`); None in runs that did not keep it.
    """

    images: int
    hash: str
    groups: str | None = None


@dataclass(frozen=True)
class SplitRecords:
    """The three splits of a sweep."""

    train: SplitRecord
    val: SplitRecord
    test: SplitRecord


@dataclass(frozen=True)
class DataRecord:
    """The data set of a sweep as it was at the start.

    Attributes:
        name: Among the data sets.
        root: Its folder; None for an embedded one.
        classes: In the order of their ids.
        splits: What each was.
        values: Hash of what each value in a mask file stands for (`sweep.verify.values_hash`); None in runs that did
            not keep it.
        origin: How the splits came about, in one sentence.
        warnings: What a reader of the report must know of the data.
        ids: The id in its mask files that stands for each class (`file_ids`); empty in runs that did not keep them.
        image_bits: The depth from which its images deeper than 8 bits are scaled; None where there are none.
        bands: Which bands of its files the channels of images are; None: red, green and blue.
    """

    name: str
    root: str | None
    classes: tuple[ClassInfo, ...]
    splits: SplitRecords
    values: str | None = None
    origin: str = ""
    warnings: tuple[str, ...] = ()
    ids: tuple[int, ...] = ()
    image_bits: int | None = None
    bands: Bands | None = None


@dataclass(frozen=True)
class Budget:
    """How much a search may spend.

    Attributes:
        trials: Search trials.
        max_epochs: Epochs of a full trial.
        time_budget: Seconds in all, over all resumes: of the whole command where there is a plan, else of the search;
            None for no limit.
        gpu_hours: GPU hours of the search; None for no limit.
        open_ended: Whether `trials` is only what the time budget is expected to have room for.
        confirm_top: Configurations that are trained again with fresh seeds beside the baseline; 0 for none.
        confirm_seeds: Fresh seeds of each.
        refit: Whether the winner is trained again on train and val together.
    """

    trials: int
    max_epochs: int
    time_budget: float | None = None
    gpu_hours: float | None = None
    open_ended: bool = False
    confirm_top: int = 0
    confirm_seeds: int = 0
    refit: bool = False


@dataclass(frozen=True)
class SearchRecord:
    """How a space is searched: names of `sweep.samplers.SAMPLERS` and of `sweep.schedulers.SCHEDULERS`."""

    sampler: str
    scheduler: str


@dataclass(frozen=True)
class ObjectiveRecord:
    """An objective beside the first: its key, and which values of it are better."""

    key: str
    direction: Direction


@dataclass(frozen=True)
class TrackingRecord:
    """Where trials are followed.

    Attributes:
        wandb: W&B's mode that was asked for: `offline`, `online` or `disabled`.
        project: W&B's project, and MLflow's experiment.
        others: The place of each further tracker, by its name (`sweep.tracking.TRACKERS`).
    """

    wandb: str = "offline"
    project: str = "segsweep"
    others: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SweepManifest:
    """The head of a run folder, written once before the first trial starts.

    Attributes:
        name: Name of the run (its folder).
        created: UTC time, ISO 8601.
        command: The command line that started the sweep, without secrets.
        seed: The sweep's seed: the sampler's, and the seed of every trial that has none of its own.
        data: What it was trained and measured on.
        space: What varies, compiled.
        base: Flat keys common to all trials, below what the space fixes and suggests.
        budget: Of the search.
        search: How the space is searched.
        objective: The metric that ranks trials, such as `val/miou`; where there are several, the first.
        direction: Which values of it are better.
        resources: What each trial gets, and how many run at once.
        hardware: The machine of the driver.
        versions: Of packages, of `python`, and of `code`, a hash of this project's source.
        execution: How every trial is run.
        tracking: Where its trials are followed.
        plugins: The user's own components.
        plan: What the budget was expected to buy; None in runs that made no plan.
        further_objectives: Those beside the first.
        latencies: The time per image of every model and size of the space, where it is an objective.
    """

    name: str
    created: str
    command: tuple[str, ...]
    seed: int
    data: DataRecord
    space: SearchSpace
    base: Mapping[str, Scalar]
    budget: Budget
    search: SearchRecord
    objective: str
    direction: Direction
    resources: Resources
    hardware: Hardware
    versions: Mapping[str, str]
    execution: Execution = field(default_factory=Execution)
    tracking: TrackingRecord = field(default_factory=TrackingRecord)
    plugins: tuple[PluginRecord, ...] = ()
    plan: Plan | None = None
    further_objectives: tuple[ObjectiveRecord, ...] = ()
    latencies: tuple[MeasuredLatency, ...] = ()

    # Holds for the sections too. An unknown key is refused: `save` would lose it.
    __pydantic_config__: ClassVar[dict[str, Any]] = {"strict": True, "extra": "forbid", "allow_inf_nan": False}

    def gpus_of(self, config: Mapping[str, Any]) -> float:
        """The GPUs that a trial is given, by its flat configuration."""
        costs = () if self.plan is None else self.plan.costs
        return gpus_of(costs, config, self.resources.gpus_per_trial)

    def save(self, run_dir: Path) -> None:
        """Writes `manifest.json`, atomically, always in the present format and without secrets (`trainables.redact`).

        Raises:
            ValueError: For NaN and infinite numbers.
        """
        write_json(run_dir / MANIFEST_FILE, redacted_content({"format": FORMAT, **dataclasses.asdict(self)}), indent=2)

    @classmethod
    def load(cls, run_dir: Path) -> SweepManifest:
        """Reads a run's manifest, of the present format or the one before.

        Raises:
            DataError: If the folder is not a run folder, or the manifest is of another format or damaged: with the path
                of each field that is wrong, missing or unknown.
        """
        path = within(run_dir, MANIFEST_FILE)
        if not path.is_file():
            raise DataError(
                f"{run_dir} is not a run folder: it has no {MANIFEST_FILE}\n"
                f"give the folder that a sweep printed, such as runs/NAME, or start one: {commands.start_sweep()}"
            )
        check_file(path, what="manifest")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(content, dict) or "format" not in content:
                raise ValueError("format: missing")
            written = content.pop("format")
            content = _from_format_2(content) if written == 2 else content
        except (ValueError, RecursionError) as error:
            raise _damaged(path, str(error)) from error
        if written not in (2, FORMAT):
            raise DataError(f"{path} has another format than {FORMAT}: read it with the version that wrote it")
        return _validated(content, path)

    def with_settings(self, changed: Any, journal: Path) -> SweepManifest:
        """The manifest with what an event `settings` changed of it: keys and values by section.

        Args:
            changed: Also of a run that began with format 2.
            journal: Where it was read, for messages.

        Raises:
            DataError: With the path of each field that is wrong or unknown.
        """
        content = dataclasses.asdict(self)
        if not isinstance(changed, dict):
            raise _damaged(journal, "settings: should be an object")
        for section, new in changed.items():
            if not isinstance(content.get(section), dict) or not isinstance(new, dict):
                raise _damaged(journal, f"settings of {section}: unknown")
            content[section] |= _budget_from_format_2(new) if section == "budget" else new
        return _validated(content, journal)

    def as_of(self, events: Iterable[Mapping[str, Any]], journal: Path) -> SweepManifest:
        """The manifest with all settings that the events of a journal changed, in their order.

        Raises:
            DataError: If one cannot hold.
        """
        manifest = self
        for event in events:
            if event["event"] == "settings":
                manifest = manifest.with_settings(event.get("changed"), journal)
        return manifest


def _damaged(path: Path, fault: str) -> DataError:
    return DataError(f"{path} is damaged ({fault}); restore it from a backup of the run folder")


def _validated(content: Mapping[str, Any], path: Path) -> SweepManifest:
    """The manifest of a file's content.

    Raises:
        DataError: As `SweepManifest.load`.
    """
    from pydantic import ValidationError

    try:
        manifest = _adapter().validate_json(json.dumps(content))
    except ValidationError as error:
        faults = [": ".join(filter(None, (place, what))) for place, what in _faults(error, content).items()]
        rest = [f"and {len(faults) - _NAMED} more"] if len(faults) > _NAMED else []
        raise _damaged(path, "; ".join([*faults[:_NAMED], *rest])) from error
    except (ConfigError, ArithmeticError) as error:
        raise _damaged(path, f"space: {error}") from error
    except UsageError as error:
        raise _damaged(path, f"execution: {error}") from error
    except RecursionError as error:
        raise _damaged(path, "nested too deeply") from error
    check_name(manifest.name, f"the name in {path}")
    return manifest


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[SweepManifest]:
    from pydantic import TypeAdapter

    return TypeAdapter(SweepManifest)


def _faults(error: ValidationError, content: Any) -> dict[str, str]:
    """What is wrong, by the dotted path of the field; where a value may be of several types, why it is none of them."""
    own = {"missing": "missing", "unexpected_keyword_argument": "unknown"}
    found: dict[str, str] = {}
    for fault in error.errors(include_url=False, include_input=False):
        place = ".".join(_steps(fault["loc"], content, missing=fault["type"] == "missing"))
        what = own.get(fault["type"], fault["msg"][:1].lower() + fault["msg"][1:])
        found[place] = f"{found[place]}, {what}" if place in found else what
    return found


def _steps(loc: tuple[str | int, ...], content: Any, *, missing: bool) -> Iterator[str]:
    """The steps to a fault without the type that was tried, which pydantic puts behind them."""
    for place, step in enumerate(loc):
        inner = dict(enumerate(content)) if isinstance(content, list) else content if isinstance(content, dict) else {}
        if step not in inner and not (missing and place == len(loc) - 1):
            return
        yield str(step)
        content = inner.get(step)


def _from_format_2(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a manifest as format 3 has it.

    Format 2 kept `base` in the space, the known-good point twice, sampler, scheduler and `concurrent` in the budget,
    and called the direction `mode`.

    Raises:
        ValueError: If a section that is taken apart is no object.
    """
    for section in ("space", "budget"):
        if not isinstance(content.get(section), dict):
            raise ValueError(f"{section}: should be an object")
    new = {"direction" if key == "mode" else key: value for key, value in content.items()}
    space = {key: value for key, value in content["space"].items() if key not in ("base", "known_good")}
    parameters = space.get("parameters")
    if isinstance(parameters, list):  # a bound that a choice has not was null
        space["parameters"] = [
            {k: v for k, v in one.items() if v is not None} if isinstance(one, dict) else one for one in parameters
        ]
    budget = _budget_from_format_2(content["budget"])
    search = {key: budget.pop(key) for key in ("sampler", "scheduler") if key in budget}
    base = {"base": content["space"]["base"]} if "base" in content["space"] else {}
    return {**new, **base, "space": space, "budget": budget, "search": search}


def _budget_from_format_2(budget: Mapping[str, Any]) -> dict[str, Any]:
    names = {"time_budget_s": "time_budget"}
    return {names.get(key, key): value for key, value in budget.items() if key != "concurrent"}
