"""The parts of a report fail one at a time: a card replaces the part that raises, and the rest is written."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from trainables.files import write_atomically
from trainables.redact import redacted

LOG_FILE = "report.log"

Made = TypeVar("Made")


@dataclass(frozen=True)
class FailedPart:
    """A part that could not be made; the page shows it as a card where the part would be.

    Attributes:
        what: Such as `figure curves`.
        error: Kind and message of the error.
        log: File with the traceback.
    """

    what: str
    error: str
    log: Path


class Parts:
    """Makes the parts of a report and keeps those that failed.

    Args:
        folder: The report's; tracebacks go to `report.log` there, which is absent where nothing failed.
        place: Where that folder's files will be moved, if they will; messages speak of the log there.
        begins: Whether the report begins with these parts: the log of an earlier one is removed.
    """

    def __init__(self, folder: Path, place: Path | None = None, *, begins: bool = True) -> None:
        self.failed: list[FailedPart] = []
        self.warnings: list[str] = []
        self._log = folder / LOG_FILE
        self._told_log = (place or folder) / LOG_FILE
        self._tracebacks = ""
        if begins:
            self._log.unlink(missing_ok=True)

    def as_json(self) -> dict[str, Any]:
        """What was kept, in JSON's types, for `add`."""
        failed = [{"what": one.what, "error": one.error} for one in self.failed]
        return {"failed": failed, "warnings": self.warnings, "tracebacks": self._tracebacks}

    def add(self, told: Mapping[str, Any]) -> None:
        """Keeps what the parts of another process came to, as its `as_json` tells."""
        self.failed += [FailedPart(one["what"], one["error"], self._told_log) for one in told["failed"]]
        self.warnings += told["warnings"]
        self._log_tracebacks(told["tracebacks"])

    def warn(self, text: str) -> None:
        """Keeps something that the reader should know of how the report was made; nothing where the text is empty."""
        if text:
            self.warnings.append(redacted(text))

    def make(self, what: str, function: Callable[[], Made]) -> Made | FailedPart:
        """What the function returns, or a message if it raises.

        Args:
            what: The part, as messages name it.
            function: Makes it.
        """
        try:
            return function()
        except Exception as error:
            self._log_tracebacks(redacted(f"{what}\n{traceback.format_exc()}\n"))
            failed = FailedPart(what, redacted("".join(traceback.format_exception_only(error)).strip()), self._told_log)
            self.failed.append(failed)
            return failed

    def _log_tracebacks(self, text: str) -> None:
        if text:
            self._tracebacks += text
            write_atomically(self._log, self._tracebacks.encode())


def forget(folder: Path, name: str, suffixes: Iterable[str]) -> None:
    """Removes the files `folder/NAME.SUFFIX` of an earlier report: they would be mistaken for this one's."""
    for path in (folder / f"{name}.{suffix}" for suffix in suffixes):
        if path.is_file() or path.is_symlink():
            path.unlink()
