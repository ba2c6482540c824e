"""What is read from a run's files, also when they are torn."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from analysis.load import curves_frame, load_events, load_trials
from sweep.journal import Journal
from trainables import commands
from trainables.errors import DataError

HEAD = "trial_id,label,phase,seed,state,reason,epochs,seconds,gpu_seconds,val/miou,config/optimizer.lr,parent"


def write_journal(run_dir, events, tail=""):
    path = run_dir / "journal.jsonl"
    with Journal(path) as journal:
        for event in events:
            journal.append(**event)
    path.write_text(path.read_text(encoding="utf-8") + tail, encoding="utf-8")


def suggested(trial_id, label, phase="search"):
    return {"event": "suggested", "trial_id": trial_id, "label": label, "phase": phase, "seed": 0, "config": {}}


def result(trial_id, epoch, miou, **more):
    return {
        "event": "result",
        "trial_id": trial_id,
        "epoch": epoch,
        "metrics": {"train/loss": 1 / epoch, "val/miou": miou, **more},
        "seconds": 2.5,
    }


def test_trials_keep_their_ids_as_text_and_empty_fields_empty(tmp_path):
    (tmp_path / "trials.csv").write_text(
        f"{HEAD}\n0007,baseline,search,3,completed,,6,12.5,0.0,0.5,0.003,\n"
        "0007-finish,,finish,3,stopped,'=by asha,2,4.0,0.0,,0.01,0007\n",
        encoding="utf-8",
    )
    frame = load_trials(tmp_path)
    assert frame["trial_id"].tolist() == ["0007", "0007-finish"]
    assert frame["label"].tolist() == ["baseline", ""]
    assert frame["reason"].tolist() == ["", "=by asha"]
    assert frame["parent"].tolist() == ["", "0007"]
    assert frame["val/miou"].isna().tolist() == [False, True]
    assert list(frame.columns) == HEAD.split(",")


def test_a_trials_file_without_columns_says_which_and_the_cure(tmp_path):
    (tmp_path / "trials.csv").write_text("trial_id,label\n1,baseline\n", encoding="utf-8")
    with pytest.raises(
        DataError, match="lacks the columns phase, seed, state.*" + re.escape(commands.resume(tmp_path))
    ):
        load_trials(tmp_path)
    (tmp_path / "trials.csv").unlink()
    with pytest.raises(DataError, match="does not exist.*" + re.escape(commands.resume(tmp_path))):
        load_trials(tmp_path)


def test_curves_are_one_row_a_trial_and_epoch_in_the_order_of_suggestion(tmp_path):
    write_journal(
        tmp_path,
        [
            {"event": "started", "version": 1},
            suggested("0001", "geometric"),
            suggested("0000", "baseline"),
            result("0000", 1, 0.1),
            result("0001", 2, 0.3, **{"val/loss": 0.7}),
            result("0001", 1, 0.2),
            {"event": "decision", "trial_id": "0001", "epoch": 2, "action": "stop", "by": "asha", "reason": "low"},
        ],
    )
    curves = curves_frame(load_events(tmp_path))
    assert curves[["trial_id", "epoch"]].values.tolist() == [["0001", 1], ["0001", 2], ["0000", 1]]
    assert curves["label"].tolist() == ["geometric", "geometric", "baseline"]
    assert curves["val/miou"].tolist() == [0.2, 0.3, 0.1]
    assert curves["val/loss"].isna().tolist() == [True, False, True]
    assert list(curves.columns[:5]) == ["trial_id", "label", "phase", "epoch", "seconds"]


def test_an_epoch_told_again_after_a_resume_counts_once(tmp_path):
    write_journal(tmp_path, [suggested("0", "baseline"), result("0", 1, 0.1), result("0", 1, 0.15)])
    assert curves_frame(load_events(tmp_path))["val/miou"].tolist() == [0.15]


@pytest.mark.parametrize("tail", ['{"event": "result", "trial_id": "0", "ep', ""])
def test_a_torn_last_line_is_left_out(tmp_path, tail):
    write_journal(tmp_path, [suggested("0", "baseline"), result("0", 1, 0.1)], tail)
    assert curves_frame(load_events(tmp_path))["epoch"].tolist() == [1]


def test_a_journal_that_was_altered_is_refused_with_its_line_and_the_cure(tmp_path):
    write_journal(tmp_path, [suggested("0", "baseline"), result("0", 1, 0.1), result("0", 2, 0.2)])
    path = tmp_path / "journal.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace('"val/miou":0.1', '"val/miou":0.9'), encoding="utf-8")
    with pytest.raises(DataError, match=r"(?s)line 2 does not match its seal.*restore the file from a backup"):
        curves_frame(load_events(tmp_path))


def test_a_journal_without_results_gives_an_empty_frame_and_none_an_error(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        curves_frame(load_events(tmp_path))
    write_journal(tmp_path, [suggested("0", "baseline")])
    frame = curves_frame(load_events(tmp_path))
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) == 0
    assert "epoch" in frame


def test_rays_own_folder_is_not_read(tmp_path):
    (tmp_path / "trials.csv").write_text(f"{HEAD}\n0,baseline,search,3,completed,,6,12.5,0.0,0.5,0.003,\n")
    write_journal(tmp_path, [suggested("0", "baseline"), result("0", 1, 0.1)])
    without = load_trials(tmp_path), curves_frame(load_events(tmp_path))
    (tmp_path / "tune" / "0").mkdir(parents=True)
    (tmp_path / "tune" / "0" / "result.json").write_text('{"val/miou": 0.99}')
    pd.testing.assert_frame_equal(without[0], load_trials(tmp_path))
    pd.testing.assert_frame_equal(without[1], curves_frame(load_events(tmp_path)))
