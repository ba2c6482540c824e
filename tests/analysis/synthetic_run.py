"""A made-up run of known content for the report's tests: no training, no model, hostile names on request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from analysis.answer import Answer
from analysis.candidates import seeds_frame
from analysis.confirmation import components_frame, confirmation_frame
from analysis.dead import AboveFloor
from analysis.failures.changes import changes_between
from analysis.failures.factors import ALL_FACTORS, FACTORS
from analysis.failures.kinds import class_kinds
from analysis.failures.label_errors import COLUMNS as LABEL_ERROR_COLUMNS
from analysis.failures.reasons import CURVE_COLUMNS, EFFECT_COLUMNS, component_tables, curve_frame, factor_frame
from analysis.failures.slices import slice_frame
from analysis.failures.split import (
    class_type_frame,
    component_frame,
    image_type_frame,
    measure_image,
    measure_split,
    type_frame,
)
from analysis.foreseen import COLUMNS as FORESEEN_COLUMNS
from analysis.pictures import photo_uri
from analysis.results import Results
from analysis.scores import Score
from analysis.stages import stages
from analysis.standings import standings
from analysis.strengths import strengths
from analysis.trade_off import pareto_frame
from search_spaces import SearchSpace, When
from search_spaces.core.parameter import Parameter, choice
from sweep.claims import Contrast
from sweep.manifest import Budget, DataRecord, ObjectiveRecord, SearchRecord, SplitRecord, SplitRecords, SweepManifest
from sweep.objectives import objective_of, recorded_objectives
from sweep.pareto import Point, TradeOff
from sweep.verdict import Confirmed, Verdict
from trainables.data.base import VOID, ClassInfo, Image, Mask, SegmentationData, Splits
from trainables.metrics import sampling_units

from ..manifests import make_manifest

CLASSES = (
    ClassInfo("sky", (120, 170, 220)),
    ClassInfo("road", (96, 88, 104)),
    ClassInfo("building", (158, 92, 70)),
    ClassInfo("tree", (58, 122, 62)),
    ClassInfo("car", (20, 60, 160)),
    ClassInfo("person", (210, 40, 80)),
    ClassInfo("pole", (230, 200, 60)),
    ClassInfo("absent", (255, 255, 255)),
)
HOSTILE_CLASSES = (
    ClassInfo("<script>alert(1)</script>", (120, 170, 220)),
    ClassInfo("50%_of $a & #b {c}", (96, 88, 104)),
    ClassInfo("quote \" and ' back\\slash", (158, 92, 70)),
    ClassInfo("tree", (58, 122, 62)),
    ClassInfo("car", (20, 60, 160)),
    ClassInfo("person", (210, 40, 80)),
    ClassInfo("pole", (230, 200, 60)),
    ClassInfo("absent", (255, 255, 255)),
)
HOSTILE_IDS = ("../../escape", "quo\"te's", "<b>bold</b>", "a/b", "sp ace", "plain")
LABELS = ("baseline", "best", "photometric", "geometric")
METRICS = ("pixel_accuracy", "iou", "f1", "precision", "recall", "ap", "map")


class SyntheticData(SegmentationData):
    """Street-like pictures from a generator seeded by the image id."""

    name = "synthetic"
    root = Path("nowhere")
    default_image_size = (96, 128)

    def __init__(self, ids: Sequence[str], classes: tuple[ClassInfo, ...], size: tuple[int, int] = (96, 128)) -> None:
        self._ids = tuple(ids)
        self._size = size
        self.classes = classes

    def ids(self) -> Sequence[str]:
        return self._ids

    def paths(self, image_id: str) -> tuple[Path, Path]:
        raise NotImplementedError("nothing of this data set is on disk")

    def mask(self, image_id: str) -> Mask:
        rng = np.random.default_rng(_seed(image_id))
        height, width = self._size
        mask = np.zeros(self._size, np.uint8)
        horizon = int(height * rng.uniform(0.4, 0.6))
        mask[horizon:] = 1
        for class_id, count in ((2, 3), (3, 3), (4, 2), (5, 2), (6, 2)):
            for _ in range(int(rng.integers(1, count + 1))):
                tall = int(height * {2: 0.4, 3: 0.3, 4: 0.18, 5: 0.22, 6: 0.5}[class_id] * rng.uniform(0.5, 1.2))
                wide = int(width * {2: 0.2, 3: 0.12, 4: 0.2, 5: 0.05, 6: 0.02}[class_id] * rng.uniform(0.6, 1.3)) + 1
                left = int(rng.integers(0, width - wide))
                base = min(height, horizon + int(rng.integers(0, height // 4 if class_id > 3 else 4)))
                mask[max(0, base - tall) : base, left : left + wide] = class_id
        edges = np.zeros_like(mask, bool)
        edges[:-1] |= mask[:-1] != mask[1:]
        edges[:, :-1] |= mask[:, :-1] != mask[:, 1:]
        mask[edges] = VOID
        return mask

    def image(self, image_id: str) -> Image:
        rng = np.random.default_rng(_seed(image_id) + 1)
        mask = self.mask(image_id)
        table = np.full((256, 3), 128.0)
        table[: len(self.classes)] = [info.color for info in self.classes]
        noisy = table[mask] * rng.uniform(0.6, 1.1) + rng.normal(0, 12, (*mask.shape, 3))
        return np.clip(noisy, 0, 255).astype(np.uint8)

    def splits(self, *, seed: int = 0) -> Splits:
        return Splits(train=(), val=(), test=self._ids, origin="made up")


class SyntheticEvaluation:
    """Predictions that are the truth with a part of every image spoilt, and their confusion matrices."""

    def __init__(self, data: SyntheticData, trial_id: str, spoil: float) -> None:
        self.image_ids = tuple(data.ids())
        self.groups = (None,) * len(self.image_ids)
        self._data, self._trial_id, self._spoil = data, trial_id, spoil
        count = len(data.classes)
        self.confusions = np.zeros((len(self.image_ids), count, count), np.int64)
        for place, image_id in enumerate(self.image_ids):
            truth, predicted = data.mask(image_id), self.prediction(image_id)
            counted = truth != VOID
            pairs = truth[counted].astype(int) * count + predicted[counted]
            self.confusions[place] = np.bincount(pairs, minlength=count * count).reshape(count, count)

    def prediction(self, image_id: str) -> Mask:
        rng = np.random.default_rng(_seed(image_id + self._trial_id))
        truth = self._data.mask(image_id)
        predicted = np.where(truth == VOID, np.roll(truth, 1, axis=1), truth)
        predicted[predicted == VOID] = 1
        for _ in range(int(8 * self._spoil * 2)):
            height, width = truth.shape
            top, left = int(rng.integers(0, height)), int(rng.integers(0, width))
            box = predicted[top : top + height // 4, left : left + width // 5]
            box[:] = rng.integers(0, 7)
        return np.asarray(np.roll(predicted, int(rng.integers(0, 3)), axis=1), dtype=np.uint8)


def make_results(
    run_dir: Path, *, images: int = 12, hostile: bool = False, labels: Sequence[str] = LABELS, trials: int = 12
) -> tuple[Results, SyntheticData]:
    """Frames with the contract's columns, counted from real masks by plain loops; the data they were counted from."""
    classes = HOSTILE_CLASSES if hostile else CLASSES
    ids = (HOSTILE_IDS if hostile else tuple(f"scene_{index:04d}" for index in range(images)))[:images]
    data = SyntheticData(ids, classes)
    rng = np.random.default_rng(7)
    records = {
        label: SimpleNamespace(
            trial_id=f"{place:04d}f",
            label=label,
            classes=classes,
            config=SimpleNamespace(flat=lambda place=place, label=label: _config(place, label), image_size=(96, 128)),
            metrics={"val/miou": 0.52 + 0.03 * (label == "best") + 0.01 * place},
            applied={},
            parameters=3_218_110,
            epochs=8,
            train_seconds=41.5 + place,
            sha256=f"{place:064x}",
        )
        for place, label in enumerate(labels)
    }
    if len(labels) > 3:
        records[labels[3]].trial_id = records["best"].trial_id
    spoil = {label: 0.75 - 0.2 * (label == "best") - 0.05 * place for place, label in enumerate(labels)}
    evaluations = {}
    for label, record in records.items():
        if record.trial_id not in evaluations:
            evaluations[record.trial_id] = SyntheticEvaluation(data, record.trial_id, spoil[label])
    comparison, per_class, thresholds, failures = [], [], [], []
    for label, record in records.items():
        confusions = evaluations[record.trial_id].confusions
        total = confusions.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            hit = np.diagonal(total)
            iou = hit / (total.sum(0) + total.sum(1) - hit)
            precision, recall = hit / total.sum(0), hit / total.sum(1)
        row: dict[str, Any] = {
            "label": label,
            "trial_id": record.trial_id,
            "model": "lraspp_mobilenet_v3_large",
            "policy": "none" if label == "baseline" else "flip p=0.5, scale_crop p=0.8",
            "loss": "cross_entropy",
            "epochs": 8,
            "seeds": 1,
            "images": len(ids),
        }
        values = dict(
            zip(
                METRICS,
                (hit.sum() / total.sum(), *map(np.nanmean, (iou, iou, precision, recall, iou, iou))),
                strict=True,
            )
        )
        for metric in METRICS:
            row |= {metric: values[metric]}
            row |= {f"{metric}_low": values[metric] - 0.031, f"{metric}_high": values[metric] + 0.029}
        comparison.append(row | {"params": 3_218_110, "latency_ms": 21.7, "train_seconds": record.train_seconds})
        for class_id, info in enumerate(classes):
            per_class.append(
                {
                    "label": label,
                    "class": info.name,
                    "iou": iou[class_id],
                    "f1": 2 * iou[class_id] / (1 + iou[class_id]),
                    "precision": precision[class_id],
                    "recall": recall[class_id],
                    "ap": recall[class_id] * 0.9,
                    "images": int((confusions[:, class_id].sum(1) > 0).sum()),
                    "pixels": int(total[class_id].sum()),
                }
            )
        for step in range(11):
            level = float(np.exp(-0.25 * step)) * float(np.nanmean(iou))
            thresholds.append(
                {"label": label, "threshold": step / 10, "precision": level, "recall": level * 0.9, "f1": level * 0.95}
                | {"ap": level * 0.8}
            )
        for place, image_id in enumerate(ids):
            matrix = confusions[place]
            for class_id, info in enumerate(classes):
                truth, predicted = int(matrix[class_id].sum()), int(matrix[:, class_id].sum())
                union = truth + predicted - int(matrix[class_id, class_id])
                if not union or matrix[class_id, class_id] / union > 0.5:
                    continue
                causes = ["hallucinated"] if not truth else []
                if truth and matrix[class_id, class_id] < 0.05 * truth:
                    causes.append("missed altogether")
                others = matrix[class_id].copy()
                others[class_id] = 0
                if truth and others.max() >= 0.25 * truth:
                    causes.append(f"confused with {classes[int(others.argmax())].name}")
                failures.append(
                    {
                        "label": label,
                        "image_id": image_id,
                        "class": info.name,
                        "iou": matrix[class_id, class_id] / union,
                        "causes": "; ".join(causes or ["boundary only"]),
                        "missed_recall": matrix[class_id, class_id] / truth if truth else np.nan,
                        "confused_with": classes[int(others.argmax())].name if truth else None,
                        "confused_fraction": others.max() / truth if truth else np.nan,
                        "boundary_fraction": 0.4,
                        "area_fraction": truth / matrix.sum(),
                        "border_fraction": 0.0,
                        "hallucinated_pixels": 0 if truth else predicted,
                        "truth_pixels": truth,
                        "predicted_pixels": predicted,
                    }
                )
    floor = comparison[0] | {"label": "majority", "trial_id": "", "model": "", "policy": "", "loss": "", "evidence": ""}
    floor |= {"iou": 0.061, "iou_low": 0.055, "iou_high": 0.068, "latency_ms": np.nan, "params": np.nan}
    comparison.append(floor | {"train_seconds": np.nan, "epochs": np.nan, "seeds": np.nan})
    trial_rows, curve_rows = [], []
    for number in range(trials):
        stopped = number % 3 == 2
        state = "infeasible" if number == 7 else "stopped" if stopped else "completed"
        epochs = 2 if stopped else 1 if number == 7 else 4
        ceiling = 0.4 + 0.2 * rng.random()
        for epoch in range(1, epochs + 1):
            curve_rows.append((f"{number:04d}", "", "search", epoch, ceiling * (1 - np.exp(-epoch / 2))))
        trial_rows.append(
            {
                "trial_id": f"{number:04d}",
                "label": "baseline" if number == 0 else "",
                "phase": "search",
                "seed": 0,
                "state": state,
                "reason": "asha: rank 6 of 7 at epoch 2" if stopped else "loss is NaN" if number == 7 else "",
                "epochs": epochs,
                "seconds": 5.0 * epochs,
                "gpu_seconds": 0.0,
                "val/miou": curve_rows[-1][-1] if number != 7 else np.nan,
                "config/optimizer.lr": float(10 ** rng.uniform(-4, -2)),
                "config/augment.rotate.limit": float(rng.uniform(0, 30)) if number % 2 else np.nan,
                "config/augment.policy": "none" if number == 0 else "free",
                "parent": "",
            }
        )
    for place, (label, record) in enumerate(records.items()):
        if place == 3:
            continue
        for epoch in range(5, 9):
            curve_rows.append((record.trial_id, label, "finish", epoch, 0.5 + 0.02 * epoch + 0.01 * place))
        trial_rows.append(
            {
                "trial_id": record.trial_id,
                "label": "free" if label == "best" else label,
                "phase": "finish",
                "seed": 0,
                "state": "completed",
                "reason": "",
                "epochs": 8,
                "seconds": 21.0,
                "gpu_seconds": 0.0,
                "val/miou": curve_rows[-1][-1],
                "config/optimizer.lr": 0.003,
                "config/augment.policy": "none",
                "parent": f"{(0, 1, 3, 4)[min(place, 3)]:04d}",
            }
        )
    trials_frame = pd.DataFrame(trial_rows)
    cost = pd.DataFrame(
        {
            "label": list(records),
            "trial_id": [record.trial_id for record in records.values()],
            "epochs": 8,
            "train_seconds": [record.train_seconds for record in records.values()],
            "gpu_seconds": 0.0,
            "params": 3_218_110,
            "latency_ms": 21.7,
            "search_seconds": float(trials_frame["seconds"].sum()),
        }
    )
    names = [info.name for info in classes]
    kinds = class_kinds(names)
    measured = measure_split(
        ids,
        lambda place: measure_image(
            data.mask(ids[place]),
            [one.prediction(ids[place]) for one in evaluations.values()],
            names,
            kinds,
            image=data.image(ids[place]),
        ),
        list(evaluations),
    )
    wrong = {label: measured[record.trial_id] for label, record in records.items()}
    changed, changed_types = changes_between(
        wrong.get("baseline"), wrong.get("best"), names, iou_limit=0.5, units=sampling_units([None] * len(ids))
    )
    results = Results(
        run_dir=run_dir,
        manifest=_manifest(classes, len(ids)),
        split="test",
        classes=classes,
        labels=records,
        comparison=pd.DataFrame(comparison),
        per_class=pd.DataFrame(per_class),
        iou_thresholds=pd.DataFrame(thresholds),
        kinds=kinds,
        failures=pd.DataFrame(failures),
        component_failures=component_frame(wrong, names),
        error_types=type_frame(wrong),
        error_types_per_class=class_type_frame(wrong, names),
        error_types_per_image=image_type_frame(wrong),
        factors=factor_frame(component_tables(wrong)),
        factor_curves=curve_frame(component_tables(wrong)),
        unmeasured=(),
        slices=slice_frame(component_tables(wrong), names),
        component_changes=changed,
        type_changes=changed_types,
        trials=trials_frame,
        starting_points=2,
        cost=cost,
        seeds=seeds_frame(trials_frame, "val/miou"),
        trade_off=None,
        pareto=pareto_frame(None, None, [objective_of("val/miou")], split="test", latencies=(), labels={}),
        standing=(),
        stages=(),
        strength=(),
        verdict=None,
        confirmation=confirmation_frame(None, objective_of("val/miou")),
        ablation=None,
        components=components_frame(None, objective_of("val/miou")),
        unconfirmed="",
        curves=pd.DataFrame(curve_rows, columns=["trial_id", "label", "phase", "epoch", "val/miou"]),
        foreseen=pd.DataFrame(columns=list(FORESEEN_COLUMNS)),
        refit="",
        without_time=(),
        proposals=(),
        label_errors=pd.DataFrame(
            [(ids[0], names[1], names[0], 3, 3, 0.93, 120, 2, 3, 20, 24)], columns=list(LABEL_ERROR_COLUMNS)
        ),
        label_error_pictures=(photo_uri(np.zeros((4, 6, 3), np.uint8)),),
        evaluations=evaluations,
        answer=_answer(records, {row["label"]: row["iou"] for row in comparison}),
        dead={},
        above_floor=AboveFloor("best", comparison[1]["iou"], 0.061, comparison[1]["iou"] - 0.1, comparison[1]["iou"]),
        openings=2,
        notes=(f"only {len(ids)} images: intervals are rough", "best and geometric are the same trial"),
    )
    return with_standing(results), data


