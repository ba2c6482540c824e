"""Whether label errors are found: planted ones in the masks of `scenes`, beside cleanlab's segmentation module.

    python -m benchmarks.label_errors --models DIR,DIR,DIR [--scenes 150] [--tuning] [--out FILE]
    python -m benchmarks.label_errors --memory 100,400

Models are trained on the scenes' train split with seeds of their own (`python -m trainables.train --data scenes --set
seed=N --set resize=stretch --out DIR`). Scenes that no split holds get label errors (`benchmarks/planted_labels.py`)
in a fifth of their masks. Ours sees the predicted masks of the models alone (`analysis.failures.label_errors`);
cleanlab gets the mean of their probabilities, which says more: its scores of images and pixels
(`get_label_quality_scores`), and the connected components of its issues (`find_label_issues`) by the mean of their
pixels' scores. Prints average precision for planted errors by ranked regions, for images and for pixels; what ours
claims from its threshold on; and what it claims where nothing was planted. The same for simulated models: what could
be found if models were good.

--memory: peak memory for growing numbers of images of 480x640 pixels and 20 classes, a process each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import average_precision_score

from analysis.failures.components import find_components
from analysis.failures.kinds import class_kinds
from analysis.failures.label_errors import LEAST_SCORE, consensus_of, find_label_errors
from benchmarks.planted_labels import EVALUATION_SEEDS, KINDS, RIGHT_SHARE, TUNING_SEEDS, PlantedLabel, plant_labels
from trainables.checkpoint import rebuild_model
from trainables.data.base import VOID, Image, Mask
from trainables.data.resizing import resize_image
from trainables.data.scenes import draw_scene, scene_spec
from trainables.data.scenes.spec import CLASSES
from trainables.logits import predicted_class, resize_logits
from trainables.loops import to_input

FIRST_TUNING, FIRST = 60_000, 70_000
"""Places of scenes that no split holds; the second are looked at for the published table only."""
SIMULATED = 3
"""Models that are made up where none are given."""
LEAST_REGION = 30
"""Pixels of a region of cleanlab's issues: smaller ones are noise of single pixels."""
NAMES = [info.name for info in CLASSES]

Region = npt.NDArray[np.bool_]
Ranked = list[tuple[float, int, Region]]
"""Score, image and pixels of each claim."""


@dataclass(frozen=True)
class Scene:
    """One image: its true mask, what each model predicts, and the mean of their probabilities (C, H, W)."""

    truth: Mask
    predictions: list[Mask]
    probabilities: npt.NDArray[np.float32]


def predicted_scenes(models: Sequence[Path], first: int, count: int) -> list[Scene]:
    """Scenes and what the models make of them."""
    loaded = [rebuild_model(folder / "model" if (folder / "model").is_dir() else folder) for folder in models]
    scenes = []
    for place in range(first, first + count):
        drawn = draw_scene(scene_spec("test", place))
        logits = [_logits(model, record, drawn.image) for model, record in loaded]
        mean = torch.stack([one.softmax(dim=0) for one in logits]).mean(dim=0)
        scenes.append(Scene(drawn.mask, [predicted_class(one).numpy() for one in logits], mean.numpy()))
    return scenes


def simulated_scenes(first: int, count: int) -> list[Scene]:
    """Scenes and what good models would make of them: the truth at a third of its size, 2% of the cells wrong."""
    scenes = []
    for place in range(first, first + count):
        truth = draw_scene(scene_spec("test", place)).mask
        rng = np.random.default_rng([4, place])
        votes = []
        for _ in range(SIMULATED):
            cells = np.where(truth == VOID, 0, truth)[1::3, 1::3].copy()
            wrong = rng.random(cells.shape) < 0.02
            cells[wrong] = rng.integers(0, len(NAMES), int(wrong.sum()))
            scores = np.eye(len(NAMES), dtype=np.float32)[cells]
            votes.append(cv2.resize(scores, truth.shape[::-1], interpolation=cv2.INTER_LINEAR))
        mean = np.mean(votes, axis=0).transpose(2, 0, 1)
        predictions = [one.argmax(axis=2).astype(np.uint8) for one in votes]
        scenes.append(Scene(truth, predictions, mean / mean.sum(axis=0)))
    return scenes


@torch.inference_mode()
def _logits(model: torch.nn.Module, record: object, image: Image) -> torch.Tensor:
    size, normalisation = record.config.image_size, record.normalisation  # type: ignore[attr-defined]
    pixels = torch.from_numpy(resize_image(image, size).copy())[None]
    low = model.eval()(to_input(pixels, normalisation, "cpu"), resize=False)["out"][0].float()
    return resize_logits(low, (image.shape[0], image.shape[1]))


