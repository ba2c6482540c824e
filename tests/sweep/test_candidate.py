"""What the winner on val is called until it is confirmed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sweep.candidate import Candidates, changes, show_value, tell_changes


def test_changes_name_chief_keys_first_and_leave_the_seed_out() -> None:
    reference = {"lr": 0.003, "policy": "none", "gone": 1, "seed": 0}
    config = {"lr": 0.0020001, "p": 0.5, "policy": "photometric", "seed": 4}
    assert changes(config, reference, first=["policy"]) == ["policy photometric", "lr 0.002", "p 0.5", "no gone"]
    assert changes(config, {**config, "seed": 9}) == []


@pytest.mark.parametrize(
    ("told", "text"), [(["a", "b", "c"], "a, b, c"), (["a", "b", "c", "d"], "a, b, c and 1 more"), (["a"], "a")]
)
def test_a_sentence_names_three_changes(told: Sequence[str], text: str) -> None:
    assert tell_changes(told) == text


@pytest.mark.parametrize(("value", "shown"), [(True, "true"), (0.00012347, "0.0001235"), (3, "3"), ("a", "a")])
def test_configuration_values_are_short(value: object, shown: str) -> None:
    assert show_value(value) == shown


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Candidates(1, 1), "the best of 1 trial on val, one seed each"),
        (Candidates(5, 5), "the best of 5 trials on val, one seed each"),
        (Candidates(6, 5), "the best of 5 configurations on val, by the mean over the seeds of each (6 trials)"),
    ],
)
def test_one_seed_each_is_said_only_where_no_configuration_had_two(found: Candidates, words: str) -> None:
    assert found.best() == words
