"""Everything that a report says, put together from a run folder: the one input of every section, figure and table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from analysis import comparison
from analysis.answer import Answer, answer
from analysis.candidates import seeds_frame
from analysis.confirmation import components_frame, confirmation_frame, seed_folders, verdict_on_split
from analysis.dead import AboveFloor, Dead, above_floor, dead_labels, epoch_losses
from analysis.distances import training_images
from analysis.evaluate import evaluate_checkpoints, evaluate_majority
from analysis.failures.changes import changes_between
from analysis.failures.checkpoints import measure_checkpoints
from analysis.failures.kinds import class_kinds
from analysis.failures.measure import failures_frame
from analysis.failures.reasons import component_tables, curve_frame, factor_frame, why_no_frequency
from analysis.failures.slices import slice_frame
from analysis.failures.split import (
    class_type_frame,
    component_frame,
    image_type_frame,
    region_entries,
    type_frame,
)
from analysis.foreseen import foreseen_frame, without_time
from analysis.kept import Evaluation, OnStep
from analysis.label_errors import label_errors
from analysis.label_folders import label_folders, top_folders
from analysis.load import count_given, curves_frame, load_events, load_trials
from analysis.measured import Measured
from analysis.next_sweep.proposal import Proposal, Searched
from analysis.next_sweep.rules import propose
from analysis.notes import reader_notes
from analysis.scores import Classes, score_labels, units_of
from analysis.stages import Stage, stages
from analysis.standings import Standing, standings, standings_frame
from analysis.strengths import Strength, strengths, strengths_frame
from analysis.trade_off import labels_in_set, on_split, pareto_frame
from sweep.candidate import chief_keys
from sweep.claims import Outcome
from sweep.latencies import latency_of, unsteady_text
from sweep.manifest import SweepManifest
from sweep.objectives import Objective, SplitObjective, recorded_objective, recorded_objectives
from sweep.pareto import TradeOff, last_trade_off
from sweep.refitted import refit_text
from sweep.verdict import Verdict, current_ablation, last_verdict, why_unconfirmed
from sweep.verify import load_run_split, open_data, open_run
from trainables.checkpoint import load_trial
from trainables.data.base import SegmentationData
from trainables.data.cache.decoded import class_pixels
from trainables.data.splits.frozen import load_split
from trainables.data.splits.openings import openings_seen
from trainables.errors import UsageError
from trainables.labels import BASELINE, BEST, MAJORITY
from trainables.metrics import METRICS, Metric, split_key
from trainables.record import TrialRecord


@dataclass(frozen=True)
class Results(Measured):
    """What a run showed on one split, beside what `Measured` has.

    Attributes:
        run_dir: The run.
        manifest: What the sweep was.
        labels: Record of each label's checkpoint: baseline first, then best, then the others.
        comparison: One row per label and one for the floor; columns `comparison.comparison_columns()`.
        trials: One row per trial, as in `trials.csv`.
        starting_points: Trials of the search that the space gave, the baseline among them; the sampler gave the others.
        cost: One row per label; columns `comparison.COST_COLUMNS`.
        seeds: One row per configuration trained with several seeds; columns `candidates.SEED_COLUMNS`.
        trade_off: What several objectives cost one another on the split; None where there is one alone.
        pareto: One row per configuration of the Pareto set, the best and the baseline; columns
            `trade_off.pareto_columns()`.
        standing: Where each label stands beside the baseline and the winner, the baseline first.
        stages: The winner's score when it was chosen, over fresh seeds, and on the split, beside the baseline's.
        strength: Each label's checkpoint beside the baseline's, by class and by size of regions; nothing on val.
        verdict: What fresh seeds showed on the split; None where there are none.
        confirmation: One row per configuration with fresh seeds; columns `confirmation.COLUMNS`.
        ablation: What fresh seeds showed on val of the winner without each of its components; None where it was not
            taken apart.
        components: One row per component of the winner; columns `confirmation.COMPONENT_COLUMNS`.
        unconfirmed: Why there are no fresh seeds, or fewer than planned; empty if nothing says so.
        curves: One row per trial and epoch: trial_id, label, phase, epoch, seconds, then the metrics.
        foreseen: The sweep's plan beside what happened; columns `foreseen.COLUMNS`, empty where it had none.
        refit: What became of training the winner again on train and val, in one sentence; empty where nothing did.
        without_time: What was not tried or not trained to its end, and why, one sentence each.
        proposals: What val says a next sweep should try; nothing on test.
        label_errors: Components of test whose mask several checkpoints contradict, the most suspicious first; columns
            `failures.label_errors.COLUMNS`.
        label_error_pictures: Data URIs of the first of them.
        evaluations: By trial id, and `majority`.
        answer: Best beside baseline; None where one of them has no checkpoint.
        dead: The labels that learnt nothing, and why.
        above_floor: The winner beside `majority`.
        openings: How often the sweep's test split was opened so far, by any run of the folder.
        notes: What a reader must know before believing the numbers.
    """

    run_dir: Path
    manifest: SweepManifest
    labels: Mapping[str, TrialRecord]
    comparison: pd.DataFrame
    trials: pd.DataFrame
    starting_points: int
    cost: pd.DataFrame
    seeds: pd.DataFrame
    trade_off: TradeOff | None
    pareto: pd.DataFrame
    standing: tuple[Standing, ...]
    stages: tuple[Stage, ...]
    strength: tuple[Strength, ...]
    verdict: Verdict | None
    confirmation: pd.DataFrame
    ablation: Verdict | None
    components: pd.DataFrame
    unconfirmed: str
    curves: pd.DataFrame
    foreseen: pd.DataFrame
    refit: str
    without_time: tuple[str, ...]
    proposals: tuple[Proposal, ...]
    label_errors: pd.DataFrame
    label_error_pictures: tuple[str, ...]
    evaluations: Mapping[str, Evaluation]
    answer: Answer | None
    dead: Mapping[str, Dead]
    above_floor: AboveFloor
    openings: int
    notes: tuple[str, ...]

    @property
    def prediction_keys(self) -> dict[str, str]:
        """The trial of each label; two labels may hold one."""
        return {label: record.trial_id for label, record in self.labels.items()}

    @property
    def units(self) -> str:
        """See `Measured`."""
        return units_of(next(iter(self.evaluations.values()))).name if self.evaluations else "images"

    @property
    def class_metric(self) -> Metric:
        """What classes are compared by: the sweep's objective, of which it may rank one class; else IoU."""
        of_class = split_key(self.objective.key)
        metric = self.objective.metric if of_class is None else of_class[0]
        return metric if metric.of_classes else METRICS.get("iou")

    def confusion(self, label: str) -> npt.NDArray[np.int64]:
        """The confusion matrix of a label over all images: rows truth, columns prediction, shape (C, C)."""
        counts: npt.NDArray[np.int64] = self.evaluations[self.labels[label].trial_id].confusions.sum(axis=0)
        return counts

    def told(self, label: str) -> str:
        """What sentences call a label: `best`, which is a mere name, by the label of the trial that won."""
        if label != BEST or label not in self.labels:
            return label
        own = self.trials.loc[self.trials["trial_id"] == self.labels[label].trial_id, "label"]
        return (str(own.iloc[0]) if len(own) else "") or label

    @property
    def objective(self) -> SplitObjective:
        """What the sweep ranked its trials by."""
        return recorded_objective(self.manifest)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """All that the sweep ranked by, `objective` first."""
        return recorded_objectives(self.manifest)

    @property
    def further_metrics(self) -> list[Metric]:
        """Metrics of one class that the sweep ranked by: columns of `comparison` beside those of the registry."""
        return further_metrics(self.manifest)

    @property
    def standings(self) -> pd.DataFrame:
        """One row per label or configuration with fresh seeds; columns `standings.COLUMNS`."""
        return standings_frame(self.standing)

    @property
    def strengths(self) -> pd.DataFrame:
        """One row per label and class or size of regions; columns `strengths.COLUMNS`."""
        return strengths_frame(self.strength)


