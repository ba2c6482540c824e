"""A part that raises costs its own place."""

from __future__ import annotations

import json

import pytest

from analysis.report.parts import LOG_FILE, FailedPart, Parts


def raises():
    raise ValueError("what went wrong")


def test_what_raises_is_kept_with_its_error_and_traceback(tmp_path):
    parts = Parts(tmp_path)
    assert parts.make("figure a", lambda: 3) == 3
    assert not (tmp_path / LOG_FILE).exists()
    failed = parts.make("figure b", raises)
    assert failed == FailedPart("figure b", "ValueError: what went wrong", tmp_path / LOG_FILE)
    parts.make("section c", lambda: 1 / 0)
    assert [part.what for part in parts.failed] == ["figure b", "section c"]
    log = (tmp_path / LOG_FILE).read_text()
    assert log.index("figure b") < log.index("in raises") < log.index("section c") < log.index("ZeroDivisionError")


def test_an_earlier_reports_log_is_gone_where_nothing_fails(tmp_path):
    Parts(tmp_path).make("figure a", raises)
    Parts(tmp_path)
    assert not (tmp_path / LOG_FILE).exists()


def test_what_parts_of_another_process_came_to_is_kept_beside_the_own(tmp_path):
    parts, others = Parts(tmp_path), Parts(tmp_path, begins=False)
    parts.make("table a", raises)
    others.make("figure b", raises)
    others.warn("no letters")
    parts.add(json.loads(json.dumps(others.as_json())))
    assert [part.what for part in parts.failed] == ["table a", "figure b"] and parts.warnings == ["no letters"]
    assert parts.failed[1].log == tmp_path / LOG_FILE
    log = (tmp_path / LOG_FILE).read_text()
    assert log.index("table a") < log.index("figure b")


def test_ctrl_c_is_no_part_that_failed(tmp_path):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Parts(tmp_path).make("figure a", interrupted)