def with_standing(results: Results) -> Results:
    """The same run with its labels placed anew, by the objective, the verdict and the split that it has now."""
    rows = {row["trial_id"]: row for row in results.comparison.to_dict("records")}
    scores = {
        trial_id: {name: Score(row[name], row[f"{name}_low"], row[f"{name}_high"]) for name in METRICS}
        for trial_id, row in rows.items()
    }
    for evaluation in results.evaluations.values():
        evaluation.split = results.split  # type: ignore[misc]
    placed = standings(results.labels, results.evaluations, scores, results.verdict, results.trials,
                       objective=results.objective, dead=results.dead)  # fmt: skip
    trial_ids = {label: record.trial_id for label, record in results.labels.items() if label not in results.dead}
    told = strengths(trial_ids, results.evaluations, [info.name for info in results.classes])
    at = stages(results.labels, {label: scores[record.trial_id][results.objective.metric.name].value
                                 for label, record in results.labels.items()},
                results.verdict, results.verdict, results.trials, objective=results.objective,
                split=results.split)  # fmt: skip
    return replace(results, standing=tuple(placed), strength=tuple(told), stages=tuple(at))


def _answer(records: dict[str, Any], scores: dict[str, float]) -> Answer:
    difference = scores["best"] - scores["baseline"]
    val = {label: record.metrics["val/miou"] for label, record in records.items()}
    return Answer(
        winner="best",
        baseline="baseline",
        objective=objective_of("val/miou"),
        winner_score=scores["best"],
        baseline_score=scores["baseline"],
        difference=difference,
        low=difference - 0.02,
        high=difference + 0.03,
        same_configuration=False,
        chosen_here=False,
        val_ranks={label: 1 + sum(other > val[label] for other in val.values()) for label in val},
        split_ranks={label: 1 + sum(scores[other] > scores[label] for other in records) for label in records},
        units="images",
        unit_count=40,
    )


