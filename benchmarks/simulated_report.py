"""Sweeps of equals, simulated image by image, and what the report's own rules say of them.

A configuration does as well on each image as every other, but for luck with the image, which is its own, and a seed's
luck, which moves it on all images. A search trains configurations of several labels with one seed each, val picks;
with a confirmation the best few and the baseline have fresh seeds. What val and test then show goes through the code
that makes a report's verdict, standings and sentences.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.answer import answer
from analysis.comparison import comparison_frame
from analysis.confirmation import confirmation_frame, verdict_on_split
from analysis.dead import above_floor, dead_labels
from analysis.failures.measure import COLUMNS as FAILURE_COLUMNS
from analysis.report.sections.answer import caveats, lead_claims, other_claims
from analysis.report.sections.standings import standing_claims
from analysis.results import Results, chosen_here
from analysis.scores import score_labels
from analysis.standings import standings
from sweep.deciding import decide
from sweep.objectives import DEFAULT, objective_of
from sweep.verdict import Confirmed, Verdict
from trainables.labels import BASELINE, BEST, MAJORITY
from trainables.metrics import Replicates, sampling_units

PIXELS = 3000
SHARES = np.array([0.55, 0.3, 0.15])
SKILL = np.array([2.0, 1.2, 0.6])
"""Logits of the recall of each class."""
DIFFICULTY, LUCK, SEED = 0.5, 0.5, 0.055
"""Standard deviations in these logits: of images for all, of a configuration on an image, of a seed on all images."""
OBJECTIVE = objective_of(str(DEFAULT))
CLAIM = re.compile(r"\b(better|worse)\b")
CHECKPOINTS = re.compile(r"\bscores? (higher|lower)\b")


@dataclass(frozen=True)
class Design:
    """Of a sweep.

    Attributes:
        tried: Configurations beside the baseline.
        picked: Configurations that get fresh seeds; none without a confirmation.
        seeds: Fresh ones of each.
        images: Of val, and of test.
        labels: How many the configurations are dealt out to.
        gain: Of every configuration over the baseline, in the logits; 0 in a sweep of equals.
    """

    tried: int = 20
    picked: int = 2
    seeds: int = 3
    images: int = 100
    labels: int = 4
    gain: float = 0.0


@dataclass(frozen=True)
class Said:
    """What the report of a sweep of equals says on a split.

    Attributes:
        better: Whether a sentence or a row of the table calls a configuration better or worse than another.
        checkpoints: Whether it tells two checkpoints apart.
    """

    better: bool
    checkpoints: bool


class Sweep:
    """One simulated sweep.

    Args:
        design: Of it.
        seed: Of everything.
    """

    def __init__(self, design: Design, seed: int) -> None:
        self.design = design
        self._rng = np.random.default_rng([seed, design.tried, design.picked, design.seeds, design.images])
        self._truth = {split: self._rng.multinomial(PIXELS, SHARES, design.images) for split in ("val", "test")}
        self._difficulty = {split: DIFFICULTY * self._normal(design.images) for split in self._truth}
        self._luck = {split: LUCK * self._normal(design.tried + 1, design.images, len(SHARES)) for split in self._truth}
        self.evaluations: dict[str, dict[str, Any]] = {split: {} for split in self._truth}
        self.scores: dict[str, float] = {}
        for configuration in range(design.tried + 1):
            self._train(f"t{configuration}", configuration)

    def _normal(self, *shape: int) -> npt.NDArray[np.float64]:
        return self._rng.standard_normal(shape)

    def _train(self, trial_id: str, configuration: int) -> None:
        seed = SEED * self._normal(len(SHARES))
        for split, truth in self._truth.items():
            gain = self.design.gain if configuration else 0.0
            logits = SKILL + gain + seed + self._difficulty[split][:, None] + self._luck[split][configuration]
            hit = np.round(truth / (1 + np.exp(-logits))).astype(np.int64)
            confusions = np.zeros((len(truth), 3, 3), np.int64)
            for own in range(3):
                confusions[:, own, own] = hit[:, own]
                confusions[:, own, (own + 1) % 3] = truth[:, own] - hit[:, own]
            self.evaluations[split][trial_id] = _evaluation(trial_id, split, confusions)
        once = np.ones((1, self.design.images))
        self.scores[trial_id] = float(OBJECTIVE.metric(Replicates(self.evaluations["val"][trial_id], once))[0])

    def confirm(self) -> Verdict:
        """Trains the best few and the baseline with fresh seeds; the verdict on val."""
        design = self.design
        searched = sorted(range(1, design.tried + 1), key=lambda one: -self.scores[f"t{one}"])
        found = []
        for configuration in (0, *searched[: design.picked]):
            trials = tuple(f"t{configuration}-s{number}" for number in range(design.seeds))
            for trial_id in trials:
                self._train(trial_id, configuration)
            own = tuple(self.scores[trial_id] for trial_id in trials)
            found.append(Confirmed(f"t{configuration}", self.label(configuration), trials, tuple(range(len(own))), own))
        return decide(
            found, OBJECTIVE, split="val", collected=lambda trial: self.evaluations["val"][trial],
            units=sampling_units([None] * design.images), chosen_from=design.tried,
        )  # fmt: skip

    def label(self, configuration: int) -> str:
        """Of a configuration."""
        return BASELINE if configuration == 0 else f"label {configuration % self.design.labels}"

    def labels(self, winner: str | None) -> dict[str, Any]:
        """The best trial of each label on val, and `best`, as records."""
        chosen: dict[str, str] = {}
        for configuration in range(self.design.tried + 1):
            label, trial_id = self.label(configuration), f"t{configuration}"
            if label not in chosen or self.scores[trial_id] > self.scores[chosen[label]]:
                chosen[label] = trial_id
        chosen[BEST] = winner or max(chosen.values(), key=lambda one: self.scores[one])
        order = [BASELINE, BEST, *(label for label in chosen if label not in (BASELINE, BEST))]
        return {label: _record(chosen[label], self.scores[chosen[label]]) for label in order}

    def results(self, split: str, on_val: Verdict | None) -> Results:
        """What `analysis.results` would put together."""
        labels = self.labels(None if on_val is None else on_val.winner)
        evaluations = self.evaluations[split]
        verdict = on_val if on_val is None or split == "val" else verdict_on_split(on_val, OBJECTIVE, evaluations)
        used = {record.trial_id for record in labels.values()}
        of_labels = {trial_id: evaluations[trial_id] for trial_id in used}
        of_labels[MAJORITY] = _majority(evaluations["t0"])
        picked = chosen_here(split, labels)
        scores = score_labels(of_labels, picked=picked)
        trials = pd.DataFrame(
            {
                "trial_id": f"t{one}", "label": self.label(one), "phase": "search", "state": "completed", "parent": "",
                "config/optimizer.lr": float(one), "config/seed": 0,
            }
            for one in range(self.design.tried + 1)
        )  # fmt: skip
        trial_ids = {label: record.trial_id for label, record in labels.items()}
        dead = dead_labels(trial_ids, of_labels)
        known: dict[str, Any] = {
            "run_dir": Path("runs/simulated"),
            "manifest": _MANIFEST,
            "split": split,
            "labels": labels,
            "evaluations": of_labels,
            "comparison": comparison_frame(labels, of_labels, scores),
            "failures": pd.DataFrame(columns=list(FAILURE_COLUMNS)),
            "trials": trials,
            "verdict": verdict,
            "confirmation": confirmation_frame(verdict, OBJECTIVE),
            "answer": answer(labels, of_labels, scores, objective=OBJECTIVE),
            "standing": tuple(
                standings(labels, of_labels, scores, verdict, trials, objective=OBJECTIVE, dead=dead)
            ),
            "dead": dead,
            "above_floor": above_floor(
                BEST, of_labels[labels[BEST].trial_id], of_labels[MAJORITY], OBJECTIVE,
                picked=labels[BEST].trial_id in picked,
            ),
            "stages": (),
            "openings": 1,
            "unconfirmed": "",
            "notes": (),
        }  # fmt: skip
        return Results(**{field.name: known.get(field.name) for field in dataclasses.fields(Results)})


def said(results: Results) -> Said:
    """What the sentences and the table of standings say."""
    claims = [*lead_claims(results), *caveats(results), *other_claims(results), *standing_claims(results)]
    texts = [claim.text.striptags() for claim in claims]
    table = results.standings
    outcomes = {*table["outcome"], *table["to_winner_outcome"]}
    return Said(
        better=any(map(CLAIM.search, texts)) or bool(outcomes & {"better", "worse"}),
        checkpoints=any(map(CHECKPOINTS.search, texts)) or bool(outcomes & {"higher", "lower"}),
    )


def play(design: Design, seed: int) -> dict[str, Said]:
    """A sweep of equals; what its report says on val and on test, without a confirmation and with it."""
    sweep = Sweep(design, seed)
    told = {f"{split}, one seed each": said(sweep.results(split, None)) for split in ("val", "test")}
    if design.picked:
        verdict = sweep.confirm()
        told |= {f"{split}, fresh seeds": said(sweep.results(split, verdict)) for split in ("val", "test")}
    return told


def _evaluation(trial_id: str, split: str, confusions: npt.NDArray[np.int64]) -> Any:
    images = len(confusions)
    return SimpleNamespace(
        trial_id=trial_id,
        split=split,
        image_ids=tuple(map(str, range(images))),
        groups=(None,) * images,
        confusions=confusions,
        confidence=np.where(confusions.sum(axis=1) > 0, 0.5, np.nan),
        histograms=(flat := _flat_scores(confusions)),
        histogram_blocks=lambda class_id: [flat(class_id)],
        score_totals=lambda class_id: flat(class_id).sum(axis=0),
        latency_ms=1.0,
    )


def _flat_scores(confusions: npt.NDArray[np.int64]) -> Callable[[int], npt.NDArray[np.int64]]:
    """Histograms of two levels: predicted as the class, or not."""

    def histograms(class_id: int) -> npt.NDArray[np.int64]:
        own, predicted = confusions[:, class_id].sum(axis=1), confusions[:, :, class_id]
        hit, wrong = predicted[:, class_id], np.delete(predicted, class_id, axis=1).sum(axis=1)
        others = confusions.sum(axis=(1, 2)) - own
        return np.stack([np.stack([own - hit, hit], 1), np.stack([others - wrong, wrong], 1)], axis=1)

    return histograms


def _majority(evaluation: Any) -> Any:
    confusions = np.zeros_like(evaluation.confusions)
    confusions[:, :, 0] = evaluation.confusions.sum(axis=2)
    return _evaluation(MAJORITY, evaluation.split, confusions)


def _record(trial_id: str, score: float) -> Any:
    config: Mapping[str, Any] = {
        "model.name": "m", "augment.policy": "p", "loss.name": "l", "optimizer.lr": float(trial_id[1:]), "seed": 0,
    }  # fmt: skip
    return SimpleNamespace(
        trial_id=trial_id,
        config=SimpleNamespace(flat=lambda: dict(config)),
        epochs=1,
        parameters=1,
        train_seconds=1.0,
        metrics={OBJECTIVE.key: score},
        history=(),
    )


_MANIFEST = SimpleNamespace(
    name="simulated",
    objective=OBJECTIVE.key,
    direction="max",
    further_objectives=(),
    data=SimpleNamespace(classes=()),
    space=SimpleNamespace(label_by="augment.policy", parameters=()),
)
