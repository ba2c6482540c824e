"""The audit agrees with a report's tables, finds each number that was changed, and shares no code with them."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import analysis.audit
from analysis.audit.__main__ import TABLES, compare, gather, main, read_tables
from analysis.report.parts import Parts
from analysis.report.tables import TABLES as WRITTEN
from analysis.report.tables import write_tables
from analysis.results import build_results
from sweep.manifest import SweepManifest

from .planted_run import make_planted_run

KEYS = {
    **dict.fromkeys(("comparison", "cost"), ("label",)),
    "standings": ("trial_id",),
    "strengths": ("name", "what"),
    "confirmation": ("trial_id",),
    "per_class": ("label", "class"),
    "iou_thresholds": ("label", "threshold"),
    "failures": ("label", "image_id", "class"),
    "component_failures": ("label", "image_id", "source", "component"),
    "error_types": ("label", "type"),
    "error_types_per_class": ("label", "class", "type"),
    "error_types_per_image": ("label", "image_id", "type"),
    "factors": ("label", "factor"),
    "factor_curves": ("label",),
    "type_changes": ("type",),
    "component_changes": ("image_id", "component"),
    "label_errors": ("image_id", "class", "models_say", "top", "left", "bottom", "right"),
    "trials": ("trial_id",),
}
"""Columns by which rows are found."""

MEASURED = ("factors", "factor_curves", "component_changes")
"""Tables of what the report computes in 32 bits: the audit lets more pass there."""

SIMULATED = ("difference_low", "difference_high", "chance", "outcome")
NOT_RECOMPUTED = {
    "comparison": ("trial_id", "latency_ms", "evidence"),
    "cost": ("latency_ms",),
    "standings": ("name", "evidence", "may_be_best"),
    "confirmation": ("label", "detectable", *SIMULATED),
}
"""Columns that the command names as not recomputed, and those that say which trial a row is."""


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A run with the tables of its report on test."""
    run_dir, data = make_planted_run(tmp_path_factory.mktemp("audited"))
    parts = Parts(run_dir / "report")
    write_tables(build_results(run_dir, data=data), run_dir / "report" / "tables", parts)
    assert not parts.failed
    return run_dir, data


@pytest.fixture(scope="module")
def gathered(planted):
    run_dir, data = planted
    tables = read_tables(run_dir, "test")
    return tables, gather(run_dir, SweepManifest.load(run_dir), data, tables, split="test", iou_limit=0.5)


@pytest.fixture(scope="module")
def changed(gathered):
    """The differences after one cell of each column that is no key was changed, by table and column."""
    tables, found = gathered
    audit = compare({name: _with_changes(name, frame) for name, frame in tables.items()}, found)
    return {(one.table, one.column): one for one in audit.differences}