def _config(place: int, label: str) -> dict[str, Any]:
    flat: dict[str, Any] = {
        "model.name": "lraspp_mobilenet_v3_large",
        "loss.name": "cross_entropy",
        "optimizer.name": "adamw",
        "optimizer.lr": 0.003 if label == "baseline" else 0.0041 + 0.001 * place,
        "augment.policy": "none" if label == "baseline" else "free",
        "image_size": "96x128",
        "batch_size": 8,
        "epochs": 8,
        "seed": 0,
    }
    return flat if label == "baseline" else flat | {"augment.flip.p": 0.5, "augment.rotate.limit": 12.0 + place}


def _manifest(classes: tuple[ClassInfo, ...], images: int) -> SweepManifest:
    splits = SplitRecords(SplitRecord(300, "ab" * 32), SplitRecord(100, "cd" * 32), SplitRecord(images, "ef" * 32))
    rate = Parameter("optimizer.lr", "float", 1e-4, 1e-2, log=True, reason="two decades around the usual AdamW rate")
    policy = choice("augment.policy", ("none", "free"), role="scientific", reason="what is asked")
    free = (When("augment.policy", ("free",)),)
    limit = Parameter("augment.rotate.limit", "float", 0.0, 30.0, role="scientific", when=free, reason="pose")
    return make_manifest(
        name="augment <b>tryout</b>",
        created="2025-03-04T10:20:30+00:00",
        command=("python", "-m", "sweep.run", "--space", "augment", "--trials", "12", "--name", "try out"),
        seed=0,
        data=DataRecord("synthetic", None, classes, splits, origin="drawn with seed 0"),
        space=SearchSpace(
            "augment", "Which augmentations help, and how strong.", (rate, policy, limit), "augment.policy"
        ),
        budget=Budget(trials=12, max_epochs=8),
        search=SearchRecord("tpe", "asha"),
        versions={"python": "3.12.3", "torch": "2.15.0", "ray": "2.60.0"},
    )


