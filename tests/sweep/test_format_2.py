"""A run that a version with format 2 of the manifest began: it is reported, resumed and extended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import analysis.report.__main__
from sweep import run
from sweep.compiled import values_of
from sweep.conductor import Conductor
from sweep.journal import Journal
from sweep.manifest import Budget, SweepManifest
from sweep.session import Session
from sweep.trials import TrialTable
from trainables.options import STRETCH

from ..analysis.small_run import make_data, make_record, make_run, tell_trial
from ..manifests import format_2


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """With a manifest and a journal as that version wrote them, on data that is here."""
    run_dir = make_run(tmp_path / "runs" / "mine", make_data(tmp_path / "data"))
    own, content = SweepManifest.load(run_dir).data, format_2()
    content["data"]["root"] = own.root
    for name, split in content["data"]["splits"].items():
        record = getattr(own.splits, name)
        split |= {"hash": record.hash, "groups": record.groups, "images": record.images}
    (run_dir / "manifest.json").write_text(json.dumps(content, indent=2) + "\n")
    (run_dir / "journal.jsonl").unlink()
    with Journal(run_dir / "journal.jsonl") as journal:
        config = {key: value for key, value in make_record("0000").config.flat().items() if key != "resize"}
        tell_trial(journal, "0000", "baseline", config, content["space"]["start"][0])
        journal.append("settings", changed={"budget": {"time_budget_s": 7200.0, "concurrent": 1}})
    return run_dir


def test_run_of_format_2_is_reported_resumed_and_extended(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions: list[Session] = []
    tables: list[TrialTable] = []

    def search(self: Session, conductor: Conductor) -> None:  # Ray would only train
        self.write_extension()
        sessions.append(self)
        tables.append(conductor.table)

    monkeypatch.setattr(Session, "_search", search)
    monkeypatch.setattr("sweep.session.report_on_val", lambda *args, **options: True)
    where = ("--name", "mine", "--runs-dir", str(run_dir.parent))
    before = (run_dir / "manifest.json").read_bytes()
    assert analysis.report.__main__.main([str(run_dir), "--split", "val"]) == 0
    assert run.main(["--resume", *where]) == 0
    manifest = sessions[-1].manifest
    assert manifest.budget == Budget(trials=4, max_epochs=2, time_budget=7200.0)
    assert "resize" not in manifest.base, "of a time when every image was stretched"
    assert values_of(manifest.space, manifest.base, "resize") == (STRETCH,)
    (old,), new = tables[-1].trials.values(), manifest.space.trial_config(manifest.base, manifest.space.start[0])
    assert set(new.flat()) == set(old.config), "so that the two are compared"
    assert new.resize == old.config["resize"] == STRETCH
    assert (run_dir / "manifest.json").read_bytes() == before, "what only reads leaves the file as it was"
    assert run.main(["--resume", *where, "--time-budget", "3h", "--trials", "4", "--sampler", "tpe"]) == 0
    assert sessions[-1].manifest.budget.time_budget == 3 * 3600, "by its new name, after the old one"
    assert run.main(["--extend", "2", *where]) == 0
    assert sessions[-1].manifest.budget == Budget(trials=6, max_epochs=2, time_budget=3 * 3600)
    content = json.loads((run_dir / "manifest.json").read_text())
    assert (content["format"], content["budget"]["trials"], content["budget"]["time_budget"]) == (3, 6, 3600)
    assert run.main(["--resume", *where]) == 0
    assert sessions[-1].manifest.budget.trials == 6