def build_results(
    run_dir: Path,
    *,
    split: str = "test",
    top: int = 0,
    iou: float = 0.5,
    manifest: SweepManifest | None = None,
    data: SegmentationData | None = None,
    device: str | None = None,
    workers: int = 0,
    progress: OnStep | None = None,
) -> Results:
    """Evaluates a run's labels on a split, as far as that is not kept already, and derives every table.

    Args:
        run_dir: `runs/NAME`.
        split: `test` (an opening, unless all checkpoints were evaluated there before) or `val`.
        top: How many of the best configurations overall to add beside the labels.
        iou: A region fails at or below this IoU.
        manifest: Of the run, as `sweep.verify.open_run` gives it; by default the run is opened here.
        data: The sweep's data set, as `sweep.verify.open_data` gives it; opened where the manifest says by default.
        device: `cpu` or `cuda`; cuda by default where there is one.
        workers: Loader processes of the evaluation.
        progress: Called with what is evaluated and how far it is.

    Raises:
        UsageError: If an option is out of range.
        DataError: If the folder is not a run folder, or the data are not those of the sweep any more.
        CheckpointError: If no label has a checkpoint, or one is damaged.
    """
    if split not in ("test", "val") or top < 0 or not 0 <= iou <= 1:
        raise UsageError(f"split must be test or val, top >= 0, iou within 0 .. 1, not {split}, {top}, {iou}")
    manifest = manifest or open_run(run_dir)
    objective = recorded_objective(manifest)
    trials, events = load_trials(run_dir), load_events(run_dir)
    curves = curves_frame(events)
    folders = label_folders(run_dir)
    added, notes = top_folders(run_dir, manifest, trials, folders, top)
    folders.update(added)
    labels = {label: load_trial(folder) for label, folder in folders.items()}
    verdict, (ablation, _) = last_verdict(events), current_ablation(events)
    again: dict[str, Path] = {}
    if split != "val":
        again, missing = seed_folders(run_dir, verdict)
        notes += missing
        verdict = verdict if again else None
    data = data or open_data(run_dir, manifest)
    images = load_run_split(run_dir, split)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")

    evaluations = evaluate_checkpoints(
        run_dir, {**folders, **again}, data, images, device=device, workers=workers, progress=progress
    )
    train = load_split(run_dir, "train")
    trained_on = train.ids
    floor = evaluate_majority(run_dir, data, images, trained_on, progress=progress)
    evaluations[MAJORITY] = floor
    if verdict is not None and again:
        verdict = verdict_on_split(verdict, objective, evaluations)
    voters = dict(evaluations)
    of_labels = {record.trial_id for record in labels.values()}
    evaluations = {trial_id: one for trial_id, one in evaluations.items() if trial_id in {*of_labels, MAJORITY}}
    further = further_metrics(manifest)
    names = [info.name for info in data.classes]
    classes = Classes(names, class_pixels(data, trained_on) > 0)
    picked = chosen_here(split, labels)
    scores = score_labels(evaluations, further=further, classes=classes, picked=picked, progress=progress)
    trial_ids = {label: record.trial_id for label, record in labels.items()}
    objectives = recorded_objectives(manifest)
    chosen = last_trade_off(events, objectives)
    trade_off = chosen if chosen is None or split == "val" else on_split(chosen, objectives, labels, scores)
    before = {one.trial_id: latency_of(manifest.latencies, one.config.flat()) for one in labels.values()}
    timed = {trial_id: found.ms for trial_id, found in before.items() if found is not None}
    kinds = class_kinds(names, floor.confusions.sum(axis=(0, 2)))
    wrong = measure_checkpoints(trial_ids, evaluations, data, kinds, iou_limit=iou, progress=progress)
    changed, changed_types = changes_between(
        wrong.get(BASELINE), wrong.get(BEST), names, iou_limit=iou, units=None if split == "val" else units_of(floor)
    )
    told = None
    if BASELINE in labels and BEST in labels:
        told = answer(labels, evaluations, scores, objective=objective, classes=classes)
    dead = dead_labels(trial_ids, evaluations, {label: epoch_losses(record) for label, record in labels.items()})
    learnt_nothing = {trial_ids[label] for label in dead}
    suspicious = label_errors(voters, data, split=split, without=learnt_nothing, progress=progress)
    chief = BEST if BEST in labels else next(iter(labels))
    winner = evaluations[labels[chief].trial_id]
    training = training_images(
        run_dir,
        [label for label, one in trial_ids.items() if one == trial_ids[chief]],
        folders[chief],
        data,
        images,
        train,
        device=device,
        workers=workers,
        progress=progress,
    )
    components = component_tables(wrong, training, units_of(floor))
    effects = factor_frame(components, seed=manifest.seed)
    proposals: tuple[Proposal, ...] = ()
    if split == "val" and chief not in dead:
        proposals = propose(
            Searched(manifest.space, manifest.base, labels[chief].config.flat()),
            trials,
            objective,
            effects[effects["label"] == chief],
            wrong[chief],
            winner,
            kinds,
            names,
            class_pixels(data, trained_on).tolist(),
        )
    above = above_floor(chief, winner, floor, objective, picked=winner.trial_id in picked, classes=classes)
    warnings = [*manifest.data.warnings, *filter(None, [unsteady_text(manifest.latencies)])]
    return Results(
        run_dir=run_dir,
        manifest=manifest,
        split=split,
        classes=tuple(data.classes),
        labels=labels,
        comparison=comparison.comparison_frame(
            labels,
            evaluations,
            scores,
            latencies=timed,
            evidence=_evidence(labels, verdict, trials),
            further=further,
            pareto=None if chosen is None else labels_in_set(chosen, labels),
        ),
        per_class=comparison.per_class_frame(trial_ids, evaluations, names),
        iou_thresholds=comparison.threshold_frame(trial_ids, evaluations),
        kinds=kinds,
        failures=failures_frame(region_entries(wrong), names),
        component_failures=component_frame(wrong, names, iou_limit=iou),
        error_types=type_frame(wrong),
        error_types_per_class=class_type_frame(wrong, names),
        error_types_per_image=image_type_frame(wrong),
        factors=effects,
        factor_curves=curve_frame(components, seed=manifest.seed),
        unmeasured=(*training.missing, *why_no_frequency(components.get(chief))),
        slices=slice_frame(components, names),
        component_changes=changed,
        type_changes=changed_types,
        trials=trials,
        starting_points=count_given(events),
        cost=comparison.cost_frame(labels, evaluations, trials, latencies=timed),
        trade_off=trade_off,
        pareto=pareto_frame(chosen, trade_off, objectives, split=split, latencies=manifest.latencies, labels=labels),
        standing=tuple(
            standings(labels, evaluations, scores, verdict, trials, objective=objective, dead=dead, classes=classes)
        ),
        stages=tuple(
            stages(
                labels,
                {label: scores[one][objective.metric.name].value for label, one in trial_ids.items()},
                last_verdict(events),
                verdict,
                trials,
                objective=objective,
                split=split,
            )
        ),
        strength=tuple(
            strengths({label: one for label, one in trial_ids.items() if label not in dead}, evaluations, names)
        ),
        verdict=verdict,
        confirmation=confirmation_frame(verdict, objective),
        ablation=ablation,
        components=components_frame(ablation, objective),
        unconfirmed=why_unconfirmed(events),
        seeds=seeds_frame(trials, objective.key, first=chief_keys(manifest.space)),
        curves=curves,
        foreseen=foreseen_frame(manifest.plan, trials, curves, events),
        refit=refit_text(events, labels[BEST].trial_id, run_dir) if BEST in labels else "",
        without_time=tuple(without_time(events)),
        proposals=proposals,
        label_errors=suspicious.frame,
        label_error_pictures=suspicious.pictures,
        evaluations=evaluations,
        answer=told,
        dead=dead,
        above_floor=above,
        openings=openings_seen(run_dir, manifest.data.splits.test.hash),
        notes=(*notes, *reader_notes(labels, warnings, evaluations, classes, further=further)),
    )


