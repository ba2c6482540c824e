"""The refit at the end of a sweep: begun, bounded, interrupted, gone on with and told. Its trainings are simulated."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sweep.conductor import Conductor
from sweep.journal import Journal
from sweep.manifest import Budget, SweepManifest
from sweep.plan import MeasuredCost, Plan
from sweep.refitted import last_refit, refit_text
from sweep.refitting import Refit, refit_winner
from trainables import apart, commands
from trainables.cost import Cost
from trainables.errors import MachineError, SegsweepError
from trainables.execution import Execution, TrialData
from trainables.labels import BEST

from ..manifests import make_manifest
from .simulated import SECONDS, Clock, drive, make

BUDGET, EPOCHS = 2000.0, 4
PLAN = Plan(
    trials=6, max_epochs=EPOCHS, starting_points=6, compared="", search_epochs=24.0, finish_epochs=0.0,
    prepare_seconds=0.0, trials_seconds=240.0, report_seconds=100.0, labels=9, label_seconds=0.0, gpu_hours=0.0,
    memory_bytes=0, disk_bytes=0, refit_seconds=60.0, train_images=30, val_images=10,
    costs=(MeasuredCost("lraspp_mobilenet_v3_large", "32x32", Cost(0.0, 9.0, 1.0)),),
)  # fmt: skip

TRAINS = """
import json, pathlib, sys, time
order = json.loads(sys.stdin.readline())
folder = pathlib.Path(order["folder"])
folder.mkdir(parents=True, exist_ok=True)
done = len(list(folder.iterdir()))
for epoch in range(done + 1, order["config"]["epochs"] + 1):
    {before}
    (folder / f"epoch-{{epoch:04d}}").mkdir()
    print(json.dumps({{"epoch": epoch, "seconds": 12.0, "metrics": {{"train/loss": 0.5}}}}), flush=True)
