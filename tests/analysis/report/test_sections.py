import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from markupsafe import Markup

from analysis.answer import Verdict, answer
from analysis.candidates import seeds_frame
from analysis.comparison import comparison_frame
from analysis.dead import Dead, above_floor
from analysis.report.drawing import FIGURES, save_figures
from analysis.report.gallery import Gallery
from analysis.report.page import MOST_ROWS, SECTIONS, Evidence, Material, build_sections
from analysis.report.parts import FailedPart, Parts
from analysis.report.sections.answer import caveats, lead_claims, other_claims
from analysis.report.sections.run import differences, run_section, shown_trials, space_frame
from analysis.results import chosen_here
from analysis.scores import score_labels
from sweep.objectives import objective_of, objectives
from trainables import commands
from trainables.labels import MAJORITY

from ..synthetic_run import make_results, with_effects, with_trade_off, with_verdict
from ..test_comparison import made_evaluation, made_record

CONFIGURATION = "free (augment.policy free, augment.rotate.limit 13, optimizer.lr 0.0051 and 1 more)"
LUCK = "the best of 11 trials on val, one seed each"
MISSING = "it is a candidate: what is missing is both configurations trained with fresh seeds. To add them: "


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory):
    return make_results(tmp_path_factory.mktemp("run"), images=3)[0]


@pytest.fixture(autouse=True)
def drawn_once(monkeypatch):
    """Sections embed the SVG; the other two files of a figure only take time here."""
    monkeypatch.setattr("analysis.report.drawing._pdf", lambda figure: b"")
    monkeypatch.setattr("analysis.report.drawing._png", lambda figure: b"")


def with_answer(results, **changes):
    return replace(results, answer=replace(results.answer, **changes))


def on_val(results):
    above = replace(results.above_floor, low=np.nan, high=np.nan)
    return replace(with_answer(results, chosen_here=True, low=np.nan, high=np.nan), split="val", above_floor=above)


def plain(text: Markup) -> str:
    return text.striptags()


def lead(results) -> str:
    """The sentences that the page opens with."""
    return " ".join(plain(claim.text) for claim in lead_claims(results))


def all_sentences(results) -> list[str]:
    return [plain(c.text) for c in (*lead_claims(results), *caveats(results), *other_claims(results))]


def test_an_interval_above_zero_speaks_of_two_checkpoints_and_of_their_luck(results) -> None:
    told = with_answer(results, winner_score=0.5, baseline_score=0.4, difference=0.1, low=0.05, high=0.15)
    assert lead(told) == (
        f"On these 3 test images, this checkpoint of {CONFIGURATION}, {LUCK}, scores higher than that of baseline by "
        "0.100 [0.050, 0.150]: mIoU 0.500 against 0.400."
    )
    assert [plain(claim.text) for claim in caveats(told)] == [
        f"This is about these two checkpoints only, and another seed may reverse it; {MISSING}"
        f"{commands.confirm(results.run_dir)}"
    ]
    assert {claim.evidence for claim in (*lead_claims(told), *caveats(told))} == {Evidence.ONE_CHECKPOINT}


def test_an_interval_below_zero_says_lower(results) -> None:
    told = with_answer(results, winner_score=0.4, baseline_score=0.5, difference=-0.1, low=-0.15, high=-0.05)
    assert "scores lower than that of baseline by 0.100 [0.050, 0.150]: mIoU 0.400 against 0.500." in lead(told)


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.2), (-0.001, 0.2), (-0.2, 0.0)])
def test_an_interval_that_holds_zero_tells_nothing_apart(results, low: float, high: float) -> None:
    text = lead(with_answer(results, winner_score=0.5, baseline_score=0.4, difference=0.1, low=low, high=high))
    assert f"{LUCK}, and that of baseline cannot be told apart: mIoU 0.500 against 0.400" in text
    assert f"a difference of +0.100 whose interval [{low:+.3f}, {high:+.3f}] holds 0" in text
    assert "higher" not in text and "lower" not in text


def test_without_an_interval_nothing_is_concluded(results) -> None:
    why = "<pole> occurs in fewer than 2 groups {}"
    told = with_answer(results, low=np.nan, high=np.nan, unit_count=7, units="groups", why_none=why)
    text = lead(told)
    assert "On these 3 test images (7 groups), " in text
    assert "the difference has no interval: &lt;pole&gt; occurs in fewer than 2 groups {}." in lead_claims(told)[0].text
    assert "higher" not in text and "nan" not in text
    assert "another seed may change that" in plain(caveats(told)[0].text)


