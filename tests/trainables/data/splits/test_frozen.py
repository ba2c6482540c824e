import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.statistics import MIN_GROUPS
from benchmarks.splits import long_tailed
from trainables.data import DATASETS, Splits
from trainables.data.splits.frozen import freeze_splits, load_split, load_test_split
from trainables.data.splits.stratified import LEAST_GROUPS, balanced_split, draw, stratified_split
from trainables.errors import DataError

FRACTIONS = (0.6, 0.2, 0.2)


@st.composite
def presences(draw: st.DrawFn) -> np.ndarray:
    count, classes, seed = draw(st.integers(0, 60)), draw(st.integers(0, 8)), draw(st.integers(0, 99))
    rng = np.random.default_rng(seed)
    return rng.random((count, classes)) < rng.random(classes)


@settings(max_examples=60, deadline=None)
@given(presences(), st.integers(0, 5))
def test_every_image_lands_in_exactly_one_part_and_again_in_the_same(presence: np.ndarray, seed: int) -> None:
    parts = stratified_split(presence, FRACTIONS, seed=seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(presence)))
    again = stratified_split(presence, FRACTIONS, seed=seed)
    assert [part.tolist() for part in parts] == [part.tolist() for part in again]


@settings(max_examples=40, deadline=None)
@given(presences(), st.integers(1, 9), st.integers(0, 5))
def test_groups_stay_together(presence: np.ndarray, group_count: int, seed: int) -> None:
    groups = np.random.default_rng(seed).integers(0, group_count, len(presence)).tolist()
    parts = stratified_split(presence, FRACTIONS, seed=seed, groups=groups)
    homes: dict[int, set[int]] = {}
    for number, part in enumerate(parts):
        for index in part:
            homes.setdefault(groups[index], set()).add(number)
    assert sum(map(len, parts)) == len(presence)
    assert all(len(where) == 1 for where in homes.values())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(5, 40), min_size=1, max_size=6), st.integers(0, 5))
def test_one_class_an_image_is_shared_out_to_less_than_two_images(sizes: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    presence = labels[:, None] == np.arange(len(sizes))
    for part, fraction in zip(stratified_split(presence, FRACTIONS, seed=seed), FRACTIONS, strict=True):
        counts = np.bincount(labels[part], minlength=len(sizes))
        assert (np.abs(counts - fraction * np.array(sizes)) < 2).all()


def test_class_with_three_images_reaches_all_three_parts() -> None:
    presence = np.zeros((30, 2), bool)
    presence[:, 0] = True
    presence[[4, 11, 23], 1] = True
    for seed in range(10):
        assert [int(presence[part, 1].sum()) for part in stratified_split(presence, FRACTIONS, seed=seed)] == [1, 1, 1]


def test_rare_classes_are_spread_better_than_by_a_random_draw() -> None:
    rng = np.random.default_rng(1)
    presence = rng.random((200, 12)) < np.geomspace(0.02, 0.6, 12)

    def error(parts: list[np.ndarray]) -> float:
        shares = np.array([presence[part].sum(axis=0) for part in parts]) / presence.sum(axis=0)
        return float(np.abs(shares - np.array(FRACTIONS)[:, None]).mean())

    drawn = [error(np.split(rng.permutation(200), [120, 160])) for _ in range(50)]
    assert error(stratified_split(presence, FRACTIONS, seed=0)) < min(drawn)


@settings(max_examples=40, deadline=None)
@given(presences(), st.integers(1, 30), st.integers(0, 5))
def test_balanced_split_deals_out_whole_groups_once_and_again_the_same(
    presence: np.ndarray, group_count: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pixels = presence * rng.integers(1, 1000, presence.shape)
    groups = rng.integers(0, group_count, len(pixels)).tolist()
    parts = balanced_split(pixels, FRACTIONS, seed=seed, groups=groups)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(pixels)))
    homes = [{groups[index] for index in part} for part in parts]
    assert sum(map(len, homes)) == len({*groups})
    again = balanced_split(pixels, FRACTIONS, seed=seed, groups=groups)
    assert [part.tolist() for part in parts] == [part.tolist() for part in again]