def _with_changes(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.copy()
    for place, column in enumerate(_columns(name, frame)):
        rows = frame.index[frame[column].notna() & (frame[column] != "")]
        if name == "standings":  # its last row is the one whose intervals are recomputed
            rows = rows[-1:]
        if not len(rows):
            continue
        row = rows[place % len(rows)]
        value = frame.loc[row, column]
        is_text = isinstance(value, str | bool | np.bool_)
        frame[column] = frame[column].astype(object)
        frame.loc[row, column] = (
            f"not {value}" if is_text else value + (1 if abs(value) > 1 else 0.02 if name in MEASURED else 1e-6)
        )
    return frame


def _columns(name: str, frame: pd.DataFrame) -> list[str]:
    return (
        [column for column in frame if column not in (*KEYS[name], *NOT_RECOMPUTED.get(name, ()))] if len(frame) else []
    )


def test_a_report_as_it_was_written_has_no_difference(planted, capsys):
    assert main([str(planted[0])]) == 0
    told = capsys.readouterr().out
    rows = {
        line.split()[0]: line.split()[-2:] for line in told.splitlines() if line[:1].isalpha() and "not " not in line
    }
    for table in set(TABLES) - {"pareto"}:
        assert int(rows[table][0]) > 0 and rows[table][1] == "0", table
    assert set(WRITTEN) - set(TABLES) == {"components", "slices"}
    assert all(f"not recomputed: {table}: " in told for table in ("components", "slices"))
    for table, columns in NOT_RECOMPUTED.items():
        assert all(name in told for name in columns if name in ("latency_ms", "evidence", "detectable")), table


@pytest.mark.parametrize("table", sorted(KEYS))
def test_one_changed_cell_of_each_column_is_found(changed, gathered, table):
    frame = gathered[0][table]
    columns = [
        column for column in _columns(table, frame) if frame[column].notna().any() and (frame[column] != "").any()
    ]
    assert columns
    assert [column for column in columns if (table, column) not in changed] == []


def test_nothing_else_is_found_where_one_cell_is_changed(changed, gathered):
    tables, _ = gathered
    known = {(name, column) for name, frame in tables.items() for column in _columns(name, frame)}
    assert changed.keys() <= known


def test_rows_that_are_gone_are_found_in_each_table(gathered):
    tables, found = gathered
    audit = compare({name: frame.iloc[:-1] for name, frame in tables.items()}, found)
    gone = {one.table for one in audit.differences if one.column in ("(the row is there)", "(number of rows)")}
    assert gone >= set(TABLES) - {"pareto"}


def test_a_changed_file_and_a_changed_mask_end_the_command_with_1_and_are_named(planted, tmp_path, capsys):
    run_dir, _ = planted
    table = run_dir / "report" / "tables" / "type_changes.csv"
    mask = run_dir / "report" / "evaluations" / "test" / "0002" / "000003.png"
    shutil.copy(table, tmp_path)
    shutil.copy(mask, tmp_path)
    frame = pd.read_csv(table)
    frame.loc[0, "before"] -= 0.25
    frame.to_csv(table, index=False)
    shutil.copy(mask.with_name("000000.png"), mask)  # of an image of the same size
    assert main([str(run_dir)]) == 1
    told = capsys.readouterr().out
    assert "pixel_accuracy, crop" in told and "pixel_accuracy, best" not in told
    rows = {line.split()[0]: line.split()[-1] for line in told.splitlines() if line[:1].isalpha() and ", " not in line}
    assert rows["type_changes"] == "1", "of the baseline and the winner, whose masks are as they were"
    shutil.copy(tmp_path / mask.name, mask)
    shutil.copy(tmp_path / table.name, table)


def test_tables_of_another_split_and_a_run_without_a_report_are_told(planted, tmp_path, capsys):
    run_dir = planted[0]
    assert main([str(run_dir), "--split", "val"]) == 1
    told = capsys.readouterr().err
    assert "val/tables/comparison.csv cannot be read" in told and "--split val" in told
    shutil.copytree(run_dir / "report" / "tables", run_dir / "report" / "val" / "tables")
    assert main([str(run_dir), "--split", "val"]) == 1
    told = capsys.readouterr().err
    assert "was not made on val" in told and "--split val" in told
    shutil.rmtree(run_dir / "report" / "val")
    missing = run_dir / "report" / "tables" / "strengths.csv"
    missing.rename(tmp_path / "away.csv")
    assert main([str(run_dir)]) == 1
    assert "strengths.csv cannot be read" in capsys.readouterr().err
    (tmp_path / "away.csv").rename(missing)


def test_the_audit_imports_nothing_of_what_it_checks():
    # What is read by both (files, names, records) may be imported; what computes may not.
    readers = ("analysis.audit", "analysis.formulas", "analysis.load", "analysis.label_folders")
    names = {"analysis.failures.kinds.BACKGROUND_NAMES", "analysis.failures.kinds.STUFF_NAMES"}
    names |= {"sweep.manifest.SweepManifest", "sweep.verdict.last_verdict"}
    found = set()
    for path in Path(analysis.audit.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
    ours = {name for name in found if name.split(".")[0] in ("analysis", "sweep", "search_spaces", "trainables")}
    ours = {name for name in ours if not name.startswith(readers) and not name.startswith("sweep.verify")}
    assert {name for name in ours if not name.startswith("trainables.")} == names
    assert not {name for name in ours if name.startswith(("trainables.metrics", "trainables.loops"))}
    assert not {name.split(".")[0] for name in found} & {"cv2", "torch", "sklearn"}