def our_claims(scenes: Sequence[Scene], masks: Sequence[Mask], least_score: float) -> Ranked:
    """Ours: the rows of the table `label_errors`, with their pixels."""
    ids = [str(place) for place in range(len(scenes))]
    frame = find_label_errors(
        ids,
        lambda i: (masks[int(i)], scenes[int(i)].predictions),
        NAMES,
        least_score=least_score,
        least_confirmed=0.0,  # a ranking has no limit
    )
    claims: Ranked = []
    for row in frame.to_dict("records"):
        place = int(row["image_id"])
        said = consensus_of(scenes[place].predictions, len(NAMES))[0]
        box = slice(row["top"], row["bottom"]), slice(row["left"], row["right"])
        region = np.zeros(said.shape, bool)
        region[box] = (masks[place][box] == NAMES.index(row["class"])) & (said[box] == NAMES.index(row["models_say"]))
        claims.append((row["score"], place, region))
    return claims


def cleanlab_scores(
    scenes: Sequence[Scene], masks: Sequence[Mask]
) -> tuple[npt.NDArray[np.float64], Ranked, list[Mask]]:
    """Cleanlab: how suspicious each image is, its ranked issues, and how suspicious each pixel is."""
    from cleanlab.segmentation.filter import find_label_issues
    from cleanlab.segmentation.rank import get_label_quality_scores

    of_images, claims, of_pixels = np.zeros(len(scenes)), [], [np.zeros(0)] * len(scenes)
    # It wants one array, so images of one size at a time; what it estimates is over those.
    sizes = {mask.shape for mask in masks}
    for size in sorted(sizes):
        places = [place for place, mask in enumerate(masks) if mask.shape == size]
        probabilities = np.stack([scenes[place].probabilities for place in places])
        # It knows no void: there the mask says what the models say.
        labels = np.stack([masks[place] for place in places]).astype(np.int64)
        labels = np.where(labels == VOID, probabilities.argmax(axis=1), labels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quality, pixels = get_label_quality_scores(labels, probabilities, method="softmin", verbose=False)
            issues = find_label_issues(labels, probabilities, downsample=1, n_jobs=1, verbose=False)
        for number, place in enumerate(places):
            of_images[place] = 1 - quality[number]
            of_pixels[place] = 1 - pixels[number]
            parts = find_components(issues[number].astype(np.uint8))
            for part in np.flatnonzero((parts.values == 1) & (parts.pixels >= LEAST_REGION)):
                region = parts.labels == part
                claims.append((float(of_pixels[place][region].mean()), place, region))
    return of_images, claims, of_pixels


def region_precision(claims: Ranked, planted: dict[int, PlantedLabel], kind: str | None) -> float:
    """Average precision of ranked claims; a planted error counts once, at the first claim that is about it.

    Claims about errors of other kinds than the one that is asked for are left out.
    """
    wanted = [place for place, one in planted.items() if kind in (None, one.kind)]
    found: set[int] = set()
    hits, seen, total = 0, 0, 0.0
    for _, place, region in sorted(claims, key=lambda one: -one[0]):
        is_right = place in planted and (region & planted[place].changed).sum() >= RIGHT_SHARE * region.sum()
        if is_right and (place in found or place not in wanted):
            continue
        seen += 1
        if is_right:
            found.add(place)
            hits += 1
            total += hits / seen
    return total / max(1, len(wanted))


def of_seed(scenes: Sequence[Scene], seed: int) -> dict[str, dict[str, float]]:
    """Every number of one seed, ours and cleanlab's."""
    planted = plant_labels([scene.truth for scene in scenes], class_kinds(NAMES), seed)
    masks = [planted[place].mask if place in planted else scene.truth for place, scene in enumerate(scenes)]
    ours = our_claims(scenes, masks, least_score=0.0)
    of_images, theirs, their_pixels = cleanlab_scores(scenes, masks)
    is_planted = [place in planted for place in range(len(scenes))]
    our_images = [max((score for score, at, _ in ours if at == place), default=0.0) for place in range(len(scenes))]
    our_pixels = [np.zeros(mask.shape) for mask in masks]
    for score, place, region in ours:
        our_pixels[place] = np.maximum(our_pixels[place], score * region)
    changed = [
        planted[place].changed if place in planted else np.zeros(mask.shape, bool) for place, mask in enumerate(masks)
    ]
    known = [mask != VOID for mask in masks]

    def flat(values: Sequence[npt.NDArray[np.generic]]) -> npt.NDArray[np.generic]:
        return np.concatenate([one[which] for one, which in zip(values, known, strict=True)])

    numbers = {"ours": {}, "cleanlab": {}}
    for name, claims, images, pixels in (
        ("ours", ours, our_images, our_pixels),
        ("cleanlab", theirs, of_images, their_pixels),
    ):
        numbers[name] = {f"errors, {kind}": region_precision(claims, planted, kind) for kind in KINDS}
        numbers[name]["errors, all"] = region_precision(claims, planted, None)
        numbers[name]["images"] = float(average_precision_score(is_planted, images))
        numbers[name]["pixels"] = float(average_precision_score(flat(changed), flat(pixels)))
    told = [one for one in ours if one[0] >= LEAST_SCORE]
    right = [
        place for _, place, region in told
        if place in planted and (region & planted[place].changed).sum() >= RIGHT_SHARE * region.sum()
    ]  # fmt: skip
    numbers["claimed"] = {
        "planted": len(planted),
        "claims": len(told),
        "right": len(right),
        **{f"found {kind}": len({p for p in right if planted[p].kind == kind}) for kind in KINDS},
        **{f"planted {kind}": sum(one.kind == kind for one in planted.values()) for kind in KINDS},
    }
    return numbers


def table(models: Sequence[Path], count: int, *, tuning: bool) -> list[str]:
    """The lines of both tables."""
    first = FIRST_TUNING if tuning else FIRST
    scenes = predicted_scenes(models, first, count) if models else simulated_scenes(first, count)
    seeds = TUNING_SEEDS if tuning else EVALUATION_SEEDS
    of_seeds = [of_seed(scenes, seed) for seed in seeds]
    right = np.mean([(p == s.truth)[s.truth != VOID].mean() for s in scenes for p in s.predictions])
    who = f"{len(models)} models" if models else f"{SIMULATED} simulated models"
    lines = [f"{who} of pixel accuracy {right:.3f}, {count} scenes, {len(seeds)} seeds"]
    lines.append(f"{'average precision':<22}{'ours':>8}{'cleanlab':>10}")
    for what in of_seeds[0]["ours"]:
        ours, theirs = (np.mean([one[name][what] for one in of_seeds]) for name in ("ours", "cleanlab"))
        lines.append(f"{what:<22}{ours:>8.3f}{theirs:>10.3f}")
    claimed = {what: sum(int(one["claimed"][what]) for one in of_seeds) for what in of_seeds[0]["claimed"]}
    lines.append(f"claims from a score of {LEAST_SCORE} on: {claimed['claims']}, right {claimed['right']}")
    lines += [f"  {kind}: found {claimed[f'found {kind}']} of {claimed[f'planted {kind}']}" for kind in KINDS]
    clean = our_claims(scenes, [scene.truth for scene in scenes], LEAST_SCORE)
    return [*lines, f"claims where nothing was planted: {len(clean)} in {count} images"]


def memory_of(images: int) -> float:
    """Peak resident MiB of `find_label_errors` with three predictions of each image."""
    from benchmarks.evaluation import resident_peak
    from benchmarks.made_up import MadeUp

    data = MadeUp(images)

    def masks_of(image_id: str) -> tuple[Mask, list[Mask]]:
        truth = data.mask(image_id)
        rng = np.random.default_rng([2, int(image_id)])
        wrong = [np.where(truth == VOID, 0, truth).astype(np.uint8) for _ in range(3)]
        for one in wrong:
            top, left = rng.integers(0, 400, 2)
            one[top : top + 60, left : left + 60] = one[240, 100]
        return truth, wrong

    find_label_errors(data.ids(), masks_of, [info.name for info in data.classes])
    return resident_peak()


def main() -> None:
    """Prints and keeps the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=lambda text: [Path(one) for one in text.split(",")])
    parser.add_argument("--scenes", type=int, default=150)
    parser.add_argument("--tuning", action="store_true")
    parser.add_argument("--memory", type=lambda text: [int(one) for one in text.split(",")], default=[])
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.measure:
        print(json.dumps(memory_of(asked.measure)))
        return
    lines = table([], asked.scenes, tuning=asked.tuning)
    if asked.models:
        lines = [*table(asked.models, asked.scenes, tuning=asked.tuning), "", *lines, ""]
    for images in asked.memory:
        command = [sys.executable, "-m", "benchmarks.label_errors", "--measure", str(images)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        lines.append(f"{images} images of 480x640, three predictions each: {json.loads(done.stdout):.0f} MiB at most")
    print("\n".join(lines))
    if asked.out:
        asked.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