def _seed(text: str) -> int:
    return int.from_bytes(text.encode()[-6:], "little")


def with_verdict(
    results: Results, *, split: str = "test", low: float = 0.01, units: int = 150, **changes: Any
) -> Results:
    """The same run with fresh seeds of the baseline and of the first search trial."""
    chosen_from = 10 if split == "val" else None
    contrast = Contrast("0001", 0.03, low, 0.05, 0.013, 0.04, 3)
    configurations = (
        Confirmed("0000", "baseline", ("0000-s1", "0000-s2", "0000-s3"), (7, 8, 9), (0.40, 0.41, 0.42)),
        Confirmed("0001", "<free>", ("0001-s1", "0001-s2", "0001-s3"), (7, 8, 9), (0.44, 0.43, 0.45)),
    )
    verdict = Verdict(split, "val/miou", configurations, (contrast,), "0001", "images", units, chosen_from)
    objective = objective_of("val/miou")
    without = tuple(
        Confirmed(f"0001-{one}", one, ("a", "b", "c"), (7, 8, 9), (0.42, 0.41, 0.43))
        for one in ("without-augment", "without-<lr>")
    )
    worths = (Contrast("0001-without-augment", 0.02, 0.01, 0.03, 0.01, 0.02, 3),
              Contrast("0001-without-<lr>", 0.001, -0.008, 0.01, 0.6, 0.02, 3))  # fmt: skip
    ablation = replace(verdict, split="val", configurations=(configurations[1], *without), contrasts=worths)
    changes = {"ablation": ablation, "components": components_frame(ablation, objective_of("val/miou")), **changes}
    told = {"verdict": verdict, "confirmation": confirmation_frame(verdict, objective), "split": split, **changes}
    return with_standing(replace(results, **told))


