"""What is proposed for a next sweep: each rule told at its threshold, and silent just under it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.failures.factors import FACTORS
from analysis.failures.kinds import kinds_by_name
from analysis.failures.reasons import EFFECT_COLUMNS
from analysis.next_sweep.aimed import AIMED, aimed_at_factors
from analysis.next_sweep.edges import off_edges
from analysis.next_sweep.proposal import Searched
from analysis.next_sweep.rare import LEAST_GAP, RARE_SHARE, for_rare_classes
from analysis.next_sweep.small import SMALL_SHARE, larger_input, lost_by_size
from search_spaces import SPACES, SearchSpace
from search_spaces.core.parameter import Parameter
from sweep.objectives import objective_of
from trainables.augmentations import TRANSFORMS

MODELS = ["lraspp_mobilenet_v3_large"]
BASE = {"image_size": "96x128", "epochs": 4, "model.name": MODELS[0], "model.weights": "none", "seed": 0}
MIOU = objective_of("val/miou")
NAMES = ("background", "road", "car", "cone")


def searched(name: str = "lr", *, start: int = 0, held: dict[str, Any] | None = None) -> Searched:
    """A registered space, one of its starting points being the winner."""
    space: SearchSpace = SPACES.get(name)(MODELS, "none").fix(held or {})
    return Searched(space, BASE, space.trial_config(BASE, space.start[start]).flat())


def trials_near(key: str, value: float, middle: float, *, near: int) -> pd.DataFrame:
    """Sixteen trials, of whose best four so many are near a value."""
    rows = [
        {
            "trial_id": f"t{n}", "label": "x", "phase": "search", "state": "completed", "epochs": 4, "seconds": 1.0,
            "val/miou": 0.8 if n < 4 else 0.4, f"config/{key}": value if n < near else middle, "parent": "",
        }
        for n in range(16)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("key", "value", "low", "high"),
    [
        # By a quarter of its three decades.
        ("optimizer.lr", 0.09, 5.62e-4, 0.562),
        ("optimizer.lr", 1.1e-4, 1.78e-5, 0.0178),
        ("optimizer.weight_decay", 0.09, 1e-4, 1.0),
        # Five quarters of the range would be a warm-up of 0.5: the most that a schedule takes.
        ("schedule.warmup", 0.39, 0.1, 0.5),
    ],
)
def test_a_range_moves_beyond_the_end_at_which_the_best_stand(key: str, value: float, low: float, high: float) -> None:
    space = searched()
    (found,) = off_edges(space, trials_near(key, value, 0.01, near=4), MIOU)
    (moved,) = found.parameters
    assert (moved.key, moved.low, moved.high) == (key, pytest.approx(low), pytest.approx(high))
    assert moved.contains(moved.default) and "4 of the best 4 trials" in found.why
    assert off_edges(space, trials_near(key, value, 0.01, near=2), MIOU) == [], "two may be chance"


def test_a_range_that_cannot_go_on_is_left_alone() -> None:
    least = Parameter("schedule.warmup", "float", 0.0, 0.5, default=0.3)
    space = replace(searched(), space=SearchSpace("one", "", (least,), "model.name", ({"schedule.warmup": 0.3},)))
    assert off_edges(space, trials_near("schedule.warmup", 0.49, 0.2, near=4), MIOU) == []
    assert off_edges(space, trials_near("schedule.warmup", 0.01, 0.2, near=4), MIOU) == []


def test_a_grid_stays_a_grid_and_whole_numbers_whole() -> None:
    steps = Parameter("augment.hflip.p", "float", 0.0, 0.5, step=0.25, default=0.25)
    batch = Parameter("batch_size", "int", 2, 8, default=4)
    space = SearchSpace("two", "", (steps, batch), "model.name", ({"augment.hflip.p": 0.25, "batch_size": 4},))
    here = Searched(space, {**BASE, "augment.policy": "flip"}, {})
    (found,) = off_edges(here, trials_near("augment.hflip.p", 0.5, 0.25, near=4), MIOU)
    assert (found.parameters[0].low, found.parameters[0].high) == (0.25, 0.75)
    (found,) = off_edges(here, trials_near("batch_size", 8, 4, near=4), MIOU)
    assert (found.parameters[0].low, found.parameters[0].high) == (4, 10)
    assert type(found.parameters[0].high) is int


def effects(**of: tuple[float, bool]) -> pd.DataFrame:
    """Rows of the table `factors`; those not named have an effect and are no reason."""
    rows = []
    for factor in FACTORS:
        effect, reason = of.get(factor.name, (0.5, False))
        rows.append(("best", factor.name, 0.1, 0.9, effect, effect - 0.02, effect + 0.02, 0, 1.0, reason, 500, 40))
    return pd.DataFrame(rows, columns=list(EFFECT_COLUMNS))


def test_transformations_are_aimed_at_reasons_and_nothing_else() -> None:
    here = searched("lr")
    assert aimed_at_factors(here, effects()) == [], "large, but no reason"
    assert aimed_at_factors(here, effects(thinness=(-0.2, True), crowding=(-0.2, True))) == [], "nothing aims there"
    assert aimed_at_factors(here, effects(blur=(0.2, True))) == [], "sharp images are hard: no blur"
    blur, light = aimed_at_factors(here, effects(light=(0.06, True), blur=(-0.2, True)))
    assert blur.what == "blur in training" and light.what == "brightness and gamma in training"
    assert blur.why.startswith("components that are in blurred images have an IoU lower by 0.20 [0.18, 0.22]")
    keys = {parameter.key for parameter in light.parameters}
    assert keys == {"augment.policy", *(f"augment.{name}.{part}" for name in ("brightness", "gamma")
                                        for part in ("p", "magnitude"))}  # fmt: skip
    policy = light.parameters[0]
    assert (policy.choices, policy.default) == (("none", "free"), "none")


def test_what_the_winner_has_on_stays_on_beside_what_is_aimed() -> None:
    here = searched("augment", start=1)
    assert here.winner["augment.policy"] == "geometric"
    (found,) = aimed_at_factors(here, effects(noise=(-0.1, True)))
    assert found.point["augment.policy"] == "free"
    assert {key for key in found.point if key.endswith(".p")} == {
        f"augment.{name}.p" for name in ("scale_crop", "hflip", "rotate", "shift", "noise")
    }
    noise = next(one for one in found.parameters if one.key == "augment.noise.p")
    (when,) = noise.when
    assert when.values == ("blur_noise", "all", "free"), "it stays in the policies that have it"


def test_what_the_user_holds_is_left_alone() -> None:
    held = searched("lr", held={"augment.policy": "flip", "image_size": "96x128", "loss.name": "dice"})
    assert aimed_at_factors(held, effects(noise=(-0.1, True))) == []
    assert larger_input(held, *small_things(0.9)) == []
    assert for_rare_classes(held, *classes_at(0.2)) == []


def test_every_aim_is_at_a_factor_and_made_by_a_transformation() -> None:
    assert {factor for factor, _ in AIMED} <= {factor.name for factor in FACTORS}
    assert {name for names in AIMED.values() for name in names} <= set(TRANSFORMS)


def small_things(share: float, *, spread: float = 0.0, images: int = 40) -> tuple[Any, Any]:
    """Failures of whose missing pixels small components have a share, more in every other image."""
    made = []
    for place in range(images):
        own = share + spread * (-1) ** place
        missing = np.array([1000 * own, 1000 * (1 - own)])
        pixels = np.array([1000.0, 5000.0])
        components = SimpleNamespace(
            is_true=np.array([True, True, False]), class_id=np.array([2, 2, 3]),
            pixels=np.append(pixels, 9e9), recall=np.append(1 - missing / pixels, np.nan),
        )  # fmt: skip
        made.append(SimpleNamespace(components=components, image_pixels=200_000))
    confusion = np.diag([0, 0, 1000, 0])
    failures = SimpleNamespace(images=tuple(made), confusion=confusion)
    counts = np.broadcast_to(confusion, (images, 4, 4))
    evaluation = SimpleNamespace(confusions=counts, groups=(None,) * images, image_ids=tuple(map(str, range(images))))
    return failures, evaluation


def test_a_larger_input_where_small_components_lose_most() -> None:
    here = searched()
    assert larger_input(here, *small_things(SMALL_SHARE - 0.001)) == [], "half is not most"
    (found,) = larger_input(here, *small_things(SMALL_SHARE + 0.02))
    assert found.parameters[0].choices == ("96x128", "120x160", "144x192") and found.parameters[0].default == "96x128"
    assert found.point == {"image_size": "120x160"}
    assert "lose 0.52 [0.52, 0.52] of the IoU" in found.why
    assert larger_input(here, *small_things(SMALL_SHARE + 0.02, spread=0.3)) == [], "the interval holds a half"
    assert larger_input(here, *small_things(0.9, images=19)) == [], "too few images"


def test_sizes_above_the_winners_are_not_proposed_again() -> None:
    space = SPACES.get("full")(MODELS, "none", image_size=(96, 128))
    winner = space.trial_config(BASE, space.start[0]).flat()
    assert larger_input(Searched(space, BASE, winner), *small_things(0.9)) == []
    (found,) = larger_input(Searched(space, BASE, {**winner, "image_size": "120x160"}), *small_things(0.9))
    assert found.parameters[0].choices == ("96x128", "120x160", "152x200", "176x240")


def test_what_small_components_cost_is_counted_by_hand() -> None:
    failures, _ = small_things(0.25, images=2)
    small, total = lost_by_size(failures)
    assert small.tolist() == pytest.approx([0.25, 0.25]) and total.tolist() == pytest.approx([1, 1])


def classes_at(iou_of_cone: float, *, cone: int = 10, images: int = 40, seen: int = 40) -> tuple[Any, ...]:
    """Road and car at an IoU of 0.8, the rarest class at another."""
    matrix = np.zeros((4, 4), int)
    for class_id, value in ((1, 0.8), (2, 0.8), (3, iou_of_cone)):
        matrix[class_id, class_id], matrix[class_id, 0] = round(1000 * value), round(1000 * (1 - value))
    counts = np.repeat(matrix[None], images, axis=0)
    counts[seen:, 3] = 0
    evaluation = SimpleNamespace(confusions=counts, groups=(None,) * images, image_ids=tuple(map(str, range(images))))
    return evaluation, kinds_by_name(NAMES), NAMES, [500, 300, 200 - cone, cone]


def test_weights_for_rare_classes_where_they_stand_clearly_below_the_others() -> None:
    here = searched()
    (found,) = for_rare_classes(here, *classes_at(0.8 - LEAST_GAP - 0.01))
    assert found.parameters[0].choices == ("cross_entropy", "weighted_cross_entropy", "cross_entropy+dice")
    assert found.point["loss.name"] == "weighted_cross_entropy"
    assert (
        "1 class with less than 6.25% of train's pixels each (cone) has a mean IoU of 0.69, the others 0.80"
        in found.why
    )
    assert for_rare_classes(here, *classes_at(0.8 - LEAST_GAP + 0.001)) == []
    assert for_rare_classes(here, *classes_at(0.1, images=19, seen=19)) == [], "too few images"
    assert for_rare_classes(here, *classes_at(0.1, seen=9)) == [], "in too few images"
    assert for_rare_classes(here, *classes_at(0.1, seen=10)) != []


def test_a_class_is_rare_below_a_quarter_of_an_equal_share() -> None:
    here = searched()
    limit = int(1000 * RARE_SHARE / 4)
    assert for_rare_classes(here, *classes_at(0.1, cone=limit)) != []
    assert for_rare_classes(here, *classes_at(0.1, cone=limit + 1)) == []


def test_weights_are_not_proposed_where_the_space_tries_them() -> None:
    assert for_rare_classes(searched("loss"), *classes_at(0.1)) == []