def chosen_here(split: str, labels: Mapping[str, TrialRecord]) -> set[str]:
    """The trials that this split chose: on val all but the baseline's, on another split none."""
    fixed = labels[BASELINE].trial_id if BASELINE in labels else None
    return {record.trial_id for record in labels.values() if split == "val" and record.trial_id != fixed}


def _evidence(labels: Mapping[str, TrialRecord], verdict: Verdict | None, trials: pd.DataFrame) -> dict[str, str]:
    """What the row of the winner rests on: a candidate, unless fresh seeds told it from the baseline."""
    if BEST not in labels or BASELINE not in labels or labels[BEST].trial_id == labels[BASELINE].trial_id:
        return {}
    if verdict is None:
        return {BEST: "candidate: one seed, chosen on val"}
    source = comparison.lineage(labels[BEST].trial_id, trials)[-1]
    outcome = next((verdict.outcome_of(one) for one in verdict.contrasts if one.name == source), Outcome.UNDECIDED)
    told = {Outcome.BETTER: f"confirmed on {verdict.split}", Outcome.WORSE: "worse than the baseline"}
    return {BEST: told.get(outcome, "candidate: not told from the baseline")}


def further_metrics(manifest: SweepManifest) -> list[Metric]:
    """The metrics of one class among a sweep's objectives, which no registry has."""
    measured = [one.metric for one in recorded_objectives(manifest) if isinstance(one, SplitObjective)]
    return [metric for metric in measured if metric.name not in METRICS]
