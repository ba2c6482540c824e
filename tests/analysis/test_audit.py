"""The audit agrees with a report's tables, and finds each number that was changed."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest

from analysis.audit import main
from analysis.report.parts import Parts
from analysis.report.tables import write_tables
from analysis.results import build_results
from analysis.strengths import strengths, strengths_frame

from .small_run import make_data, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with the tables of its report on test, and its kept evaluations."""
    folder = tmp_path_factory.mktemp("audited")
    data = make_data(folder / "data")
    run_dir = make_run(folder / "runs" / "demo", data)
    results = build_results(run_dir, data=data)
    parts = Parts(run_dir / "report")
    write_tables(results, run_dir / "report" / "tables", parts)
    assert not parts.failed
    # The models are too weak to be compared; the audit does not mind.
    trial_ids = {label: record.trial_id for label, record in results.labels.items()}
    found = strengths(trial_ids, results.evaluations, [info.name for info in results.classes])
    strengths_frame(found).to_csv(run_dir / "report" / "tables" / "strengths.csv", index=False)
    return run_dir


def test_a_report_as_it_was_written_has_no_difference(run, capsys):
    assert main([str(run)]) == 0
    told = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in told.splitlines() if line[:1].isalpha()}
    tables = ("comparison", "per_class", "iou_thresholds", "failures", "component_failures", "error_types")
    for table in (*tables, "error_types_per_class", "error_types_per_image", "strengths"):
        assert int(rows[table][0]) > 0 and rows[table][1] == "0"
    assert "not recomputed: ap and map" in told


BROKEN = [
    *[("comparison", name) for name in ("pixel_accuracy", "iou", "f1", "precision", "recall")],
    *[("per_class", name) for name in ("iou", "f1", "precision", "recall", "images", "pixels")],
    *[("iou_thresholds", name) for name in ("precision", "recall", "f1")],
    *[("failures", name) for name in ("iou", "truth_pixels", "predicted_pixels")],
    *[("component_failures", name) for name in ("iou", "recall", "pixels", "area_fraction")],
    *[("error_types", name) for name in ("pixels", "lost_iou")],
    *[("error_types_per_class", name) for name in ("missing", "extra", "lost_iou")],
    ("error_types_per_image", "pixels"),
    *[("strengths", name) for name in ("baseline", "score", "difference")],
]


def test_each_number_that_is_changed_is_found_and_a_row_that_is_gone(run, tmp_path, capsys):
    tables = run / "report" / "tables"
    shutil.copytree(tables, tmp_path / "kept")
    for table in {table for table, _ in BROKEN}:
        frame = pd.read_csv(tables / f"{table}.csv")
        for column in [column for of_table, column in BROKEN if of_table == table]:
            frame[column] = frame[column].astype(float)
            place = frame.index[frame[column].notna()][-1]
            frame.loc[place, column] += 1 if frame[column].max() > 1 else 1e-6
        frame.iloc[int(table == "failures") :].to_csv(tables / f"{table}.csv", index=False)
    assert main([str(run)]) == 1
    told = [line for line in capsys.readouterr().out.splitlines() if ", " in line and "  " in line]
    for table, column in [*BROKEN, ("failures", "(the row is there)")]:
        found = [line for line in told if line.startswith(table + " ") and f"  {column}, " in line]
        assert len(found) == 1, (table, column)
    assert len(told) == len(BROKEN) + 2, "their heading, and nothing else"
    shutil.copytree(tmp_path / "kept", tables, dirs_exist_ok=True)
    assert main([str(run)]) == 0


def test_tables_of_another_split_and_a_run_without_a_report_are_told(run, tmp_path, capsys):
    assert main([str(run), "--split", "val"]) == 1
    told = capsys.readouterr().err
    assert "val/tables/comparison.csv cannot be read" in told and "--split val" in told
    shutil.copytree(run / "report" / "tables", run / "report" / "val" / "tables")
    assert main([str(run), "--split", "val"]) == 1
    told = capsys.readouterr().err
    assert "was not made on val" in told and "--split val" in told
    shutil.rmtree(run / "report" / "val")
    missing = run / "report" / "tables" / "strengths.csv"
    missing.rename(tmp_path / "away.csv")
    assert main([str(run)]) == 1
    assert "strengths.csv cannot be read" in capsys.readouterr().err
    (tmp_path / "away.csv").rename(missing)