def test_the_best_of_several_seeds_is_chosen_by_their_mean(results) -> None:
    twice = pd.concat([results.trials, results.trials.assign(**{"config/seed": 1})], ignore_index=True)
    text = lead(replace(results, trials=twice))
    assert "the best of 11 configurations on val, by the mean over the seeds of each (22 trials)" in text


def test_the_baselines_own_configuration_is_not_compared(results) -> None:
    told = with_answer(results, same_configuration=True, baseline_score=0.4)
    assert lead(told) == (
        "best is the baseline's own configuration, so nothing is compared: baseline reaches mIoU 0.400 on test."
    )
    assert caveats(told) == []
    assert len(other_claims(told)) < len(other_claims(results))
    names = re.findall('class="name">([^<]*)<', SECTIONS.get("answer")(Material(told, {}, Gallery([]))).html)
    assert names == ["mIoU of baseline", "commonest class everywhere", "failures of free"]


def test_a_missing_baseline_is_named(results) -> None:
    labels = {label: record for label, record in results.labels.items() if label != "baseline"}
    assert lead(replace(results, answer=None, labels=labels)).endswith("there is no finished checkpoint for baseline.")


def test_sentences_name_the_configuration_and_not_best(results) -> None:
    for told in (results, on_val(results)):
        assert not [sentence for sentence in all_sentences(told) if re.search(r"\bbest\b(?! of )", sentence)]


def test_no_sentence_speaks_of_single_classes(results) -> None:
    names = [info.name for info in results.classes]
    assert not [s for s in all_sentences(results) if re.search(rf"\b({'|'.join(names)})\b", s)]


def test_val_chose_the_winner_and_says_nothing_more(results) -> None:
    told = on_val(with_answer(results, winner_score=0.5, baseline_score=0.4, difference=0.1))
    assert lead(told) == f"{CONFIGURATION} is a candidate, {LUCK}: mIoU 0.500 there, baseline 0.400 (+0.100)."
    assert [plain(claim.text) for claim in caveats(told)] == [
        f"Val chose it, so its score here flatters it and proves nothing; {MISSING}{commands.confirm(told.run_dir)}"
    ]
    assert not [s for s in all_sentences(told) if "stands above" in s or "same order" in s]
    assert "difference" not in SECTIONS.get("answer")(Material(told, {}, Gallery([]))).html


def test_val_and_test_are_told_side_by_side(results) -> None:
    scores = results.comparison.set_index("label")["iou"]
    assert (
        f"mIoU of free: 0.560 on val when it was chosen, {scores['best']:.3f} on test; of baseline at the same times: "
        f"0.520, {scores['baseline']:.3f}."
    ) in all_sentences(results)
    assert (
        "mIoU of free: 0.560 on val when it was chosen, 0.440 on val over 3 fresh seeds, 0.440 on test over 3 fresh "
        "seeds; of baseline at the same times: 0.520, 0.410, 0.410."
    ) in all_sentences(with_verdict(results))
    assert not [s for s in all_sentences(replace(results, stages=results.stages[:1])) if "when it was chosen" in s]


def test_a_label_above_the_winner_on_test_is_named(results) -> None:
    ranks = {"baseline": 3, "best": 2, "photometric": 1, "geometric": 2}
    expected = "On test, photometric stands above free; the winner was chosen on val and stays."
    assert expected in all_sentences(with_answer(results, split_ranks=ranks))


def test_dead_labels_come_first_and_say_why(results) -> None:
    dead = {
        "baseline": Dead(1, 0.05, 0.06),
        "best": Dead(1, 0.05, 0.06),
        "photometric": Dead(None, 0.0609, 0.06),
        "geometric": Dead(1, 0.05, 0.06),
    }
    some = {label: dead[label] for label in ("baseline", "best", "photometric")}
    texts = [plain(claim.text) for claim in lead_claims(replace(results, dead=some))]
    assert texts[:2] == [
        "baseline and best are dead: they predict \u201croad\u201d everywhere on test.",
        "photometric is dead: its mIoU on test is at most 0.001 above 0.060, which is what the commonest class "
        "everywhere reaches.",
    ]
    assert texts[2] == "A comparison with what learnt nothing shows nothing, so none is made."
    others = {"photometric": dead["photometric"]}
    texts = [plain(claim.text) for claim in lead_claims(replace(results, dead=others))]
    assert texts[1].startswith("On these 3 test images"), "winner and baseline did learn"