"""
"""A process that trains as `trainables.apart` does, in no time."""


@dataclasses.dataclass
class Stage:
    """A sweep whose trials have ended, in a folder of its own."""

    run_dir: Path
    monkeypatch: pytest.MonkeyPatch
    clock: Clock = dataclasses.field(default_factory=Clock)
    page: Console = dataclasses.field(default_factory=lambda: Console(file=io.StringIO(), width=300))
    ticks: int = 0

    @property
    def manifest(self) -> SweepManifest:
        budget = Budget(6, EPOCHS, time_budget=BUDGET, refit=True)
        return make_manifest(budget=budget, plan=PLAN, execution=Execution(cache_bytes=0))

    def conductor(self, journal: Journal, **changes: Any) -> Conductor:
        return make(journal, budget=self.manifest.budget, plan=PLAN, clock=self.clock, **changes)

    def trains(self, before: str = "pass") -> None:
        """What a training does before each of its epochs."""
        command = [sys.executable, "-c", TRAINS.format(before=before)]
        self.monkeypatch.setattr(commands, "subprocess_command", lambda *words: command)

    def tick(self) -> None:
        self.ticks += 1

    def refit(self, conductor: Conductor, manifest: SweepManifest | None = None) -> None:
        data = TrialData(None, ("a", "b", "c"), ("d",))  # type: ignore[arg-type]
        refit_winner(self.run_dir, manifest or self.manifest, data, conductor, self.page, on_tick=self.tick)

    def said(self) -> str:
        assert isinstance(self.page.file, io.StringIO)
        return self.page.file.getvalue()


class Data:
    """Of which only the name counts."""

    name = "folder"


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    stage = Stage(tmp_path, monkeypatch)
    monkeypatch.setattr("trainables.checkpoint.is_whole", lambda checkpoint: True)

    def made(checkpoint: Path, folder: Path, **told: Any) -> Any:
        if checkpoint.name != f"epoch-{EPOCHS:04d}":
            raise SegsweepError(f"{checkpoint.name} is not the end")
        folder.mkdir(exist_ok=True)
        (folder / "trial.json").write_text(json.dumps(told["data"]["refit"]))
        return type("Record", (), {"trial_id": checkpoint.parent.name, "epochs": EPOCHS, "sha256": "ab"})

    def make_refit(run_dir: Path, of: Any, manifest: SweepManifest, data: TrialData) -> Refit:
        return whole(run_dir, of, manifest, TrialData(Data(), data.train, data.val))  # type: ignore[arg-type]

    whole = Refit.make
    monkeypatch.setattr("sweep.refitting.publish", made)
    monkeypatch.setattr(Refit, "make", make_refit)
    return stage


@pytest.fixture
def ended(stage: Stage) -> Iterator[tuple[Stage, Conductor]]:
    """A sweep of six trials, one at a time, whose clock stands at its last result."""
    stage.trains()
    with Journal(stage.run_dir / "journal.jsonl") as journal:
        conductor = stage.conductor(journal)
        drive(conductor, clock=stage.clock)
        assert stage.clock.now == SECONDS * len(journal.of("result"))
        yield stage, conductor


def names(journal: Journal) -> list[str]:
    """Events of the refit."""
    return [event["event"] for event in journal.events if event["event"].startswith("refit")]


def test_winner_is_trained_on_train_and_val_and_written_down(ended: tuple[Stage, Conductor]) -> None:
    stage, conductor = ended
    stage.refit(conductor)
    best = conductor.labels()[BEST]
    assert names(conductor.journal) == ["refit_epoch"] * EPOCHS + ["refitted"]
    epochs = conductor.journal.of("refit_epoch")
    assert [event["epoch"] for event in epochs] == [1, 2, 3, 4] and {event["of"] for event in epochs} == {best.trial_id}
    (event,) = conductor.journal.of("refitted")
    assert (event["of"], event["trial_id"], event["images"]) == (best.trial_id, f"refit-{best.trial_id}", 4)
    assert json.loads((stage.run_dir / "refit" / "trial.json").read_text())["trained_on"] == ["train", "val"]
    assert stage.ticks >= EPOCHS
    assert f"({best.trial_id}) again on train and val, 4 images" in stage.said()
    told = refit_text(conductor.journal.events, best.trial_id, stage.run_dir)
    assert told.startswith(f"refit/ holds {best.trial_id} trained again on train and val together, 4 images; it is")
    assert "measured on nothing" in told and f"the scores are those of {best.trial_id}" in told
    stage.refit(conductor)
    assert len(names(conductor.journal)) == EPOCHS + 1, "once is enough"


def test_sweep_that_is_not_to_refit_does_not(ended: tuple[Stage, Conductor]) -> None:
    stage, conductor = ended
    without = dataclasses.replace(stage.manifest, budget=dataclasses.replace(stage.manifest.budget, refit=False))
    stage.refit(conductor, without)
    assert names(conductor.journal) == [] and not (stage.run_dir / "checkpoints").exists()
    assert refit_text(conductor.journal.events, "t000", stage.run_dir) == ""


def test_refit_for_which_there_is_no_time_is_not_begun_and_the_command_for_later_is_told(
    ended: tuple[Stage, Conductor],
) -> None:
    stage, conductor = ended
    best = conductor.labels()[BEST]
    # 7 s for the process, none for the trial's start, 4 epochs of 10 s, 0.9 of which is training, on 4/3 of the images
    assert conductor.refit_seconds(best) == pytest.approx(7 + 4 * 12)
    assert conductor.refit_seconds(best, trained=3) == pytest.approx(7 + 12)
    stage.clock.now = BUDGET - PLAN.report_seconds - 50
    stage.refit(conductor)
    (event,) = conductor.journal.of("refit_over")
    assert names(conductor.journal) == ["refit_over"] and event["by"] == "time budget"
    assert event["reason"] == "it would take 55 s, and 50 s are left"
    told = refit_text(conductor.journal.events, best.trial_id, stage.run_dir)
    assert told.endswith(f"{event['reason']}; to do so: {commands.refit(stage.run_dir)}")
    stage.clock.now = 0.0
    stage.refit(conductor)
    assert names(conductor.journal) == ["refit_over"], "the decision stands"
    conductor.journal.append("settings", changed={"budget": {"time_budget": 4000.0}})
    stage.refit(conductor)
    assert names(conductor.journal)[-1] == "refitted", "until there is more time"


def test_refit_that_cannot_end_in_time_is_ended(ended: tuple[Stage, Conductor]) -> None:
    stage, conductor = ended
    stage.clock.now = BUDGET - PLAN.report_seconds - 60  # 40 s of tolerance

    def slow() -> None:
        stage.clock.now += 70.0

    stage.monkeypatch.setattr(stage, "tick", slow)
    stage.refit(conductor)
    (event,) = conductor.journal.of("refit_over")
    # after the first epoch 36 s are to come, 46 s more than there are
    late = int(70 - 60 + 36 - 0.02 * BUDGET)
    assert event["reason"] == f"it would end {late} s too late; 1 of 4 epochs are kept"
    assert not conductor.journal.of("refitted")


def test_epoch_that_does_not_end_is_ended_with_the_time(ended: tuple[Stage, Conductor]) -> None:
    stage, conductor = ended
    stage.trains("time.sleep(600)")
    stage.clock.now = BUDGET - PLAN.report_seconds - 60

    def slow() -> None:
        stage.clock.now += 101.0

    stage.monkeypatch.setattr(stage, "tick", slow)
    began = time.monotonic()
    stage.refit(conductor)
    assert time.monotonic() - began < 20
    (event,) = conductor.journal.of("refit_over")
    assert event["reason"] == "it would end 1 s too late; 0 of 4 epochs are kept"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_refit_goes_on_where_it_was(stage: Stage, number: signal.Signals) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background of a shell
    pids = stage.run_dir / "pids"
    stage.trains(f"import os; open({str(pids)!r}, 'a').write(f'{{os.getpid()}} '); epoch > 2 and time.sleep(600)")
    with Journal(stage.run_dir / "journal.jsonl") as journal:
        conductor = stage.conductor(journal)
        drive(conductor, clock=stage.clock)

        def tick() -> None:
            if len(journal.of("refit_epoch")) == 2:
                os.kill(os.getpid(), number)

        stage.monkeypatch.setattr(stage, "tick", tick)
        with pytest.raises(KeyboardInterrupt):
            stage.refit(conductor)
        assert names(journal) == ["refit_epoch"] * 2
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with pytest.raises(ProcessLookupError):
        os.kill(int(pids.read_text().split()[-1]), 0)
    stage.trains()
    stage.monkeypatch.setattr(stage, "tick", lambda: None)
    with Journal(stage.run_dir / "journal.jsonl") as journal:
        conductor = stage.conductor(journal)
        conductor.start()
        assert conductor.finished
        stage.refit(conductor)
        assert [event["epoch"] for event in journal.of("refit_epoch")] == [1, 2, 3, 4]
        assert names(journal)[-1] == "refitted" and ", after epoch 2" in stage.said()


def test_driver_that_died_after_the_last_epoch_only_publishes(ended: tuple[Stage, Conductor]) -> None:
    stage, conductor = ended
    best = conductor.labels()[BEST]
    (stage.run_dir / "checkpoints" / f"refit-{best.trial_id}" / f"epoch-{EPOCHS:04d}").mkdir(parents=True)
    stage.trains("raise SystemExit('nothing is to be trained')")
    stage.clock.now = BUDGET
    stage.refit(conductor)
    assert names(conductor.journal) == ["refitted"]


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("raise SystemExit('epoch 1 diverged')", "epoch 1 diverged"),
        ("raise SystemExit(3)", "its process ended with exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", "its process was ended by signal 9: most likely it ran out of memory"),
    ],
)
def test_refit_that_fails_leaves_the_sweep_as_it_is_and_says_why(
    ended: tuple[Stage, Conductor], what: str, told: str
) -> None:
    stage, conductor = ended
    stage.trains(what)
    stage.refit(conductor)
    (event,) = conductor.journal.of("refit_over")
    assert (event["by"], event["reason"]) == ("error", told)
    assert not (stage.run_dir / "refit").exists()


def test_machine_that_fails_stops_the_refit_and_the_same_command_goes_on(ended: tuple[Stage, Conductor]) -> None:
    stage, conductor = ended
    stage.trains("if epoch == 3: raise SystemExit(print('No space left; free disk space', file=sys.stderr) or 75)")
    with pytest.raises(MachineError, match=r"refit-t\d+: No space left; free disk space[\s\S]*--resume --name"):
        stage.refit(conductor)
    assert names(conductor.journal) == ["refit_epoch"] * 2
    stage.trains()
    stage.refit(conductor)
    assert names(conductor.journal) == ["refit_epoch"] * EPOCHS + ["refitted"]


def test_training_in_a_process_of_its_own_knows_a_fault_of_the_machine(
    mini_data: TrialData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(mini_data.data.root)
    asked = apart.Training({}, mini_data, root, tmp_path, "refit-t000", Execution()).to_json()
    monkeypatch.setattr(apart, "end_with_parent", lambda: None)
    monkeypatch.setattr(signal, "signal", lambda *how: None)
    monkeypatch.setattr(sys, "argv", ["apart"])
    for line, code, told in (
        (asked.replace(json.dumps(root), json.dumps(f"{root}-away")), 75, "does not exist"),
        (asked, 1, "image_size"),
    ):
        monkeypatch.setattr(sys, "stdin", io.StringIO(line + "\n"))
        assert apart.main() == code
        assert told in capsys.readouterr().err


def test_machine_without_the_device_of_the_trials_does_not_refit(
    ended: tuple[Stage, Conductor], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, conductor = ended
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    on_gpu = dataclasses.replace(stage.manifest, execution=Execution(device="cuda"))
    stage.refit(conductor, on_gpu)
    (event,) = conductor.journal.of("refit_over")
    assert event["reason"] == "the trials ran on cuda, and this machine has none"


def test_what_was_refitted_by_hand_stays_and_another_winner_is_trained(tmp_path: Path) -> None:
    by_hand = [{"event": "refitted", "of": "t001"}, {"event": "refitted", "of": "t000"}]
    assert last_refit(by_hand, "t001") == by_hand[0] and last_refit(by_hand, "t002") is None
    told = refit_text(by_hand, "t001", tmp_path)
    assert told.startswith("refit/ holds t000, not the best, ") and told.endswith(commands.refit(tmp_path))
    given_up = [{"event": "refit_over", "of": "t001", "reason": "no"}]
    more = {"event": "settings", "changed": {"budget": {"time_budget": 9.0}}}
    other = {"event": "settings", "changed": {"resources": {"concurrent": 2}}}
    assert last_refit([*given_up, other]) == given_up[0] and last_refit([*given_up, more]) is None
    assert last_refit([*by_hand, more]) == by_hand[1]


def test_process_that_trains_ends_with_its_parent() -> None:
    program = (
        "from trainables.apart import end_with_parent as e; import time; e(); print('on', flush=True); time.sleep(99)"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=commands.ROOT) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"on\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.stdin.close()
        assert process.wait(20) == 1


def test_no_thread_stays_when_a_training_has_ended(ended: tuple[Stage, Conductor]) -> None:
    stage, conductor = ended
    before = threading.active_count()
    stage.refit(conductor)
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= before
    assert apart.TICK_SECONDS <= 1, "Ctrl-C is heard within a second"