def shares_off(pixels: np.ndarray, parts: list[np.ndarray]) -> float:
    """Mean relative deviation of parts' shares of class pixels from those asked for."""
    held = np.array([pixels[part].sum(axis=0) for part in parts]) / pixels.sum(axis=0)
    return float(np.abs(held / np.array(FRACTIONS)[:, None] - 1).mean())


def test_exchanges_end_where_no_move_and_no_swap_lowers_the_imbalance() -> None:
    rng = np.random.default_rng(3)
    pixels = np.where(rng.random((20, 4)) < 0.5, rng.lognormal(5, 1, (20, 4)), 0).astype(np.int64)
    groups = rng.integers(0, 14, 20)
    units = [np.flatnonzero(groups == group) for group in np.unique(groups)]

    def imbalance(part_of: np.ndarray) -> float:
        """As the docstring of `exchanged` has it, from the images of each part."""
        total = 0.0
        for part, share in enumerate(FRACTIONS):
            inside = [unit for unit, home in zip(units, part_of, strict=True) if home == part]
            images = np.concatenate([np.zeros(0, int), *inside]).astype(int)
            for class_id in range(4):
                shown = pixels[:, class_id] > 0
                held = pixels[images, class_id].sum() / pixels[:, class_id].sum()
                seen = shown[images].sum() / shown.sum()
                groups_seen = sum(shown[u].any() for u in inside) / sum(shown[u].any() for u in units)
                total += sum((value / share - 1) ** 2 for value in (held, seen, groups_seen))
            total += 4 * (len(images) / 20 / share - 1) ** 2
        return total

    parts = balanced_split(pixels, FRACTIONS, seed=0, groups=groups.tolist())
    home = {int(index): number for number, part in enumerate(parts) for index in part}
    drawn = np.array([home[int(unit[0])] for unit in units])
    least = imbalance(drawn)
    for one in range(len(units)):
        for part in range(3):
            moved = drawn.copy()
            moved[one] = part
            assert imbalance(moved) >= least - 1e-9
        for other in range(one):
            swapped = drawn.copy()
            swapped[[one, other]] = drawn[[other, one]]
            assert imbalance(swapped) >= least - 1e-9


def test_pixels_of_classes_are_shared_out_better_than_by_images_and_no_class_is_missing() -> None:
    for seed in range(3):
        pixels, groups = long_tailed(seed, grouped=False)
        by_images = stratified_split(pixels > 0, FRACTIONS, seed=seed, groups=groups)
        by_pixels = balanced_split(pixels, FRACTIONS, seed=seed, groups=groups)
        assert shares_off(pixels, by_pixels) < 0.5 * shares_off(pixels, by_images)
        assert all((pixels[part].sum(axis=0) > 0).all() for part in by_pixels)
        assert [len(part) for part in by_pixels] == [180, 60, 60]


def test_no_part_lacks_a_class_that_dealing_by_images_left_out_of_one() -> None:
    rng = np.random.default_rng(0)
    mended = 0
    for _ in range(20):
        pixels = np.zeros((12, 5), np.int64)
        for class_id in range(5):
            pixels[rng.choice(12, 4, replace=False), class_id] = rng.integers(1, 1000)
        before = stratified_split(pixels > 0, FRACTIONS, seed=0)
        mended += any((pixels[part].sum(axis=0) == 0).any() for part in before)
        assert all((pixels[part].sum(axis=0) > 0).all() for part in balanced_split(pixels, FRACTIONS, seed=0))
    assert mended