def test_if_every_label_is_dead_nothing_is_compared(results) -> None:
    told = replace(results, dead=dict.fromkeys(results.labels, Dead(1, 0.05, 0.06)))
    assert lead(told) == (
        "baseline, best, photometric and geometric are dead: they predict \u201croad\u201d everywhere on test. "
        "No label learnt anything, so nothing is compared."
    )
    assert caveats(told) == []
    assert not [s for s in all_sentences(told) if "difference" in s or "stands above" in s or "On val" in s]
    assert "difference" not in SECTIONS.get("answer")(Material(told, {}, Gallery([]))).html


def test_why_there_are_no_fresh_seeds_is_told_as_it_is(results) -> None:
    (told,) = caveats(on_val(replace(results, unconfirmed="no <b>time</b> {}")))
    assert "trained with fresh seeds (no &lt;b&gt;time&lt;/b&gt; {}). To add them: <code>" in told.text


@pytest.mark.parametrize("key", objectives())
def test_words_and_numbers_are_the_objectives(results, key: str) -> None:
    objective = objective_of(key)
    for record in results.labels.values():
        record.metrics.setdefault(key, 0.25)
    ranked = replace(results, manifest=replace(results.manifest, objective=key))
    told = with_answer(ranked, objective=objective)
    texts = [*all_sentences(told), *all_sentences(on_val(told))]
    assert f"{objective.metric.words} " in texts[0]
    assert ("mIoU" in " ".join(texts)) == (key == "val/miou")
    html = SECTIONS.get("answer")(Material(told, {}, Gallery([]))).html
    row = told.comparison.set_index("label").loc["best"]
    assert f"{objective.metric.words} of free" in html
    assert f"{row[objective.metric.name]:.3f}" in html and f"95% [{row[f'{objective.metric.name}_low']:.3f}, " in html


OF_A_DIFFERENCE = re.compile(r"\b(better|worse|distinguish\w*|outperform\w*|significan\w*)\b|difference")
"""What a page on val must not say."""
INTERVAL = re.compile(r"\[[^\]]*\d[^\]]*\]")


def equal_trials(results, *, seed: int, trials: int, split: str):
    """A sweep over configurations that are equally good: the winner on the split is compared with the first."""
    evaluations = {str(i): made_evaluation(str(i), seed=1000 * seed + i, split=split) for i in range(trials)}
    evaluations[MAJORITY] = made_evaluation(MAJORITY, skill=0.0, split=split)
    scores = score_labels(evaluations)
    winner = max(range(1, trials), key=lambda i: scores[str(i)]["iou"].value)
    labels = {
        label: made_record(str(i), scores[str(i)]["iou"].value, **{"optimizer.lr": 0.001 * (i + 1)})
        for label, i in (("baseline", 0), ("best", winner))
    }
    return replace(
        results,
        split=split,
        labels=labels,
        above_floor=above_floor(
            "best",
            evaluations[str(winner)],
            evaluations[MAJORITY],
            objective_of("val/miou"),
            picked=str(winner) in chosen_here(split, labels),
        ),
        comparison=comparison_frame(labels, evaluations, score_labels(evaluations, picked=chosen_here(split, labels))),
        answer=answer(labels, evaluations, scores, objective=objective_of("val/miou")),
    )


@pytest.mark.parametrize("trials", [5, 20])
def test_sweeps_of_equals_find_nobody_better_on_val(results, trials: int) -> None:
    for seed in range(3):
        told = equal_trials(results, seed=seed, trials=trials, split="val")
        assert told.answer.verdict is Verdict.CHOSEN_HERE
        html = SECTIONS.get("answer")(Material(told, {}, Gallery([]))).html
        assert not [s for s in all_sentences(told) if OF_A_DIFFERENCE.search(s) or INTERVAL.search(s)]
        baseline, best = told.comparison.to_dict("records")[:2]
        assert np.isnan(best["iou_low"]) and np.isnan(best["iou_high"])
        single = {f"[{baseline['iou_low']:.3f}, {baseline['iou_high']:.3f}]"}
        assert not OF_A_DIFFERENCE.search(plain(html))
        assert set(INTERVAL.findall(plain(html))) == single


