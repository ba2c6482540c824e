"""TensorBoard: event files of a folder per trial in the run folder, written by tensorboardX, which Ray Tune brings."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sweep.journal import Event
from sweep.tracking.base import (
    TRACKERS,
    TrackedSweep,
    Tracker,
    Warn,
    Written,
    described,
    numbers,
    plain_name,
    tables_of,
    verdict_summary,
)
from trainables.paths import within

if TYPE_CHECKING:
    import pandas as pd
    from tensorboardX.event_file_writer import EventsWriter

FOLDER = "tensorboard"
WRITTEN_FILE = "segsweep-written.txt"
"""In that folder: trials that are written to their end."""
SUFFIX = ".segsweep"
"""Ends the name of an event file of ours."""
REPORT_RUN = "report"
MOST_COLUMNS = 12
"""Of a table that TensorBoard's page has room for without breaking words."""


@TRACKERS.register("tensorboard")
class TensorBoardTracker(Tracker):
    """Writes scalars by epoch, the configuration for the HParams tab, and the report's tables as text."""

    title: ClassVar[str] = "TensorBoard"
    later: ClassVar[str] = "what is missing: {command}"

    def __init__(self, sweep: TrackedSweep, place: str, *, warn: Warn) -> None:
        super().__init__(sweep, place, warn=warn)
        self._written = Written(within(sweep.run_dir, FOLDER, WRITTEN_FILE))
        self._writers: dict[str, EventsWriter] = {}
        self._shown: dict[str, dict[str, float]] = {}
        self._configs: dict[str, dict[str, Any]] = {}

    def begin(self, trial: Event) -> bool:
        """A new event file, in the place of one that was cut off."""
        trial_id = trial["trial_id"]
        if trial_id in self._written:
            return False
        self._writers[trial_id] = self._new_file(trial_id)
        self._configs[trial_id] = described(trial)
        return True

    def log(self, trial_id: str, result: Event) -> None:
        """A point of each curve, at the time that the journal has."""
        from tensorboardX.summary import scalar

        self._shown[trial_id] = {plain_name(name): value for name, value in numbers(result).items()}
        for name, value in self._shown[trial_id].items():
            self._write(trial_id, scalar(name, value), result)
        self._writers[trial_id].flush()

    def end(self, ended: Event) -> None:
        """The configuration beside the last values, for the HParams tab; the file is whole then."""
        from tensorboardX.summary import hparams

        trial_id = ended["trial_id"]
        config = {**self._configs.pop(trial_id), "state": ended["state"]}
        for summary in hparams(config, self._shown.pop(trial_id, {})):
            self._write(trial_id, summary, ended)
        self._writers.pop(trial_id).close()
        self._written.add(trial_id)

    def report(self, folder: Path, verdict: Event | None) -> None:
        """Tables as text, in a folder of their own."""
        import pandas as pd
        from tensorboardX.summary import text

        self._writers[REPORT_RUN] = self._new_file(REPORT_RUN)
        told = pd.DataFrame(list(verdict_summary(verdict).items()), columns=["what", "value"])
        for name, frame in {"verdict": told, **tables_of(folder)}.items():
            self._write(REPORT_RUN, text(name, fitting(frame).to_markdown(index=False)), None)
        self._writers.pop(REPORT_RUN).close()

    def close(self) -> None:
        """Closes the files of trials that have not ended."""
        for writer in self._writers.values():
            writer.close()

    def _new_file(self, name: str) -> EventsWriter:
        """An event file in a folder in which none of ours is left: TensorBoard would show the points of both."""
        from tensorboardX.event_file_writer import EventsWriter

        folder = within(self.sweep.run_dir, FOLDER, name)
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(f"events.out.tfevents.*{SUFFIX}"):
            old.unlink()
        return EventsWriter(str(folder / "events"), SUFFIX)

    def _write(self, name: str, summary: Any, event: Event | None) -> None:
        from tensorboardX.proto.event_pb2 import Event as Record

        time = datetime.now().astimezone() if event is None else datetime.fromisoformat(event["time"])
        step = 0 if event is None else int(event["epoch"])
        self._writers[name].write_event(Record(wall_time=time.timestamp(), step=step, summary=summary))


def fitting(frame: pd.DataFrame) -> pd.DataFrame:
    """A table as it is, or one with too many columns for the page turned: a column for each row, by its first cell."""
    if len(frame.columns) <= MOST_COLUMNS:
        return frame
    cells = frame.astype(object).map(lambda cell: f"{cell:.6g}" if isinstance(cell, float) else cell)
    return cells.set_index(frame.columns[0]).T.reset_index(names=str(frame.columns[0]))
