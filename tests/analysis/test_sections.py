import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from markupsafe import Markup

from analysis.figures import save_figures
from analysis.gallery import Gallery
from analysis.sections import (
    SECTIONS,
    Evidence,
    Material,
    build_sections,
    differences,
    lead_claim,
    other_claims,
    show_value,
    space_frame,
)

from .synthetic_run import make_results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory):
    return make_results(tmp_path_factory.mktemp("run"), images=3)[0]


def with_answer(results, **changes):
    return replace(results, answer=replace(results.answer, **changes))


def plain(text: Markup) -> str:
    return text.striptags()


def test_an_interval_above_zero_speaks_of_the_checkpoint_only(results) -> None:
    told = with_answer(results, winner_score=0.5, baseline_score=0.4, difference=0.1, low=0.05, high=0.15)
    claim = lead_claim(told)
    assert plain(claim.text) == (
        "best reaches mIoU 0.500 on test, baseline 0.400: a difference of +0.100 [+0.050, +0.150]. "
        "On images like these, this checkpoint is better."
    )
    assert claim.evidence is Evidence.ONE_CHECKPOINT


def test_an_interval_below_zero_says_worse(results) -> None:
    assert "this checkpoint is worse" in lead_claim(with_answer(results, difference=-0.1, low=-0.2, high=-0.01)).text


def test_an_interval_around_zero_is_called_not_distinguishable(results) -> None:
    text = lead_claim(with_answer(results, difference=0.1, low=-0.001, high=0.2)).text
    assert "The interval holds 0: not distinguishable on these images." in text
    assert "better" not in text


def test_without_an_interval_nothing_is_concluded(results) -> None:
    text = lead_claim(with_answer(results, low=np.nan, high=np.nan, unit_count=7, units="groups")).text
    assert "without an interval, since 7 groups are too few for one." in text
    assert "better" not in text and "nan" not in text


def test_a_baseline_that_won_is_said_to_have_won(results) -> None:
    text = plain(lead_claim(with_answer(results, same_trial=True, baseline_score=0.4)).text)
    assert text == "No trial stood above baseline on val, so best is baseline: mIoU 0.400 on test."
    assert len(other_claims(with_answer(results, same_trial=True))) < len(other_claims(results))


def test_a_missing_baseline_is_named(results) -> None:
    labels = {label: record for label, record in results.labels.items() if label != "baseline"}
    claim = lead_claim(replace(results, answer=None, labels=labels))
    assert plain(claim.text).endswith("there is no finished checkpoint for baseline.")


def test_no_sentence_calls_a_configuration_better(results) -> None:
    for claim in (lead_claim(results), *other_claims(results)):
        assert claim.evidence in (Evidence.RECORD, Evidence.ONE_CHECKPOINT)
        assert not re.search(r"configuration[^.]*\b(better|worse|best)\b", plain(claim.text))


def test_val_and_test_are_told_side_by_side(results) -> None:
    told = with_answer(results, difference=0.1)
    texts = [plain(claim.text) for claim in other_claims(told)]
    expected = (
        "On val, which chose best, its mIoU was 0.560 and that of baseline 0.520 (+0.040); on test the difference "
    )
    assert expected + "is +0.100." in texts


def test_a_report_on_val_says_that_val_flatters_the_winner(results) -> None:
    texts = [plain(claim.text) for claim in other_claims(replace(results, split="val"))]
    assert any("its score here flatters it" in text for text in texts)
    assert not any("stands above" in text for text in texts)


def test_a_label_above_the_winner_on_test_is_named(results) -> None:
    ranks = {"baseline": 3, "best": 2, "photometric": 1, "geometric": 2}
    texts = [plain(claim.text) for claim in other_claims(with_answer(results, split_ranks=ranks))]
    assert "On test, photometric stands above best; the winner was chosen on val and stays." in texts


@pytest.mark.parametrize(
    ("openings", "words"), [(0, "has not been opened"), (1, "has been opened once"), (10, "has been opened 10 times")]
)
def test_openings_are_counted_aloud(results, openings: int, words: str) -> None:
    claim = other_claims(replace(results, openings=openings))[-1]
    assert words in claim.text
    assert claim.evidence is Evidence.RECORD


def test_class_gains_and_losses_equal_the_tables_differences(results) -> None:
    text = next(plain(c.text) for c in other_claims(results) if "single classes" in c.text)
    table = results.per_class.set_index(["label", "class"])["iou"]
    named = re.findall(r"(\w+) \(([+-][0-9.]+)\)", text)
    assert named
    for name, value in named:
        assert float(value) == pytest.approx(table["best", name] - table["baseline", name], abs=5e-4)


def test_failures_of_best_and_their_commonest_cause_are_counted(results) -> None:
    own = [row for row in results.failures.to_dict("records") if row["label"] == "best"]
    text = next(plain(c.text) for c in other_claims(results) if "fails on" in c.text)
    assert f"best fails on {len(own)} (image, class) regions" in text


def test_sections_come_in_order_with_unique_anchors(results, tmp_path: Path) -> None:
    sections = build_sections(Material(results, save_figures(results, tmp_path), Gallery([])))
    assert [section.anchor for section in sections] == list(SECTIONS)
    assert SECTIONS.names()[0] == "answer"
    assert all(section.html and isinstance(section.evidence, Evidence) for section in sections)


def test_a_section_without_its_figure_is_left_out_or_does_without(results) -> None:
    sections = build_sections(Material(results, {}, Gallery([])))
    assert "curves" not in [section.anchor for section in sections]
    assert all("<svg" not in section.html for section in sections)


def test_hostile_names_arrive_as_text(tmp_path: Path) -> None:
    results, _ = make_results(tmp_path, hostile=True)
    renamed = replace(results, notes=("<img src=x onerror=alert(1)>",))
    text = "".join(s.html for s in build_sections(Material(renamed, save_figures(renamed, tmp_path), Gallery([]))))
    assert "<script>alert" not in text and "<img src=x" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text and "&lt;img src=x" in text


def test_only_keys_that_differ_are_listed() -> None:
    labels, rows = differences(
        {"baseline": {"lr": 0.003, "policy": "none"}, "best": {"lr": 0.003, "policy": "free", "rotate": 12.5}}
    )
    assert labels == ["baseline", "best"]
    assert rows == [("policy", ["none", "free"]), ("rotate", ["-", "12.5"])]


@pytest.mark.parametrize(("value", "shown"), [(True, "true"), (0.00012347, "0.0001235"), (3, "3"), ("a", "a")])
def test_configuration_values_are_short(value: object, shown: str) -> None:
    assert show_value(value) == shown


def test_the_space_is_told_with_ranges_scale_and_condition(results) -> None:
    table = space_frame(results.manifest.space["parameters"]).set_index("key")
    assert list(table.loc["optimizer.lr", ["range", "scale"]]) == ["0.0001 .. 0.01", "log"]
    assert list(table.loc["augment.policy", ["range", "scale"]]) == ["none, free", ""]
    assert table.loc["augment.rotate.limit", "when"] == "augment.policy = free"