def test_the_simulation_would_notice_an_interval_of_a_difference(results) -> None:
    told = equal_trials(results, seed=0, trials=5, split="test")
    assert any(OF_A_DIFFERENCE.search(text) for text in all_sentences(told))
    assert INTERVAL.search(lead(told))


def test_no_sentence_calls_a_configuration_better(results) -> None:
    for seed in range(4):
        told = equal_trials(results, seed=seed, trials=20, split="test")
        for claim in (*lead_claims(told), *caveats(told), *other_claims(told)):
            assert claim.evidence in (Evidence.RECORD, Evidence.ONE_CHECKPOINT)
            assert not re.search(r"\b(better|worse)\b", plain(claim.text))
        if told.answer.verdict is Verdict.HIGHER:
            assert "this checkpoint of" in lead(told) and "another seed may reverse it" in caveats(told)[0].text


def test_a_loss_that_never_fell_is_told_first(results) -> None:
    told = replace(results, dead={"photometric": Dead(None, 0.4, 0.06, (2.0, 1.99))})
    first = lead_claims(told)[0]
    assert plain(first.text) == (
        "photometric is dead: its training loss never fell; it was 2 in the first epoch and 1.99 at the lowest after "
        "it."
    )
    assert first.evidence is Evidence.RECORD


def floor_sentence(results, **changes) -> tuple[str, bool]:
    """What is said of the floor, and whether the page opens with it."""
    told = replace(results, above_floor=replace(results.above_floor, **changes))
    leads, others = ([plain(c.text) for c in claims] for claims in (lead_claims(told), other_claims(told)))
    found = [text for text in (*leads, *others) if "commonest class everywhere" in text]
    assert len(found) <= 1
    return (found[0] if found else "", bool(found) and found[0] in leads)


def test_the_winner_is_held_against_the_commonest_class(results) -> None:
    numbers = {"score": 0.4, "floor": 0.1, "low": 0.25, "high": 0.35}
    assert floor_sentence(results, **numbers) == (
        "free beats the commonest class everywhere: mIoU 0.400 against 0.100 on test, +0.300 [+0.250, +0.350].", False,
    )  # fmt: skip
    assert floor_sentence(results, **{**numbers, "low": 1e-9})[1] is False
    for low in (0.0, -0.01):
        text, opens = floor_sentence(results, **{**numbers, "low": low})
        assert text.startswith("free cannot be told from the commonest class everywhere: mIoU 0.400 against 0.100")
        assert opens, "an alarm"
    text, opens = floor_sentence(results, **{**numbers, "low": np.nan, "high": np.nan})
    assert text == "Beside the commonest class everywhere free has mIoU 0.400 against 0.100 on test, +0.300."
    assert not opens


def test_a_dead_winner_is_not_held_against_the_floor_again(results) -> None:
    told = replace(results, dead={"best": Dead(None, 0.06, 0.06)})
    texts = all_sentences(told)
    assert sum("commonest class everywhere" in text for text in texts) == 1


@pytest.mark.parametrize("split", ["val", "test"])
def test_fresh_seeds_above_zero_make_a_configuration_better(results, split: str) -> None:
    told = with_verdict(results, split=split)
    text = lead(told)
    assert f"On {split}, <free> (augment.policy free" in text
    assert "is better than the baseline: +0.030 [+0.010, +0.050], 3 seeds each" in text
    assert "a sweep of equals would show as much in 2 of 100." in text
    assert [claim.evidence for claim in (*lead_claims(told), *caveats(told))] == [Evidence.FRESH_SEEDS] * 2
    scope = plain(caveats(told)[0].text)
    assert "150 images were left out in turn" in scope
    assert ("so is that val picked from 10 configurations" in scope) is (split == "val")
    html = SECTIONS.get("confirmation")(Material(told, {}, Gallery([]))).html
    assert "0.0300" in html and "better" in html and "&lt;free&gt;" in html


def test_fresh_seeds_that_decide_nothing_say_what_would_have_been_found(results) -> None:
    for low in (0.0, -0.01):
        text = lead(with_verdict(results, low=low))
        assert "no difference found" in text and "a gain of 0.040 would have been found in 8 of 10 cases" in text
        assert not re.search(r"\b(better|worse)\b", text)


def test_verdict_without_images_says_that_they_count_as_given(results) -> None:
    told = with_verdict(results, units=0)
    assert "images are not: other images may change it" in plain(caveats(told)[0].text)
    on_val = with_verdict(results, units=0, split="val")
    assert "is better" not in lead(on_val) and "Val picked from 10 configurations" in plain(caveats(on_val)[0].text)


