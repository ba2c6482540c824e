"""Whether factors are called a reason where they are one: planted effects, and scenes drawn with one factor changed.

    python -m benchmarks.factors [--models DIR,DIR,...] [--scenes 400] [--changed 120] [--repetitions 100]

**Planted effects.** The factors of the components of `scenes` as they are, with all their correlations; the IoU of each
component is made up: its class, three factors drawn at random with effects of 0.05 to 0.3 between their 10th and their
90th percentile, what images and components add by chance, cut off at 0 and 1. Prints how often factors with an effect
are called a reason, and how often others are.

**Planted frequencies.** The same components in 10, 20 or 30 made-up classes (parts of those of `scenes`), whose IoU
grows with their frequency in training by 0 to 0.3; in one case without such an effect small classes are rare, and small
components hard. Prints how often the frequency is called a reason.

**Scenes drawn again.** For each trained model (`python -m trainables.train --data scenes --out DIR`): scenes under wide
conditions, as they come, give the claims; the same kind of scenes, drawn twice with one factor at its 10th and at its
90th percentile and all else equal, give the factor's true effect on the IoU of components. Prints both side by side.

Keeps everything in benchmarks/results/factors.txt.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from analysis.failures.components import find_components
from analysis.failures.error_types import classify_errors
from analysis.failures.factors import FACTORS, measure_factors
from analysis.failures.kinds import class_kinds
from analysis.failures.measure import boundary_width
from analysis.failures.reasons import ComponentTable, factor_effects
from trainables.checkpoint import rebuild_model
from trainables.data.base import Image, Mask
from trainables.data.scenes import SceneSpec, draw_scene, scene_spec
from trainables.data.scenes.spec import _WIDE, CLASSES
from trainables.logits import predicted_class, resize_logits
from trainables.loops import to_input

RESULTS = Path(__file__).parent / "results" / "factors.txt"
FIRST, FIRST_CHANGED = 40_000, 50_000
"""Places of scenes that no split holds, and that nothing was tuned on."""
SEED = 7301
EFFECTS = (0.05, 0.1, 0.2, 0.3)
FREQUENCY_EFFECTS = (0.0, 0.1, 0.2, 0.3)
CLASS_COUNTS = (10, 20, 30)
NO_EFFECT, EFFECT = 0.02, 0.05
"""A true effect below the first is none, one from the second on should be found."""

KINDS = class_kinds([info.name for info in CLASSES])
NAMES = [factor.name for factor in FACTORS]

CHANGES: dict[str, tuple[str, Callable[[SceneSpec, float], SceneSpec], tuple[float, float]]] = {
    "exposure": ("light", lambda s, v: replace(s, light=replace(s.light, exposure=v)), _WIDE.exposure),
    "haze": ("range", lambda s, v: replace(s, light=replace(s.light, haze=v)), _WIDE.haze),
    "blur": ("blur", lambda s, v: replace(s, camera=replace(s.camera, blur=v)), _WIDE.blur),
    "noise": ("noise", lambda s, v: replace(s, camera=replace(s.camera, noise=v)), _WIDE.noise),
}
"""What of a scene is changed, the factor that measures it (haze lowers the range), and its natural span."""

Predict = Callable[[Image], Mask]


def components_of(image: Image, truth: Mask) -> tuple[np.ndarray, np.ndarray]:
    """Classes and factors of the true components."""
    components = find_components(truth)
    numbers, factors = measure_factors(image, components, KINDS, boundary_width((truth.shape[0], truth.shape[1])))
    return components.values[numbers], factors


def natural(count: int, predict: Predict | None) -> ComponentTable:
    """Components of scenes as they come; IoUs of 0 where nothing predicts."""
    ious, classes, places, factors = [], [], [], []
    for place in range(count):
        scene = draw_scene(scene_spec("test", FIRST + place))
        of_class, of_factor = components_of(scene.image, scene.mask)
        ious.append(np.zeros(len(of_class)) if predict is None else component_ious(scene.mask, predict(scene.image)))
        classes.append(of_class)
        factors.append(of_factor)
        places.append(np.full(len(of_class), place))
    return ComponentTable(*map(np.concatenate, (ious, classes, places, factors)))


def component_ious(truth: Mask, prediction: Mask) -> np.ndarray:
    """IoU of each true component, in the order of `components_of`."""
    width = boundary_width((truth.shape[0], truth.shape[1]))
    errors = classify_errors(find_components(truth), find_components(prediction), KINDS, width=width)
    return errors.components.iou[errors.components.is_true]


def planted(table: ComponentTable, repetitions: int) -> list[str]:
    """Recall by effect and the share of false claims where the effects are known."""
    rng = np.random.default_rng(SEED)
    count, images = len(table.iou), int(table.image.max()) + 1
    ranks = np.stack([stats.rankdata(column, nan_policy="omit") for column in table.factors.T], axis=1)
    ranks = np.nan_to_num(ranks / count - 0.5)
    spans = np.quantile(ranks, 0.9, axis=0) - np.quantile(ranks, 0.1, axis=0)
    found: dict[float, list[bool]] = {effect: [] for effect in EFFECTS}
    known: dict[float, list[tuple[bool, bool]]] = {effect: [] for effect in EFFECTS}
    false: list[bool] = []
    for repetition in range(repetitions):
        chosen = rng.choice(len(NAMES), 3, replace=False)
        effects = rng.choice(EFFECTS, 3)
        slopes = np.zeros(len(NAMES))
        slopes[chosen] = effects * rng.choice([-1, 1], 3) / spans[chosen]
        of_class = rng.uniform(0.35, 0.75, len(CLASSES))[table.class_id]
        chance = rng.normal(0, 0.06, images)[table.image] + rng.normal(0, 0.2, count)
        made = ComponentTable(
            np.clip(of_class + ranks @ slopes + chance, 0, 1), table.class_id, table.image, table.factors
        )
        for effect, tests in zip(effects, knowing(made, ranks[:, chosen], slopes[chosen]), strict=True):
            known[float(effect)].append(tests)
        for row in factor_effects(made, seed=repetition):
            place, is_reason = NAMES.index(str(row[0])), bool(row[8])
            if slopes[place]:
                found[float(effects[list(chosen).index(place)])].append(
                    is_reason and np.sign(row[3]) == np.sign(slopes[place])
                )
            else:
                false.append(is_reason)
    lines = [f"planted effects: {count} components of {images} scenes, {repetitions} repetitions"]
    for effect, claims in found.items():
        at_once, alone = np.mean(known[effect], axis=0)
        lines.append(
            f"  effect {effect:.2f}: called a reason in {np.mean(claims):.3f} of {len(claims)}; by a test that knows "
            f"the three factors {at_once:.3f} at the level of all factors at once, {alone:.3f} at 5% each"
        )
    return [*lines, f"  no effect: called a reason in {np.mean(false):.3f} of {len(false)}", ""]


def knowing(table: ComponentTable, ranks: np.ndarray, slopes: np.ndarray) -> list[tuple[bool, bool]]:
    """Whether least squares that is told which factors have an effect finds each of them, at two levels.

    Args:
        table: With IoUs that are made up.
        ranks: Of the factors that have an effect, shape (K, 3).
        slopes: Of each.
    """
    design = np.column_stack([np.eye(len(CLASSES))[table.class_id], ranks])
    design = design[:, design.any(axis=0)]
    bread = np.linalg.inv(design.T @ design)
    solution = bread @ design.T @ table.iou
    errors = table.iou - design @ solution
    images = int(table.image.max()) + 1
    scores = np.stack([np.bincount(table.image, column * errors, images) for column in design.T], axis=1)
    deviation = np.sqrt(np.diag(bread @ scores.T @ scores @ bread) * images / (images - 1))
    t = (solution / deviation)[-len(slopes) :] * np.sign(slopes)
    at_once, alone = stats.t.ppf([1 - 0.05 / len(NAMES) / 2, 0.975], images - 1)
    return [(bool(one > at_once), bool(one > alone)) for one in t]


def planted_frequencies(every: ComponentTable, repetitions: int) -> list[str]:
    """How often the frequency of the class is called a reason where its effect is known, on half of the images."""
    own = every.image <= every.image.max() // 2
    table = ComponentTable(every.iou[own], every.class_id[own], every.image[own], every.factors[own])
    lines = [f"planted frequencies: {len(table.iou)} components, {repetitions} repetitions of each"]
    lines.append(f"  {'classes':>8}" + "".join(f"{f'effect {effect:.1f}':>14}" for effect in FREQUENCY_EFFECTS))
    lines[-1] += f"{'0, small rare':>16}"
    for classes in CLASS_COUNTS:
        cases = [(effect, False) for effect in FREQUENCY_EFFECTS] + [(0.0, True)]
        shares = []
        for effect, small_are_rare in cases:
            found = []
            for repetition in range(repetitions):
                rng = np.random.default_rng([SEED, classes, round(10 * effect), small_are_rare, repetition])
                made = of_frequency(table, classes, effect, small_are_rare, rng)
                rows = [row for row in factor_effects(made, resamples=200, seed=repetition) if row[0] == "frequency"]
                found += [bool(row[8]) and (effect == 0 or float(str(row[3])) > 0) for row in rows]
            shares.append(np.mean(found))
        lines.append(f"  {classes:>8}" + "".join(f"{share:>14.2f}" for share in shares[:-1]) + f"{shares[-1]:>16.2f}")
    return [*lines, ""]


def of_frequency(
    table: ComponentTable, classes: int, effect: float, small_are_rare: bool, rng: np.random.Generator
) -> ComponentTable:
    """Components of made-up classes; the IoU of a class differs by chance and, by `effect`, with its frequency."""
    count, images = len(table.iou), int(table.image.max()) + 1
    parts = classes // len(np.unique(table.class_id))
    class_id = np.unique(table.class_id, return_inverse=True)[1] * parts + rng.integers(0, parts, count)
    frequency = 10 ** rng.uniform(-1.7, 0, classes)
    size = stats.rankdata(table.factors[:, NAMES.index("size")]) / count - 0.5
    # A curved effect of size: the model, which takes it for straight, must not blame it on the frequency.
    of_size = 0.25 * np.tanh(4 * (size + 0.2)) if small_are_rare else 0.25 * size
    if small_are_rare:
        sizes = np.array([size[class_id == place].mean() for place in range(classes)])
        places = stats.rankdata(sizes + rng.normal(0, 0.1, classes), method="ordinal") - 1
        frequency = np.sort(frequency)[places]
    ranks = (stats.rankdata(frequency) - 0.5) / classes - 0.5
    span = np.quantile(ranks, 0.9) - np.quantile(ranks, 0.1)
    of_class = rng.uniform(0.35, 0.75, classes) + effect / span * ranks
    chance = rng.normal(0, 0.06, images)[table.image] + rng.normal(0, 0.2, count)
    iou = np.clip(of_class[class_id] + of_size + chance, 0, 1)
    return ComponentTable(iou, class_id, table.image, table.factors, frequency=frequency)


def of_model(folder: Path, scenes: int, changed: int) -> list[str]:
    """Claims and true effects of one model."""
    predict = predictor(folder)
    claims = {str(row[0]): row for row in factor_effects(natural(scenes, predict))}
    lines = [f"{folder.name}: claims on {scenes} scenes; true effects on {changed} scenes drawn twice"]
    lines.append(f"  {'changed':10}{'true effect':>24}   {'factor':10}{'adjusted':>24}{'alone':>8}  reason  right")
    for name, (factor, change, span) in CHANGES.items():
        values = np.quantile(span, (0.1, 0.9))
        # More haze is a smaller range.
        values = values[::-1] if name == "haze" else values
        differences = []
        for place in range(changed):
            spec = scene_spec("test", FIRST_CHANGED + place)
            low, high = (draw_scene(change(spec, float(value))) for value in values)
            ious = [component_ious(one.mask, predict(one.image)) for one in (low, high)]
            differences.append(float((ious[1] - ious[0]).mean()))
        true = float(np.mean(differences))
        half = 1.96 * float(np.std(differences, ddof=1)) / len(differences) ** 0.5
        row = claims[factor]
        _, _, _, effect, lower, upper, alone, _, is_reason, *_ = row
        right = "" if NO_EFFECT <= abs(true) < EFFECT else str(bool(is_reason) == (abs(true) >= EFFECT))
        if is_reason and np.sign(true) != np.sign(effect) and abs(true) >= NO_EFFECT:
            right = "False"
        lines.append(
            f"  {name:10}{true:+8.3f} [{true - half:+.3f}, {true + half:+.3f}]   {factor:10}{effect:+8.3f} "
            f"[{lower:+.3f}, {upper:+.3f}]{alone:+8.3f}  {is_reason!s:6}  {right}"
        )
    others = [str(row[0]) for row in claims.values() if row[8] and row[0] not in {c[0] for c in CHANGES.values()}]
    return [*lines, f"  other reasons: {', '.join(others) or 'none'}", ""]


def predictor(folder: Path) -> Predict:
    """A function from an image to the mask that a model predicts, at the image's size."""
    place = folder / "model" if (folder / "model").is_dir() else folder
    model, record = rebuild_model(place)

    def predict(image: Image) -> Mask:
        height, width = record.config.image_size
        pixels = torch.from_numpy(image.copy())[None]
        resized = torch.nn.functional.interpolate(
            pixels.permute(0, 3, 1, 2).float(), size=(height, width), mode="bilinear", antialias=True
        )
        inputs = to_input(resized.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous(), record.normalisation, "cpu")
        with torch.no_grad():
            logits = model(inputs, resize=False)["out"][0].float()
        return predicted_class(resize_logits(logits, (image.shape[0], image.shape[1]))).numpy()

    return predict


def main() -> None:
    """Prints and keeps both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=lambda text: [Path(one) for one in text.split(",")], default=[])
    parser.add_argument("--scenes", type=int, default=400)
    parser.add_argument("--changed", type=int, default=120)
    parser.add_argument("--repetitions", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = natural(options.scenes, None)
    lines = planted(table, options.repetitions)
    lines += planted_frequencies(table, max(1, 2 * options.repetitions // 5))
    for folder in options.models:
        lines = [*lines, *of_model(folder, options.scenes, options.changed)]
    text = "\n".join(lines)
    print(text)
    RESULTS.write_text(text + "\n")


if __name__ == "__main__":
    main()