def test_test_gets_as_many_groups_as_an_interval_needs_where_there_are_three_times_as_many(
    make_folder: Any,
) -> None:
    assert LEAST_GROUPS == MIN_GROUPS
    data = DATASETS.get("folder")(root=make_folder(52, groups=r"a\d\d"))
    for pairs, expected in ((26, 8), (20, 4)):
        ids = list(data.ids())[: 2 * pairs]
        parts = draw(data, ids, FRACTIONS, seed=0, groups=[str(number // 2) for number in range(2 * pairs)])
        assert len(parts[2]) == 2 * expected


@pytest.mark.parametrize("split", [stratified_split, balanced_split])
@pytest.mark.parametrize(
    ("presence", "fractions", "groups"),
    [
        (np.zeros(4, bool), (0.5, 0.5), None),
        (np.zeros((4, 2), bool), (0.5, 0.6), None),
        (np.zeros((4, 2), bool), (1.0, 0.0), None),
        (np.zeros((4, 2), bool), (0.5, 0.5), [1]),
    ],
)
def test_senseless_arguments_are_refused(
    presence: np.ndarray, fractions: tuple[float, ...], groups: Any, split: Any
) -> None:
    with pytest.raises(ValueError):
        split(presence, fractions, seed=0, groups=groups)


@pytest.fixture
def frozen(make_folder: Any, tmp_path: Path) -> tuple[Any, Splits, Path, dict[str, tuple[str, str]], dict[str, str]]:
    data = DATASETS.get("folder")(root=make_folder(10, groups=r"a\d"))
    splits = Splits(("a00", "a03", "a01"), ("a04", "a05"), ("a09", "a08"), origin="by hand", warnings=("careful",))
    hashes = {i: tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in data.paths(i)) for i in data.ids()}
    run = tmp_path / "run"
    return data, splits, run, hashes, freeze_splits(data, splits, run, hashes=hashes)


def test_split_hash_is_sha256_of_the_sorted_lines(frozen: Any) -> None:
    _, _, run, hashes, written = frozen
    lines = [f"{i} {hashes[i][0]} {hashes[i][1]}" for i in ("a00", "a01", "a03")]
    assert written["train"] == hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert load_split(run, "train").hash == written["train"]
    assert load_test_split(run).hash == written["test"]


def test_frozen_splits_come_back_with_groups_in_order(frozen: Any) -> None:
    _, splits, run, _, _ = frozen
    train = load_split(run, "train")
    assert (train.name, train.ids, train.groups) == ("train", splits.train, ("a0", "a0", "a0"))
    assert load_split(run, "val").ids == splits.val
    assert load_test_split(run).ids == splits.test
    content = json.loads((run / "splits.json").read_text())
    assert (content["origin"], content["warnings"], content["data"]) == ("by hand", ["careful"], "folder")


def test_test_ids_stand_in_their_own_file_only(frozen: Any) -> None:
    _, splits, run, _, _ = frozen
    assert not any(image_id in (run / "splits.json").read_text() for image_id in splits.test)
    with pytest.raises(ValueError, match="train or val"):
        load_split(run, "test")


def test_freezing_again_is_harmless_and_other_splits_are_refused(frozen: Any) -> None:
    data, splits, run, hashes, written = frozen
    before = (run / "splits.json").read_bytes()
    assert freeze_splits(data, splits, run, hashes=hashes) == written
    other = Splits(splits.train[:2], splits.val, splits.test, origin="by hand", warnings=("careful",))
    with pytest.raises(DataError, match="already holds other splits"):
        freeze_splits(data, other, run, hashes=hashes)
    assert (run / "splits.json").read_bytes() == before
    assert sorted(path.name for path in run.iterdir()) == ["splits.json", "splits.test.json"]


def test_empty_splits_and_missing_hashes_are_told_together(frozen: Any, tmp_path: Path) -> None:
    data, splits, _, hashes, _ = frozen
    del hashes["a04"]
    with pytest.raises(DataError, match=r"split test is empty; no content hash for a04"):
        freeze_splits(data, Splits(splits.train, splits.val, (), origin=""), tmp_path / "other", hashes=hashes)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-20],
        lambda text: text.replace('"a03"', '"a02"'),
        lambda text: text.replace('"train"', '"trian"'),
        lambda text: "[]",
        lambda text: text.replace('"groups": [\n   "a0",', '"groups": [', 1),
    ],
    ids=["torn", "id changed", "key changed", "other content", "group lost"],
)
def test_changed_split_file_is_noticed(frozen: Any, damage: Any) -> None:
    _, _, run, _, _ = frozen
    path = run / "splits.json"
    text = path.read_text()
    path.write_text(damage(text))
    assert path.read_text() != text
    with pytest.raises(DataError, match=r"splits\.json"):
        load_split(run, "train")


def test_missing_split_file_names_the_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is missing"):
        load_split(tmp_path, "val")
    with pytest.raises(DataError, match="is missing"):
        load_test_split(tmp_path)