def test_components_of_the_winner_are_told_with_what_they_are_worth(results) -> None:
    html = SECTIONS.get("ablation")(Material(with_verdict(results), {}, Gallery([]))).html
    assert "In &lt;free&gt; (0001) augment is worth +0.020 [+0.010, +0.030], 3 seeds each." in html
    assert "&lt;lr&gt; cannot be told from nothing: +0.001 [-0.008, +0.010]" in html
    assert html.count('<span class="level">ablation</span>') == 2
    assert SECTIONS.get("ablation")(Material(results, {}, Gallery([]))) is None


def test_dead_labels_have_no_verdict(results) -> None:
    told = with_verdict(results, dead={"baseline": Dead(1, 0.05, 0.06)})
    assert "better" not in lead(told) and "none is made" in lead(told)


@pytest.mark.parametrize(
    ("openings", "words"), [(0, "has not been opened"), (1, "has been opened once"), (10, "has been opened 10 times")]
)
def test_openings_are_counted_aloud(results, openings: int, words: str) -> None:
    claim = other_claims(replace(results, openings=openings))[-1]
    assert words in claim.text
    assert claim.evidence is Evidence.RECORD


def test_what_became_of_the_refit_is_told_from_the_record(results) -> None:
    told = replace(results, refit="refit/ holds t<1> trained again")
    claim = next(one for one in other_claims(told) if "trained again" in one.text)
    assert plain(claim.text) == "refit/ holds t<1> trained again." and "t<1>" not in claim.text
    assert claim.evidence is Evidence.RECORD
    assert len(other_claims(results)) == len(other_claims(told)) - 1


def test_failures_of_best_and_their_commonest_cause_are_counted(results) -> None:
    own = [row for row in results.failures.to_dict("records") if row["label"] == "best"]
    text = next(plain(c.text) for c in other_claims(results) if "fails on" in c.text)
    assert f"free fails on {len(own)} (image, class) regions" in text


def made_sections(results, folder: Path):
    parts = Parts(folder)
    return build_sections(Material(results, save_figures(results, folder, parts), Gallery([])), parts), parts.failed


def on_test() -> list[str]:
    """All sections but what to try next, which val alone may say."""
    return [name for name in SECTIONS if name != "next_sweep"]


def test_sections_come_in_order_with_unique_anchors(results, tmp_path: Path) -> None:
    whole = with_effects(with_trade_off(with_verdict(results)), size=(0.2, True))
    sections, failed = made_sections(whole, tmp_path)
    assert failed == []
    assert [section.anchor for section in sections] == on_test()
    without = [section.anchor for section in made_sections(results, tmp_path)[0]]
    without_data = ("ablation", "confirmation", "factors", "slices", "trade_off")
    assert without == [name for name in on_test() if name not in without_data]
    assert SECTIONS.names()[0] == "answer"
    assert all(section.html and isinstance(section.evidence, Evidence) for section in sections)


def test_a_section_without_its_figure_is_left_out_or_does_without(results, tmp_path: Path) -> None:
    sections = build_sections(Material(results, {}, Gallery([])), Parts(tmp_path))
    assert "curves" not in [section.anchor for section in sections]
    assert all("<svg" not in section.html for section in sections)


def test_a_section_that_raises_is_a_card_in_its_place(results, tmp_path: Path, monkeypatch) -> None:
    def raises(material):
        raise ValueError("<b>no</b> such thing")

    monkeypatch.setitem(SECTIONS._entries, "thresholds", raises)
    whole = with_effects(with_trade_off(with_verdict(results)), size=(0.2, True))
    sections, failed = made_sections(whole, tmp_path)
    assert [part.what for part in failed] == ["section thresholds"]
    assert [section.anchor for section in sections] == on_test()
    card = sections[on_test().index("thresholds")]
    assert (card.title, card.evidence) == ("Thresholds", Evidence.RECORD)
    assert "ValueError: &lt;b&gt;no&lt;/b&gt; such thing" in card.html and "report.log" in card.html
    assert "in raises" in (tmp_path / "report.log").read_text()