def with_trade_off(results: Results) -> Results:
    """The same run with the time per image as a second objective: the best, the baseline, and one beyond them."""
    points = [
        Point(f"000{place}", "<free>", label, {"val/miou": 0.5 - place / 10, "latency_ms": ms}, {}, 1, is_in_set)
        for place, (label, ms, is_in_set) in enumerate(
            [("best", 20.0, True), ("baseline", 21.0, False), (list(results.labels)[-1], 9.0, True)]
        )
    ]
    trade_off = TradeOff(("val/miou", "latency_ms"), tuple(points), "0000", 9)
    manifest = replace(results.manifest, further_objectives=(ObjectiveRecord("latency_ms", "min"),))
    objectives = recorded_objectives(manifest)
    frame = pareto_frame(trade_off, trade_off, objectives, split=results.split, latencies=(), labels=results.labels)
    return replace(results, manifest=manifest, trade_off=trade_off, pareto=frame)


def with_effects(results: Results, **effects: tuple[float, bool]) -> Results:
    """Results whose factors of `best` have these effects; the second value says whether it is called a reason."""
    rows: list[tuple[Any, ...]] = []
    curves: list[tuple[Any, ...]] = []
    for factor in ALL_FACTORS:
        if factor not in FACTORS and factor.name not in effects:
            continue
        effect, reason = effects.get(factor.name, (0.01, False))
        numbers = (0.1, 0.9, effect, effect - 0.05, effect + 0.05, effect, 1.0)
        rows.append(("best", factor.name, *numbers, reason, 500, 40))
        # The distance is that to the winner's model; a frequency has no curve.
        for label in {"distance": ("best",), "frequency": ()}.get(factor.name, ("baseline", "best")):
            curves += [(label, factor.name, n / 5, (n + 1) / 5, 100, 0.1 * n, 0.1 * n, 0.1 * n) for n in range(5)]
    return replace(
        results,
        factors=pd.DataFrame(rows, columns=list(EFFECT_COLUMNS)),
        factor_curves=pd.DataFrame(curves, columns=list(CURVE_COLUMNS)),
    )
