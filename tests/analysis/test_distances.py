"""Frequency of classes in training and distance to it: counted, kept, and told as unknown where they are."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from analysis import distances
from analysis.distances import DISTANCES, TRAINING_SAMPLE, sampled, training_images
from analysis.failures.training_images import mean_distance, unit_length
from analysis.kept import place_of
from sweep.verify import load_run_split
from trainables.checkpoint import rebuild_model
from trainables.data.resizing import resize_image
from trainables.data.splits.frozen import Split
from trainables.loaders import Batch
from trainables.loops import to_input

from .small_run import made_once


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with made_once(tmp_path_factory) as (data, run):
        # The run has four training images; those of test are enough to stand for them.
        val, train = (load_run_split(run, name) for name in ("val", "test"))
        place_of(run, val, "0001-finish").mkdir(parents=True)
        yield data, run, val, train


def measure(made, *, train: Split | None = None):
    data, run, val, usual = made
    return training_images(run, ["best"], run / "best" / "best", data, val, train or usual)


def test_distances_are_those_of_the_pooled_features(made):
    data, run, val, train = made
    found = measure(made)
    model, record = rebuild_model(run / "best" / "best")

    def features(image_id):
        image = torch.from_numpy(resize_image(data.image(image_id), record.config.image_size))[None]
        with torch.no_grad():
            maps = model.backbone(to_input(image, record.normalisation, "cpu"))
        pooled = maps[model.head_input or list(maps)[-1]][0].mean(dim=(1, 2)).double().numpy()
        return pooled / np.linalg.norm(pooled)

    bank = np.stack([features(image_id) for image_id in train.ids])
    nearest = NearestNeighbors(n_neighbors=5).fit(bank)
    typical = np.median(nearest.kneighbors()[0].mean(axis=1))
    own = nearest.kneighbors(np.stack([features(image_id) for image_id in val.ids]))[0].mean(axis=1)
    assert found.distances["best"] == pytest.approx(own / typical, rel=1e-3)
    assert found.missing == () and list(found.distances) == ["best"]
    masks = [data.mask(image_id) for image_id in train.ids]
    assert found.frequency == pytest.approx([np.mean([(mask == c).any() for mask in masks]) for c in range(3)])


def test_distances_are_kept_and_trusted_only_with_their_seal(made, monkeypatch):
    _, run, val, _ = made
    first = measure(made).distances["best"]
    path = place_of(run, val, "0001-finish") / f"{DISTANCES}.json"
    calls = []
    usual = distances._distances
    monkeypatch.setattr(distances, "_distances", lambda *args, **options: calls.append(1) or usual(*args, **options))
    assert measure(made).distances["best"].tolist() == first.tolist() and not calls
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps({**content, "numbers": [9.0] * len(val.ids)}))
    assert measure(made).distances["best"] == pytest.approx(first) and calls == [1]


def test_what_cannot_be_known_is_told(made):
    data, run, _, train = made
    few = measure(made, train=load_run_split(run, "train"))
    assert few.frequency is not None and not few.distances
    assert few.missing == ("The distance to the training images is not known: it takes 20 of them, and there are 4.",)
    other = Split("train", train.ids, train.groups, "0" * 64)
    for damage in (None, data.paths(train.ids[3])[1]):
        if damage is not None:
            content = damage.read_bytes()
            damage.unlink()
        found = measure(made, train=other if damage is None else train)
        assert found.frequency is None and not found.distances
        why = "the training images are no longer those" if damage is None else "1 of 42 training images cannot be read"
        assert "not known: " + why in found.missing[0]
    damage.write_bytes(content)


def test_what_lies_beside_an_image_is_in_no_mean_of_its_features():
    masks = [torch.zeros(40, 60, dtype=torch.uint8), torch.zeros(48, 48, dtype=torch.uint8)]
    batch = Batch(["fills the input", "is square"], torch.zeros(2, 32, 48, 3, dtype=torch.uint8), masks)
    maps = torch.ones(2, 3, 4, 6)
    maps[:, :, :, 4:] = 10.0
    assert distances._pooled(maps, batch, "stretch")[:, 0].tolist() == [4.0, 4.0]
    assert distances._pooled(maps, batch, "letterbox")[:, 0].tolist() == [4.0, 1.0]


def test_features_of_windows_are_averaged_over_what_shows_the_image():
    # Windows of 8x8 over 12x20: 2 rows by 3 columns, at 0 and 4, and at 0, 6 and 12.
    image = np.arange(12 * 20 * 3, dtype=np.uint16).reshape(12, 20, 3).astype(np.uint8)
    found = distances._in_windows(lambda images: images[:, :, :, 0].float()[:, None], image, (8, 8))
    parts = [image[top : top + 8, left : left + 8, 0] for top in (0, 4) for left in (0, 6, 12)]
    assert found.tolist() == pytest.approx([np.mean([part.mean() for part in parts])])
    low = distances._in_windows(lambda images: images[:, ::2, ::2, 0].float()[:, None], image[:4], (8, 8))
    assert low.tolist() == pytest.approx([np.mean([image[:4:2, left : left + 8 : 2, 0].mean() for left in (0, 6, 12)])])


def test_the_sample_is_bounded_and_the_same_for_the_same_training_images():
    many = Split("train", tuple(f"i{place}" for place in range(1000)), (None,) * 1000, "ab" * 32)
    chosen = sampled(many)
    assert len(set(chosen)) == TRAINING_SAMPLE and chosen == sampled(many)
    assert chosen != sampled(Split("train", many.ids, many.groups, "cd" * 32))


def test_an_image_is_no_neighbour_of_its_own():
    features = unit_length(np.random.default_rng(0).random((12, 4)))
    nearest = NearestNeighbors(n_neighbors=5).fit(features)
    assert mean_distance(features, features, own=True) == pytest.approx(nearest.kneighbors()[0].mean(axis=1))
    assert mean_distance(features, features) == pytest.approx(nearest.kneighbors(features)[0].mean(axis=1), abs=1e-6)
    assert unit_length(np.zeros((1, 3))).tolist() == [[0, 0, 0]]
