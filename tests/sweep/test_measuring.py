"""What is measured before a sweep, and what follows from it for combinations that are not, worked by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from search_spaces import SearchSpace, find_space
from search_spaces.common import known_good_training
from search_spaces.core.parameter import choice
from sweep.forecast import RAY_SECONDS, TRIAL_SECONDS, WORKER_SECONDS, Forecast
from sweep.measuring import combined, most_expensive, probes, variants
from sweep.plan import MeasuredCost, cost_of
from sweep.planning import Setting, predict
from trainables.cost import Cost
from trainables.registry import Scalar

MODELS = ["lraspp_mobilenet_v3_large", "fcn_resnet50"]
BASE: Mapping[str, Scalar] = {
    "image_size": "96x128", "epochs": 5, "model.name": MODELS[0], "model.weights": "imagenet", "seed": 0,
    **known_good_training("imagenet"),
}  # fmt: skip


def full(models: list[str] = MODELS, **held: Scalar) -> SearchSpace:
    space = find_space("full", image_size=(96, 128))(models, "imagenet")
    return space.fix({key.replace("__", "."): value for key, value in held.items()})


def cost(config: Mapping[str, Any]) -> Cost:
    """An epoch whose parts multiply: ten times for the large model, the area, an eighth less for each doubled batch."""
    height, width = map(int, str(config["image_size"]).split("x"))
    size = height * width / (96 * 128)
    model = 10.0 if config["model.name"] == MODELS[1] else 1.0
    batches = {4: 1.5, 8: 1.0, 16: 0.8}[config["batch_size"]]
    frozen = {"backbone": 0.4, "stages": 0.7}.get(config["training.freeze"], 1.0)
    memory = round(10**9 * model * size * config["batch_size"] / 8 * frozen)
    return Cost(0.5, 8.0 * size * model * batches * frozen, 2.0 * size * model, memory, 10**7)


def test_everything_that_decides_the_cost_is_measured_one_at_a_time() -> None:
    asked = probes(full(), BASE)
    assert asked[0][0] == "lraspp_mobilenet_v3_large at 96x128", "what the others are compared with comes first"
    others = [name for name, _ in asked[6:]]
    kept = [what for what in ("batch_norm", "stages", "backbone") if what != BASE["training.freeze"]]
    assert others == ["batch_size 4", "batch_size 16", *(f"training.freeze {what}" for what in kept)]
    assert {name for name, _ in asked[:6]} == {
        f"{model} at {size}" for model in MODELS for size in ("72x96", "96x128", "120x160")
    }


def test_costs_of_combinations_are_products_of_what_was_measured() -> None:
    configs = [config for _, config in probes(full(), BASE)]
    costs = combined(configs, [cost(config) for config in configs])
    assert len(costs) == len(MODELS) * 3 * 3 * 3
    for one in costs:
        expected = cost(one.settings())
        assert one.cost.train_seconds == pytest.approx(expected.train_seconds)
        assert one.cost.val_seconds == pytest.approx(expected.val_seconds)
        assert one.cost.memory_bytes == pytest.approx(expected.memory_bytes, rel=1e-6)
        assert cost_of(costs, {**one.settings(), "loss.name": "dice"}) == one.cost


def test_ways_that_images_come_to_the_input_have_costs_of_their_own_where_a_space_searches_them() -> None:
    ways = choice("resize", ["letterbox", "tile"], role="scientific", reason="some")
    held = full(image_size="96x128")
    start = tuple({**point, "resize": "letterbox"} for point in held.start)
    space = dataclasses.replace(held, parameters=(*held.parameters, ways), start=start)
    asked = probes(space, BASE)
    names = {f"{model} at 96x128, {way}" for model in MODELS for way in ("letterbox", "tile")}
    assert {name for name, _ in asked[:4]} == names

    def longer(config: Mapping[str, Any]) -> Cost:
        found = cost(config)
        return dataclasses.replace(found, train_seconds=found.train_seconds * (20 if config["resize"] == "tile" else 1))

    costs = combined([config for _, config in asked], [longer(config) for _, config in asked])
    config = {"model.name": MODELS[0], "image_size": "96x128", "training.freeze": "backbone", "batch_size": 8}
    slow, quick = (cost_of(costs, {**config, "resize": way}) for way in ("tile", "letterbox"))
    assert slow is not None and quick is not None
    assert slow.train_seconds == pytest.approx(20 * quick.train_seconds)
    assert str(costs[-1]).startswith("fcn_resnet50 at 96x128, tile, batches of ")


def test_what_a_space_holds_is_no_part_of_its_costs() -> None:
    space = full(MODELS[:1], image_size="64x64", batch_size=4, training__freeze="backbone")
    asked = probes(space, BASE)
    assert [name for name, _ in asked] == ["lraspp_mobilenet_v3_large at 64x64"]
    (one,) = combined([config for _, config in asked], [cost(asked[0][1])])
    assert (one.batch_size, one.freeze, str(one)) == (0, "", "lraspp_mobilenet_v3_large at 64x64")
    assert one.cost == cost(
        {"model.name": MODELS[0], "image_size": "64x64", "batch_size": 4, "training.freeze": "backbone"}
    )


def test_rate_that_is_held_for_a_backbone_that_learns_does_not_hide_what_freezing_saves() -> None:
    configs = [config for _, config in probes(full(MODELS[:1], training__backbone_lr=0.05), BASE)]
    costs = combined(configs, [cost(config) for config in configs])
    assert {one.freeze for one in costs} == {"batch_norm", "stages", "backbone"}


def test_a_batch_size_between_those_measured_costs_what_its_model_and_size_do() -> None:
    costs = [
        MeasuredCost("a", "32x32", Cost(0, 9.0, 1.0), 4, "none"),
        MeasuredCost("a", "64x64", Cost(0, 36.0, 4.0), 4),
    ]
    config = {"model.name": "a", "image_size": "64x64", "batch_size": 6, "training.freeze": "none"}
    assert cost_of(costs, config) == costs[1].cost
    assert cost_of(costs, {**config, "model.name": "b"}) is None


def test_plan_of_a_space_with_sizes_counts_each_at_its_cost() -> None:
    choices = choice("image_size", ("32x32", "96x96"), default="96x96")
    sizes = SearchSpace("sizes", "Which?", (choices,), "image_size")
    base = {"model.name": "a", "image_size": "96x96", "epochs": 5}
    costs = (MeasuredCost("a", "32x32", Cost(0, 1.0, 0.0)), MeasuredCost("a", "96x96", Cost(0, 10.0, 0.0)))
    setting = Setting(sizes, base, costs, "none", 1, 0.0, 0.0, False, 30, 10, 100.0, 10)
    each = (predict(setting, 400, 4).busy_seconds - WORKER_SECONDS) / 400
    assert each == pytest.approx(TRIAL_SECONDS + 4 * (1.0 + 10.0) / 2, rel=0.05)


def test_forecast_begins_with_the_cost_of_what_is_frozen() -> None:
    costs = [
        MeasuredCost("a", "32x32", Cost(0, 8.0, 2.0), 8, "none"),
        MeasuredCost("a", "32x32", Cost(0, 2.0, 2.0), 8, "backbone"),
    ]
    forecast = Forecast(costs)
    learning = {"model.name": "a", "image_size": "32x32", "batch_size": 8, "training.freeze": "none"}
    frozen = {**learning, "training.freeze": "backbone"}
    assert (forecast.epoch_seconds(learning), forecast.epoch_seconds(frozen)) == (10.0, 4.0)
    forecast.on_event({"event": "suggested", "trial_id": "t0", "config": learning, "spent_s": 0.0})
    forecast.on_event({"event": "result", "trial_id": "t0", "seconds": 15.0, "spent_s": 16.0})
    assert (forecast.epoch_seconds(learning), forecast.epoch_seconds(frozen)) == (15.0, 6.0)


def test_check_tries_the_most_expensive_of_everything_together() -> None:
    measured = [(config, cost(config)) for _, config in variants(full(), BASE)]
    dear = most_expensive(measured)
    assert dear is not None
    assert {key: dear[key] for key in ("model.name", "image_size", "batch_size")} == {
        "model.name": "fcn_resnet50", "image_size": "120x160", "batch_size": 16,
    }  # fmt: skip
    assert dear["training.freeze"] in ("none", "batch_norm")
    assert most_expensive([(config, Cost(fault="no")) for config, _ in measured]) is None


def test_trial_whose_process_ended_has_to_start_again_until_it_reports() -> None:
    forecast = Forecast(())
    config = {"model.name": "a", "epochs": 3}
    forecast.on_event({"event": "suggested", "trial_id": "t000", "config": config, "spent_s": 10.0})
    assert forecast.restart_seconds("t000") == 0.0
    start = WORKER_SECONDS + forecast.start_seconds()
    forecast.on_event({"event": "restarted", "trial_id": "t000", "spent_s": 11.0})
    assert forecast.restart_seconds("t000") == start
    forecast.on_event({"event": "resumed", "spent_s": 12.0})
    assert forecast.restart_seconds("t000") == start + RAY_SECONDS, "the whole session has ended"
    forecast.on_event({"event": "result", "trial_id": "t000", "epoch": 1, "seconds": 2.0, "spent_s": 40.0})
    assert forecast.restart_seconds("t000") == 0.0
    assert forecast.epoch_seconds(config) == 0.0, "the epoch that it reports took a start of unknown length, too"
    forecast.on_event({"event": "result", "trial_id": "t000", "epoch": 2, "seconds": 2.0, "spent_s": 43.0})
    assert forecast.epoch_seconds(config) == 3.0
