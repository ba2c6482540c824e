"""The methods paragraph has the sweep's own numbers, and is silent about what was not done."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from analysis.report.methods import RESIZED, methods_text
from search_spaces.core.parameter import choice
from sweep.manifest import Budget, SearchRecord
from sweep.resources import Resources
from trainables.labels import MAJORITY
from trainables.options import RESIZES

from ..synthetic_run import make_results, with_verdict


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return make_results(tmp_path_factory.mktemp("run"), images=3)[0]


def with_manifest(results, **changes):
    return replace(results, manifest=replace(results.manifest, **changes))


def with_configs(results, *changes):
    """The labels with these keys in their configurations, in turn."""
    labels = {}
    for place, (label, record) in enumerate(results.labels.items()):
        flat = record.config.flat() | changes[place % len(changes)]
        labels[label] = SimpleNamespace(**vars(record) | {"config": SimpleNamespace(flat=lambda flat=flat: flat)})
    return replace(results, labels=labels)


def test_how_images_came_to_the_input_is_told_where_it_was_the_same_for_all(results):
    fitted = methods_text(with_configs(results, {"resize": "letterbox"}))
    assert "resized to fit within the model's input with its aspect kept" in fitted and "stretched" not in fitted
    assert set(RESIZED) == set(RESIZES)
    mixed = methods_text(with_configs(results, {"resize": "letterbox"}, {"resize": "stretch"}))
    assert len(results.labels) > 1 and "stretched" not in mixed and "resized" not in mixed


def test_every_number_is_the_runs_own(results):
    text = methods_text(results)
    trials = results.trials[results.trials["phase"] == "search"]
    completed, stopped = ((trials["state"] == state).sum() for state in ("completed", "stopped"))
    finished = ((results.trials["phase"] == "finish") & (results.trials["state"] == "completed")).sum()
    for told in (
        "The data set synthetic has 8 classes; 300 images were used for training, 100 for validation and 3 for "
        "testing.",
        "Origin of the splits: drawn with seed 0.",
        "The reported model is lraspp_mobilenet_v3_large.",
        "an image size of 96x128 (height x width), a batch size of 8, the optimizer adamw and the loss cross_entropy.",
        "Each image was stretched to the size of the model's input.",
        "The search space augment, which varies optimizer.lr, augment.policy, augment.rotate.limit, was searched with "
        f"{len(trials)} trials of at most 8 epochs each.",
        f"The first 2 were the known-good baseline and other starting points, the other {len(trials) - 2} were "
        "proposed by Optuna's tree-structured Parzen estimator (TPE) with seed 0.",
        "by val/miou (highest first)",
        "was asynchronous successive halving (ASHA); the baseline was exempt",
        f"{completed} ran to the last epoch, {stopped} stopped early, 1 diverged or ran out of memory.",
        f"{finished} trials that had been stopped early went on to the last epoch afterwards",
        f"The {len(results.trials)} trials of all phases took",
        "on A Processor.",
        "models were evaluated on the 3 test images, at the original size of their masks; the test split has been "
        "opened 2 times so far.",
        "over 3 images",
    ):
        assert told in text
    assert "nan" not in text and "None" not in text and "{" not in text and "  " not in text and ".." not in text


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (0, "They were proposed by Optuna's"),
        (1, "The first was the known-good baseline, the other 11 were proposed by"),
        (11, "The first 11 were the known-good baseline and other starting points, the other one was proposed by"),
        (12, "All of them were given by the space, the known-good baseline first."),
    ],
)
def test_starting_points_are_not_the_samplers(results, given, told):
    trials = results.trials[results.trials["phase"] == "search"].head(12)
    assert len(trials) == 12 and told in methods_text(replace(results, trials=trials, starting_points=given))


def test_what_was_not_done_is_not_told(results):
    plain = methods_text(results)
    assert "other configuration" not in plain and "winner" not in plain and "budget" not in plain
    assert "frozen" not in plain and "at a time" not in plain
    bare = results.comparison.copy()
    lows = [column for column in bare if column.endswith("_low")]
    bare.loc[bare["label"] != MAJORITY, lows] = np.nan
    assert "ntervals" not in methods_text(replace(results, comparison=bare))
    on_val = methods_text(replace(results, split="val"))
    assert (
        "3 validation images, at the original size of their masks; these images had also ranked the trials." in on_val
    )
    assert "opened" not in on_val
    assert "The rule" not in methods_text(with_manifest(results, search=SearchRecord("tpe", "none")))
    seeds = replace(results.manifest.space, parameters=(choice("seed", (1, 2, 3)),))
    assert "The rule" not in methods_text(with_manifest(results, space=seeds)), "where seeds are tried nothing stops"


def test_fresh_seeds_and_ablation_are_told_with_their_numbers(results):
    text = methods_text(with_verdict(results))
    assert "The baseline and 1 other configuration were trained: 3 seeds each." in text
    assert "compared on test by a test of several against one (Dunnett, 1955), to whose variance over seeds" in text
    assert "also trained without each of 2 components, 3 seeds each, and compared with that on val." in text
    assert "one seed" not in text
    assert "over images is added" not in methods_text(with_verdict(results, units=0))
    fresh = results.trials.assign(phase="confirm")
    assert "were trained again, with fresh seeds: 3 seeds each." in methods_text(with_verdict(results, trials=fresh))


def test_budgets_are_those_of_the_search_or_of_the_whole(results):
    text = methods_text(with_manifest(results, budget=Budget(trials=9, max_epochs=1, time_budget=5400.0, gpu_hours=2)))
    assert "The time budget of the search was 1 h 30 min. The budget of the search was 2 GPU hours." in text
    assert "trials of at most 1 epoch each." in text
    several = with_manifest(results, resources=Resources(cpus_per_trial=1.0, gpus_per_trial=0.0, concurrent=3))
    assert "trials of all phases, up to 3 of which ran at a time, took" in methods_text(several)


def test_models_are_told_as_far_as_they_agree(results):
    frozen = methods_text(with_configs(results, {"training.freeze": "backbone", "model.weights": "imagenet"}))
    assert "Training started from predefined weights (imagenet). The whole backbone stayed frozen. All" in frozen
    mixed = methods_text(with_configs(results, {"training.freeze": "stages", "batch_size": 4}, {"batch_size": 8}))
    assert "The first half of the backbone's layers" in mixed and "stayed frozen in some of them." in mixed
    assert "a batch size" not in mixed and "the optimizer adamw and the loss" in mixed
    assert "Training started from random weights." in methods_text(with_configs(results, {"model.weights": "none"}))
