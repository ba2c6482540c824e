"""The methods paragraph has the sweep's own numbers, and is silent about what was not done."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.report.methods import methods_text
from trainables.labels import MAJORITY

from ..synthetic_run import make_results, with_verdict


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return make_results(tmp_path_factory.mktemp("run"), images=3)[0]


def test_every_number_is_the_runs_own(results):
    text = methods_text(results)
    trials = results.trials[results.trials["phase"] == "search"]
    completed, stopped = ((trials["state"] == state).sum() for state in ("completed", "stopped"))
    for told in (
        "The data set synthetic has 8 classes; 300 images were used for training, 100 for validation and 3 for "
        "testing.",
        "Origin of the splits: drawn with seed 0.",
        "The reported models are lraspp_mobilenet_v3_large.",
        "an image size of 96x128 (height x width), a batch size of 8, the optimizer adamw, the loss cross_entropy",
        f"{len(trials)} configurations of the search space augment, which varies optimizer.lr, augment.policy, "
        "augment.rotate.limit, were tried for at most 8 epochs, proposed by Optuna's tree-structured Parzen estimator "
        "(TPE) with seed 0.",
        "by asynchronous successive halving (ASHA)",
        f"Of these trials {completed} ran to their last epoch, {stopped} were stopped early, 1 diverged or ran out of",
        "Trials were ranked by val/miou (max).",
        "evaluated on the 3 test images; the test split was opened 2 times.",
        "over 3 images, by the jackknife",
    ):
        assert told in text
    assert "nan" not in text and "None" not in text and "{" not in text


def test_what_was_not_done_is_not_told(results):
    plain = methods_text(results)
    assert "The baseline and" not in plain and "winner" not in plain and "budget" not in plain
    done = methods_text(with_verdict(results))
    assert "The baseline and 1 configuration were trained with 3 seeds each and compared on test" in done
    assert "The winner was trained again without each of 2 components" in done
    assert "one seed" not in done
    bare = results.comparison.copy()
    lows = [column for column in bare if column.endswith("_low")]
    bare.loc[bare["label"] != MAJORITY, lows] = np.nan
    assert "ntervals" not in methods_text(replace(results, comparison=bare))
    on_val = methods_text(replace(results, split="val"))
    assert "3 validation images, which ranked the trials" in on_val and "opened" not in on_val