def test_a_figure_that_raises_is_a_card_in_its_place(results, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(FIGURES._entries, "curves", lambda results: 1 / 0)
    (tmp_path / "curves.png").write_text("of an earlier report")
    sections, failed = made_sections(results, tmp_path)
    assert [part.what for part in failed] == ["figure curves"]
    html = {section.anchor: section.html for section in sections}
    assert "ZeroDivisionError: division by zero" in html["curves"] and "<svg" not in html["curves"]
    assert all("<svg" in html[anchor] for anchor in ("answer", "thresholds", "classes"))
    assert not (tmp_path / "curves.png").exists()


def test_a_gallery_that_raised_is_a_card(results, tmp_path: Path) -> None:
    failed = FailedPart("failure pictures", "OSError: disk full", tmp_path / "report.log")
    section = SECTIONS.get("failures")(Material(results, {}, failed))
    assert "OSError: disk full" in section.html and "No region" not in section.html


def test_configurations_of_several_seeds_are_told_without_a_claim(results) -> None:
    assert "Seeds" not in SECTIONS.get("comparison")(Material(results, {}, Gallery([]))).html
    twice = pd.concat(
        [results.trials.assign(seed=0), results.trials.assign(**{"seed": 1, "config/seed": 1})], ignore_index=True
    )
    told = replace(results, seeds=seeds_frame(twice, "val/miou"))
    html = SECTIONS.get("comparison")(Material(told, {}, Gallery([]))).html
    assert "<h3>Seeds</h3>" in html and 'data-table="seeds"' in html


def test_hostile_names_arrive_as_text(tmp_path: Path) -> None:
    results, _ = make_results(tmp_path, hostile=True)
    renamed = replace(results, notes=("<img src=x onerror=alert(1)>",))
    text = "".join(section.html for section in made_sections(renamed, tmp_path)[0])
    assert "<script>alert" not in text and "<img src=x" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text and "&lt;img src=x" in text


def test_only_keys_that_differ_are_listed() -> None:
    labels, rows = differences(
        {"baseline": {"lr": 0.003, "policy": "none"}, "best": {"lr": 0.003, "policy": "free", "rotate": 12.5}}
    )
    assert labels == ["baseline", "best"]
    assert rows == [("policy", ["none", "free"]), ("rotate", ["-", "12.5"])]


def test_the_space_is_told_with_ranges_scale_and_condition(results) -> None:
    table = space_frame(results.manifest.space.parameters).set_index("key")
    assert list(table.loc["optimizer.lr", ["range", "scale"]]) == ["0.0001 .. 0.01", "log"]
    assert list(table.loc["augment.policy", ["range", "scale"]]) == ["none, free", ""]
    assert table.loc["augment.rotate.limit", "when"] == "augment.policy = free"


def test_what_was_left_undone_is_told_also_where_nothing_was_foreseen(results) -> None:
    undone = "t003 was not trained to its last epoch: 0.0500 at epoch 2 is below 0.1750"
    for told in ((), (undone,)):
        material = Material(replace(results, without_time=told), {}, Gallery([]))
        assert (f"Not done: {undone}." in plain(run_section(material).html)) == bool(told)


def test_of_many_trials_the_best_are_listed_and_the_rest_counted(results):
    count = 2000
    rng = np.random.default_rng(0)
    one = results.trials.iloc[[0]]
    trials = pd.concat([one] * count, ignore_index=True)
    trials["trial_id"] = [f"t{number}" for number in range(count)]
    trials["val/miou"] = np.where(np.arange(count) % 10 == 3, np.nan, rng.random(count))
    best = trials.sort_values("val/miou", ascending=False).head(MOST_ROWS)["trial_id"]
    shown = shown_trials(trials, results.objective)["trial_id"].tolist()
    assert shown == sorted(best, key=lambda trial_id: int(trial_id[1:]))
    text = SECTIONS.get("run")(Material(replace(results, trials=trials), {}, None)).html
    assert f"Of 2,000 trials the {MOST_ROWS} of the best <code>val/miou</code> are listed" in text
    table = re.search('data-table="trials".*?</table>', text, re.DOTALL)[0]
    assert table.count("<tr") == MOST_ROWS + 1


def test_other_long_tables_end_and_say_where_the_rest_is(results):
    long = pd.concat([results.per_class] * 40, ignore_index=True)
    text = SECTIONS.get("classes")(Material(replace(results, per_class=long), {}, None)).html
    assert f"The first {MOST_ROWS} of {len(long):,} rows; the file <code>per_class.csv</code> holds all." in text
    assert text.count("<tr") == MOST_ROWS + 1
