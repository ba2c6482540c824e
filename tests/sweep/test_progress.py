"""What the terminal shows: plain text that survives brackets, a live view, five lines of answer."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from search_spaces import SPACES, SearchSpace
from search_spaces.common import known_good_training
from search_spaces.core.parameter import choice, number, readable
from sweep.answer import (
    describe_execution,
    show_answer,
    show_question,
    show_space,
    show_time,
)
from sweep.candidate import Candidates, chief_keys
from sweep.claims import Contrast
from sweep.flags import duration
from sweep.journal import Journal
from sweep.manifest import Budget
from sweep.objectives import objective_of
from sweep.plan import MeasuredCost, Plan
from sweep.plan_view import show_costs, show_plan
from sweep.planning import Asked
from sweep.progress import LiveView
from sweep.ray_view import show_ray
from sweep.tally import Tally, foreseen
from sweep.tally_view import found_lines, hanging, line, phase_lines, sparkline
from sweep.verdict import Confirmed, Verdict
from trainables import commands
from trainables.cost import Cost
from trainables.errors import ConfigError
from trainables.execution import Execution, TrialData
from trainables.words import time_text

from ..spaces import PREDEFINED_ONLY, own_weights
from .simulated import BASE, OBJECTIVE, SPACE, drive, make, scores, troubled

AWKWARD = "RuntimeError: [enforce fail] cannot write [/tmp/x] (a [bold]word[/bold]"
"""What libraries say; to Rich it looks like markup."""


def console(*, terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), width=200, force_terminal=terminal, highlight=False, no_color=True)


def text(on: Console) -> str:
    assert isinstance(on.file, io.StringIO)
    return on.file.getvalue()


def test_label_that_is_not_finished_is_told_with_the_reason(tmp_path: Path) -> None:
    page = console()
    with Journal(tmp_path / "journal.jsonl") as journal:
        conductor = make(journal, budget=Budget(7, 4))
        with LiveView(page, conductor, concurrent=1):
            drive(conductor, outcome=troubled)
        (event,) = journal.of("unfinished")
    told = f"tversky is not trained to its last epoch ({event['trial_id']}): {event['reason']}"
    assert told in text(page)


def test_a_line_for_every_trial_that_ends_where_there_is_no_terminal(tmp_path: Path) -> None:
    page = console()
    with Journal(tmp_path / "journal.jsonl") as journal:
        conductor = make(journal, budget=Budget(4, 4))
        with LiveView(page, conductor, concurrent=1):
            drive(conductor)
        ended = journal.of("ended")
        lines = text(page).splitlines()[: len(ended)]
        assert [line.split()[0] for line in lines] == [event["trial_id"] for event in ended]
        for line, event in zip(lines, ended, strict=True):
            assert event["state"] in line
            assert f"{event['metrics'][OBJECTIVE]:.4f}" in line


@pytest.mark.parametrize("terminal", [False, True])
def test_reasons_are_shown_as_they_are_whatever_brackets_they_hold(tmp_path: Path, terminal: bool) -> None:
    page = console(terminal=terminal)
    with Journal(tmp_path / "journal.jsonl") as journal:
        conductor = make(journal, budget=Budget(2, 4))
        with LiveView(page, conductor, concurrent=1) as view:
            view.notice(f"W&B: {AWKWARD}")
            drive(conductor, outcome=lambda config, epoch: {"failed": AWKWARD})
    assert text(page).count(AWKWARD) >= 2
    assert f"W&B: {AWKWARD}" in text(page)


def test_live_view_shows_trials_best_so_far_and_time_left(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        conductor = make(journal, budget=Budget(6, 4))
        view = LiveView(console(), conductor, concurrent=2)
        conductor.start()
        page = console()
        page.print(view.render())
        assert "0 of 6 trials" in text(page)
        assert "left" not in text(page), "nothing is known before the first epoch"
        tasks = [conductor.next(), conductor.next()]
        best = 0.0
        for task in tasks:
            assert task is not None
            result = scores(task.config, 1)
            best = max(best, result["metrics"][OBJECTIVE])
            conductor.on_trial_result(task.trial_id, {"epoch": 1, "seconds": 10.0, **result})
        page = console()
        page.print(view.render())
        shown = text(page)
        assert f"best so far {best:.4f}" in shown
        assert shown.count("1/4") == 2
        # Two open trials of 3 epochs and four of 4: 22 epochs of 10 s on 2 slots.
        assert "up to 0:01:50 of training left" in shown


def test_time_left_counts_the_confirmation_that_is_to_come(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        conductor = make(journal, budget=Budget(6, 4, confirm_top=1, confirm_seeds=3))
        view = LiveView(console(), conductor, concurrent=2)
        conductor.start()
        task = conductor.next()
        assert task is not None
        conductor.on_trial_result(task.trial_id, {"epoch": 1, "seconds": 10.0, **scores(task.config, 1)})
        page = console()
        page.print(view.render())
    # The rest of the open trial (3 epochs), five of the search and six fresh seeds (4 each): 47 of 10 s on 2 slots.
    assert "up to 0:03:55 of training left" in text(page)


def test_lines_are_broken_between_words_below_their_first_on_a_terminal_alone() -> None:
    words = "means over fresh seeds so far: baseline 0.2288 (3 seeds), geometric 0.2304 (3 seeds)"
    told = line("candidate", words, "green")
    terminal = Console(file=io.StringIO(), force_terminal=True, width=40)
    shown = hanging(told, terminal).plain.split("\n")
    assert len(shown) > 2 and shown[0].startswith("candidate means") and all(len(one) <= 40 for one in shown)
    assert all(one.startswith(" " * 10) and one[10] != " " for one in shown[1:])
    assert " ".join(one[10:] for one in shown) == words
    assert hanging(line("resume", words, whole=True), terminal).plain.count("\n") == 0, "a command, to be copied"
    assert hanging(told, Console(file=io.StringIO(), width=40)) is told


@pytest.mark.parametrize("terminal", [False, True])
def test_sweep_is_summed_up_in_the_words_of_its_status(tmp_path: Path, terminal: bool) -> None:
    page = console(terminal=terminal)
    with Journal(tmp_path / "journal.jsonl") as journal:
        budget = Budget(7, 4, confirm_top=1, confirm_seeds=2)
        conductor = make(journal, budget=budget)
        with LiveView(page, conductor, concurrent=1):
            drive(conductor)
        tally = Tally(conductor.table, conductor.objective)
        for event in journal.events:
            tally.on_event(event)
    expected = phase_lines(tally, foreseen(budget, None, asked_for_more=False))
    expected += found_lines(tally, verdict=None, chief=chief_keys(SPACE))
    assert [one.plain.split()[0] for one in expected][:4] == ["search", "finish", "confirm", "candidate"]
    shown = " ".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text(page)).split())
    for one in expected:
        assert " ".join(one.plain.split()) in shown
    assert sparkline(tally.curve) in shown


def test_long_sweeps_show_their_latest_trials(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        conductor = make(journal, budget=Budget(30, 4), sampler="random")
        view = LiveView(console(), conductor, concurrent=1)
        drive(conductor)
        page = console()
        page.print(view.render())
        assert len(text(page).splitlines()) < 24, "one screen"
        assert "earlier trials" in text(page)
        page = console()
        page.print(view.render(final=True))
        assert all(trial_id in text(page) for trial_id in conductor.table.trials)


def answer(tmp_path: Path, **options: Any) -> list[str]:
    page = console()
    tmp_path.mkdir(exist_ok=True)
    with Journal(tmp_path / "journal.jsonl") as journal:
        conductor = make(journal)
        drive(conductor, outcome=options.pop("outcome", scores))
        labels = conductor.labels()
        more = {
            "candidates": conductor.table.candidates(conductor.objective),
            "chief": ["loss.name"],
            "dead": {},
            "openings": 0,
            "failed": 0,
            "seeds": conductor.table.seeds(labels["best"], conductor.objective),
        }
        show_answer(page, labels, objective=objective_of(OBJECTIVE), run_dir=Path("runs/mine"), **{**more, **options})
    return text(page).strip().splitlines()


def test_answer_is_five_lines_with_the_next_commands(tmp_path: Path) -> None:
    lines = answer(tmp_path)
    assert len(lines) == 5
    assert lines[0].startswith("best")
    assert "baseline 0." in lines[1]
    name = re.escape(lines[0].split()[1])
    assert re.fullmatch(
        rf"verdict +{name} \(loss.name {name}, .*\) is the best of \d+ trials on val, one seed each: a candidate, not "
        f"confirmed. To confirm it: {re.escape(commands.confirm(Path('runs/mine')))}",
        lines[2],
    )
    assert lines[3].endswith("runs/mine")
    assert f"{commands.report(Path('runs/mine'))}   (opens the test split, opened 0 times so far)" in lines[4]


def test_why_nothing_was_confirmed_is_told_with_the_candidate(tmp_path: Path) -> None:
    assert "not confirmed (no [time]). To confirm it: " in answer(tmp_path, unconfirmed="no [time]")[2]


def test_verdict_stands_where_the_score_of_one_seed_stood(tmp_path: Path) -> None:
    contrast = Contrast("t003", 0.021, 0.008, 0.034, 0.015, 0.024, 3)
    configurations = tuple(
        Confirmed(trial, label, (f"{trial}-s1", f"{trial}-s2"), (1, 2), scores)
        for trial, label, scores in (("t000", "baseline", (0.40, 0.41)), ("t003", "[focal]", (0.43, 0.42)))
    )
    verdict = Verdict("val", OBJECTIVE, configurations, (contrast,), "t003", "images", 100, 4)
    lines = answer(tmp_path, verdict=verdict, unconfirmed="seed 3 of each would take 90 s, and 10 s are left")
    assert lines[1].startswith("verdict") and "on val, [focal] (t003) is better than the baseline: +0.021" in lines[1]
    assert "means over seeds: baseline (t000) 0.4050, [focal] (t003) 0.4250" in lines[2]
    assert "fewer seeds than planned: seed 3 of each would take 90 s" in lines[3]
    assert "a candidate" not in "".join(lines) and "more fresh seeds" in lines[-1]
    dead = answer(tmp_path / "dead", verdict=verdict, dead={"baseline": "predicts sky everywhere on val"})
    assert not any(line.startswith("verdict") for line in dead)
    assert not any(
        line.startswith("verdict") for line in answer(tmp_path / "d", dead={"best": "predicts sky everywhere"})
    )


def test_answer_says_when_nothing_beat_the_baseline(tmp_path: Path) -> None:
    def only_baseline(config: Any, epoch: int) -> dict[str, Any]:
        return {
            "metrics": {
                OBJECTIVE: 0.9 if config["optimizer.lr"] == 3e-3 and config["loss.name"] == "cross_entropy" else 0.1
            }
        }

    lines = answer(tmp_path, outcome=only_baseline, openings=1, failed=2)
    assert "nothing tried scored higher" in lines[1]
    assert "2 trials failed" in lines[2]
    assert "opened 1 time so far" in lines[3]
    assert len(lines) == 4, "the baseline is not compared with itself"


def test_answer_does_without_a_baseline_that_failed(tmp_path: Path) -> None:
    def first_fails(config: Any, epoch: int) -> dict[str, Any]:
        return {"failed": "x"} if config["loss.name"] == "cross_entropy" else scores(config, epoch)

    assert "the baseline did not finish" in answer(tmp_path, outcome=first_fails)[1]


def test_label_that_learnt_nothing_is_told_first(tmp_path: Path) -> None:
    lines = answer(tmp_path, dead={"baseline": "predicts road everywhere"})
    assert lines[0].startswith("dead") and "baseline predicts road everywhere" in lines[0]
    assert lines[1].startswith("best")


def test_dead_winner_is_no_result(tmp_path: Path) -> None:
    floor = "stands at the floor: road everywhere scores 0.2"
    with Journal(tmp_path / "journal.jsonl") as journal:
        conductor = make(journal)
        drive(conductor)
        labels = conductor.labels()
    page = console()
    show_answer(
        page, labels, seeds=[labels["best"]], candidates=Candidates(5, 5),
        dead=dict.fromkeys(labels, floor), objective=objective_of(OBJECTIVE),
        run_dir=Path("runs/mine"), openings=0, failed=0,
    )  # fmt: skip
    lines = text(page).strip().splitlines()
    assert "no label learnt anything" in lines[0]
    assert "neither is a result" in lines[2]
    assert "a candidate" not in text(page)


def test_several_seeds_of_the_best_are_shown_as_mean_and_range(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        conductor = make(journal)
        drive(conductor)
        labels = conductor.labels()
        twin = dataclasses.replace(
            labels["best"], results=[{"epoch": 1, "seconds": 1.0, "metrics": {OBJECTIVE: 0.1}}], trial_id="t999"
        )
    page = console()
    show_answer(
        page,
        labels,
        seeds=[labels["best"], twin],
        candidates=Candidates(6, 5),
        dead={},
        objective=objective_of(OBJECTIVE),
        run_dir=Path("r"),
        openings=0,
        failed=0,
    )
    score = labels["best"].metrics[OBJECTIVE]
    assert f"mean {(score + 0.1) / 2:.4f} of 2 seeds, 0.1000 .. {score:.4f}" in text(page)
    assert "+0." not in text(page) and "the best of 5 configurations on val, by the mean" in text(page)


@pytest.mark.parametrize(
    ("url", "protected", "told"),
    [
        ("http://127.0.0.1:8265", True, "it asks for a token"),
        (None, False, "token authentication is off"),
        ("http://127.0.0.1:8265", False, "open to anybody"),
        (None, True, ""),
    ],
)
def test_terminal_says_truly_whether_ray_asks_for_a_token(url: str | None, protected: bool, told: str) -> None:
    page = console()
    show_ray(page, url=url, protected=protected, token="`ray get-auth-token` prints it")
    assert told in text(page)
    assert ("it asks for a token" in text(page)) == (url is not None and protected)
    assert ("Ray's own ports: they ask for the token too" in text(page)) == protected
    of_a_cluster = console()
    show_ray(of_a_cluster, url=url, protected=protected, token="", local=False)
    assert "own ports" not in text(of_a_cluster)


def test_question_says_what_is_tried_on_which_data(mini_data: TrialData) -> None:
    page = console()
    splits = mini_data.data.splits()
    show_question(
        page, SPACE, BASE, mini_data.data, splits, how="tpe, asha, 2 at once",
        execution=Execution(device="cuda", precision="bf16", workers=3),
    )  # fmt: skip
    shown = text(page)
    for expected in (
        SPACE.description,
        "3 classes",
        f"{len(splits.test)} test (sealed)",
        "tpe, asha, 2 at once",
        "bf16 on cuda, channels last, 1 thread per trial, 3 loader processes, decoded images up to 8 GiB",
    ):
        assert expected in shown


PLAN = Plan(
    trials=8, max_epochs=4, starting_points=5, compared="at epoch 2", search_epochs=24.0, finish_epochs=6.0,
    prepare_seconds=20.0, trials_seconds=170.0, report_seconds=40.0, labels=5, label_seconds=4.0, gpu_hours=0.0,
    memory_bytes=3 * 2**30, disk_bytes=400 * 2**20,
    costs=(MeasuredCost("lraspp_resnet18", "96x128", Cost(0.3, 4.5, 0.5, 2**30, 2**25)),),
)  # fmt: skip


@pytest.mark.parametrize(
    ("plan", "asked", "told"),
    [
        (PLAN, Asked(8, 4, None), [
            "8 trials of up to 4 epochs", "24 epochs are expected, and 6 to finish", "lraspp_resnet18 5 s",
            "about 3m50s: 170 s of search, 40 s kept for the report on val",
            "3.0 GiB of memory, up to 400 MiB on disk", "no gain can be confirmed",
        ]),
        (dataclasses.replace(PLAN, search_epochs=1.0), Asked(1, 1, None), ["1 epoch is expected", "only 1 trial:"]),
        (dataclasses.replace(PLAN, label_seconds=0.0), Asked(8, 4, None), ["40 s kept to publish the models"]),
        (PLAN, Asked(None, None, 300.0), ["about 8 trials", "about 3m50s of 5m"]),
        (dataclasses.replace(PLAN, trials=3), Asked(None, None, 90.0), ["no room for a search: 3 of the 5 starting"]),
        (dataclasses.replace(PLAN, trials=5), Asked(None, None, 90.0), ["no room for a search: the 5 starting points"]),
        (dataclasses.replace(PLAN, costs=()), Asked(8, 4, None), ["not predicted"]),
        (dataclasses.replace(PLAN, gpu_hours=1.25), Asked(8, 4, None), ["1.2 GPU hours"]),
        (
            dataclasses.replace(PLAN, refit_seconds=25.0, train_images=300, val_images=100), Asked(None, None, 300.0),
            ["170 s of search, 25 s to refit, 40 s", "the winner again on train and val, 400 images, about 25 s"],
        ),
        (
            dataclasses.replace(PLAN, train_images=300, val_images=100), Asked(8, 4, None, refit=True),
            ["the winner again on train and val, 400 images, if there is time left"],
        ),
    ],
)  # fmt: skip
def test_plan_says_what_the_budget_buys(plan: Plan, asked: Asked, told: list[str]) -> None:
    page = console()
    show_plan(page, plan, asked, at_once=2, note="compared at epoch 2")
    for expected in ["compared at epoch 2", *told]:
        assert expected in text(page)


def test_costs_are_a_table_and_what_cannot_be_trained_says_why() -> None:
    page = console()
    show_costs(page, [("fcn_resnet50 at 96x128", PLAN.costs[0].cost), ("loss.name dice", Cost(fault="out of memory"))])
    assert "5.00 s" in text(page) and "1.0 GiB" in text(page) and "ok" in text(page) and "out of memory" in text(page)


@pytest.mark.parametrize(("took", "late"), [(290.0, False), (310.0, False), (330.0, True)])
def test_time_is_told_beside_what_was_given(took: float, late: bool) -> None:
    page = console()
    show_time(page, 300.0, took=took)
    assert f"took {time_text(took)} of 5m" in text(page)
    assert ("longer than it was given" in text(page)) is late


@pytest.mark.parametrize(
    ("seconds", "written"), [(90, "1m30s"), (1800, "30m"), (5400, "1h30m"), (86400, "1d"), (0, "0s")]
)
def test_times_are_written_as_they_are_read(seconds: float, written: str) -> None:
    assert time_text(seconds) == written
    assert seconds == 0 or duration(written) == seconds


def test_plan_warns_of_labels_that_so_few_trials_leave_out() -> None:
    for trials, warned in ((4, True), (5, False)):
        page = console()
        show_plan(page, PLAN, Asked(trials, 4, None), at_once=1, note="")
        assert ("--trials 5" in text(page)) is warned
    for trials, warned in ((len(SPACE.start) - 1, True), (len(SPACE.start), False), (None, False)):
        page = console()
        show_space(page, SPACE, BASE, trials=trials, note="")
        assert (f"--trials {len(SPACE.start)}" in text(page)) is warned


def test_execution_says_what_is_on() -> None:
    plain = Execution(threads=2, channels_last=False, cache_bytes=0)
    assert describe_execution(plain) == "fp32 on cpu, 2 threads per trial, no decoded cache"
    assert "compiled" in describe_execution(Execution(compile=True))
    told = describe_execution(Execution(device="cuda", ranks=2, workers=3))
    assert told.startswith("fp32 on cuda, 2 GPUs per trial, channels last, 1 thread per GPU, 3 loader processes")


@pytest.mark.parametrize("width", [80, 130])
@pytest.mark.parametrize("name", list(SPACES))
def test_space_is_shown_with_every_parameter_and_its_reason(name: str, width: int) -> None:
    page = Console(file=io.StringIO(), width=width, highlight=False, no_color=True)
    space = SPACES.get(name)(["lraspp_mobilenet_v3_large", "fcn_resnet50"], own_weights(name))
    space = space.fix({"batch_size": 4, "image_size": "32x32"})
    base = {**BASE, "model.weights": own_weights(name)}
    show_space(page, space, base, trials=len(space.start), note="compared at epoch 2")
    shown = text(page)
    joined = " ".join(shown.split())
    for parameter in space.parameters:
        default = "" if parameter.default is None else readable(parameter.default)
        condition = f", if {' and '.join(map(str, parameter.when))}" if parameter.when else ""
        row = f"{parameter.key} {parameter.role} {default} {parameter.range_text()}{condition}: {parameter.reason}"
        assert " ".join(row.split()) in joined
    assert "baseline: " in shown
    assert "image_size fixed 32x32" in joined
    assert "batch_size fixed 4 held by --set" in joined
    assert "compared at epoch 2" in shown
    assert max(map(len, shown.splitlines())) <= width
    first = shown.split("Tried first\n")[1].splitlines()
    assert all(line.startswith("  ") for line in first), "what goes on is indented, too"


def test_key_that_is_searched_is_not_shown_as_held() -> None:
    page = console()
    space = SPACES.get("lr")(["lraspp_mobilenet_v3_large"], "imagenet")
    base = {**BASE, "model.weights": "imagenet", "training.backbone_lr": 0.1}
    show_space(page, space, base, trials=5, note="")
    rows = [line.split() for line in text(page).splitlines() if line.startswith(("training.backbone_lr", "image_size"))]
    assert rows == [["training.backbone_lr", "nuisance", "0.1"], ["image_size", "fixed", "the", "data", "set's", "own"]]


ONE, THREE = (
    ("lraspp_mobilenet_v3_large",),
    ("fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"),
)
SIZES = SearchSpace(
    name="sizes",
    description="Which size?",
    parameters=(choice("image_size", ("32x32", "64x64")), number("training.ema", 0.0, 0.9)),
    label_by="image_size",
    start=({"image_size": "32x32", "training.ema": 0.0},),
    fixed={"batch_size": 4},
)


def shown_keys(space: SearchSpace, base: Mapping[str, Any], *, own_epochs: bool) -> list[str]:
    page = console()
    show_space(page, space, base, trials=None, own_epochs=own_epochs, note="")
    rows = text(page).split("  default\n")[1].split("\nTried first")[0].splitlines()
    return [row.split()[0] for row in rows if row and not row.startswith(" ")]


@pytest.mark.parametrize("weights", ["none", "imagenet", "coco_voc"])
@pytest.mark.parametrize("models", [ONE, THREE], ids=["one", "three"])
@pytest.mark.parametrize("name", [*SPACES, "sizes"])
def test_no_key_of_a_space_is_shown_twice_whatever_is_held(name: str, models: tuple[str, ...], weights: str) -> None:
    if name in PREDEFINED_ONLY and weights == "none":
        pytest.skip("says so in test_spaces.py")
    whole = SIZES if name == "sizes" else SPACES.get(name)(list(models), weights)
    base = {**BASE, "model.name": models[0], "model.weights": weights, **known_good_training(weights)}
    ends = [{p.key: p.ends()[-1]} for p in whole.parameters]
    held: list[dict[str, Any]] = [{}, {"image_size": "64x64", "batch_size": 2}, {"training.backbone_lr": 1.0}, *ends]
    for overrides in held:
        try:
            space = whole.fix(overrides)
        except ConfigError:
            continue  # the key exists in no trial with this value
        expected = {*base, *space.fixed, *(p.key for p in space.parameters)}
        for own_epochs in (False, True):
            keys = shown_keys(space, base, own_epochs=own_epochs)
            assert len(keys) == len(set(keys)), overrides
            assert set(keys) == expected


@pytest.mark.parametrize("terminal", [False, True])
def test_what_there_is_no_time_for_is_told_while_the_sweep_runs(tmp_path: Path, terminal: bool) -> None:
    page = console(terminal=terminal)
    with Journal(tmp_path / "journal.jsonl") as journal, LiveView(page, make(journal), concurrent=1):
        journal.append("skipped", start=3, label="dice", reason="it would take 66 s, and 65 s are left")
        journal.append("time_over", reason="it would take 66 s, and 64 s are left")
    assert "the starting point of dice was not tried: it would take 66 s, and 65 s are left" in text(page)
    assert "no further trial was begun: it would take 66 s, and 64 s are left" in text(page)


@pytest.mark.parametrize(
    ("width", "has_bars", "has_reasons"), [(60, False, False), (80, False, True), (120, True, True)]
)
def test_what_fits_on_a_terminal_is_shown_and_states_are_never_cut(
    tmp_path: Path, width: int, has_bars: bool, has_reasons: bool
) -> None:
    page = Console(file=io.StringIO(), width=width, height=24, force_terminal=True, no_color=True, highlight=False)
    with Journal(tmp_path / "journal.jsonl") as journal:
        conductor = make(journal, budget=Budget(12, 4, confirm_top=1, confirm_seeds=3))
        view = LiveView(page, conductor, concurrent=2)
        drive(conductor, outcome=troubled)
        page = Console(file=io.StringIO(), width=width, highlight=False, no_color=True)
        page.print(view.render())
        trials = list(conductor.table.trials.values())
    lines = text(page).splitlines()
    assert len(lines) < 24, "the lowest lines are what counts, and Rich cuts them off"
    assert lines[-1].strip() and max(map(len, lines)) <= width
    rows = [line for line in lines if line.startswith("t0")]
    assert rows and lines[0] == f"... {len(trials) - len(rows)} earlier trials"
    for row, trial in zip(rows, trials[-len(rows) :], strict=True):
        assert row.split()[0] == trial.trial_id and f" {trial.state} " in f"{row} "
        assert f"{trial.epochs}/4" in row
    assert ("━" in "".join(rows)) is has_bars
    assert (
        any(trial.reason[:8] in row for row, trial in zip(rows, trials[-len(rows) :], strict=True) if trial.reason)
        is has_reasons
    )
