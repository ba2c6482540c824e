"""The frame of every command."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import pytest

from trainables.errors import DataError, UsageError
from trainables.guarded import guarded


def raising(error: BaseException) -> Callable[[], int]:
    def body() -> int:
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (DataError("no [mask] of a.png"), 1, "error: no [mask] of a.png"),
        (UsageError("--seeds 1: give 2"), 2, "error: --seeds 1: give 2"),
        (OSError(28, "No space left", "x.csv"), 1, "x.csv cannot be read or written (No space left): free disk space"),
        (PermissionError(13, "Permission denied", "[x]"), 1, "[x] cannot be read or written (Permission denied): let"),
        (OSError(21, "Is a directory", "x"), 1, "move what is in its place, or give --out DIR"),
        (KeyboardInterrupt(), 130, "go on [so]"),
    ],
)
def test_what_a_user_can_mend_is_one_error_and_an_exit_code(
    error: BaseException, code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(raising(error), interrupted="go on [so]", elsewhere="--out DIR") == code
    out, errors = capsys.readouterr()
    assert out == "" and told in errors and "Traceback" not in errors


def test_exit_code_of_the_body_stays_and_a_fault_of_ours_is_not_hidden() -> None:
    assert guarded(lambda: 7, interrupted="") == 7
    with pytest.raises(ZeroDivisionError):
        guarded(lambda: 1 // 0, interrupted="")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_character_that_the_terminal_has_not_is_no_crash(stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    terminal = io.TextIOWrapper(raw, encoding="latin-1")
    monkeypatch.setattr(sys, stream, terminal)

    def body() -> int:
        print("Straße 道路 and more …", file=getattr(sys, stream))
        return 0

    assert guarded(body, interrupted="") == 0
    terminal.flush()
    assert raw.getvalue().decode("latin-1") == "Straße ?? and more ?\n"
