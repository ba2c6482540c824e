"""The two loops and what feeds them."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.metrics import confusion_matrix
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data._utils.pin_memory import pin_memory

from trainables.augmentations import Policy, PolicySpec
from trainables.data import DATASETS
from trainables.data.base import Image, Mask
from trainables.data.cache.decoded import DecodedCache
from trainables.errors import DivergedError
from trainables.execution import TrialData
from trainables.loaders import IMAGENET_NORMALISATION, Batch, EpochBatches, TrainingSet, evaluation_loader
from trainables.logits import predicted_class, resize_logits
from trainables.loops import evaluate, to_input, train_one_epoch
from trainables.metrics import ConfusionMatrix
from trainables.options import CROP, LETTERBOX, STRETCH, TrainingOptions
from trainables.pixel_classes import largest_somewhere, predicted_at
from trainables.seeds import derived_seed
from trainables.updates import Updater

from ..mini import TinyNet, write

CPU = torch.device("cpu")
GEOMETRIC = Policy(PolicySpec.from_flat({"policy": "all"}), (24, 32))


def image_of(dataset: TrainingSet, epoch: int, index: int) -> Tensor:
    return torch.from_numpy(dataset[(epoch, index)].image)


def samples(data: TrialData, *, seed: int, epoch: int) -> list[Tensor]:
    dataset = TrainingSet(DecodedCache(data.data, (24, 32), limit_bytes=2**20), data.train, GEOMETRIC, seed=seed)
    return [image_of(dataset, epoch, index) for index in range(len(data.train))]


def test_every_epoch_sample_and_seed_draws_its_own_augmentation(mini_data: TrialData) -> None:
    first = samples(mini_data, seed=0, epoch=1)
    for other in (samples(mini_data, seed=0, epoch=2), samples(mini_data, seed=1, epoch=1)):
        assert sum(torch.equal(a, b) for a, b in zip(first, other, strict=True)) <= 1
    assert all(torch.equal(a, b) for a, b in zip(first, samples(mini_data, seed=0, epoch=1), strict=True))


def test_equal_images_of_different_ids_are_augmented_differently(mini_data: TrialData) -> None:
    class OneImage(DecodedCache):
        def train_arrays(self, image_id: str) -> tuple[Image, Mask]:
            return super().train_arrays(mini_data.train[0])

    cache = OneImage(mini_data.data, (24, 32), limit_bytes=2**20)
    dataset = TrainingSet(cache, mini_data.train, GEOMETRIC, seed=0)
    drawn = [image_of(dataset, 1, index) for index in range(6)]
    pairs = [torch.equal(a, b) for a, b in itertools.combinations(drawn, 2)]
    assert sum(pairs) <= 1


def test_samples_do_not_depend_on_what_was_drawn_before(mini_data: TrialData) -> None:
    dataset = TrainingSet(DecodedCache(mini_data.data, (24, 32), limit_bytes=0), mini_data.train, GEOMETRIC, seed=3)
    forwards = [image_of(dataset, 1, index) for index in range(5)]
    torch.manual_seed(5)
    np.random.seed(5)
    backwards = [image_of(dataset, 1, index) for index in reversed(range(5))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forwards, backwards, strict=True))


def test_order_differs_in_every_epoch_and_repeats_with_the_seed() -> None:
    batches = EpochBatches(20, 4, seed=0)
    orders = []
    for epoch in range(1, 6):
        batches.epoch = epoch
        order = [item for batch in batches for item in batch]
        assert {e for e, _ in order} == {epoch}
        assert sorted(index for _, index in order) == list(range(20))
        orders.append(tuple(index for _, index in order))
    assert len(set(orders)) == 5
    again = EpochBatches(20, 4, seed=0)
    again.epoch = 3
    assert tuple(index for batch in again for _, index in batch) == orders[2]
    assert tuple(index for batch in EpochBatches(20, 4, seed=1) for _, index in batch) != orders[0]


@pytest.mark.parametrize(("length", "size", "steps", "batch"), [(9, 4, 2, 4), (5, 4, 1, 4), (8, 4, 2, 4), (3, 8, 1, 3)])
def test_incomplete_last_batch_is_left_out_but_no_image_for_good(
    length: int, size: int, steps: int, batch: int
) -> None:
    batches = EpochBatches(length, size, seed=0)
    seen: set[int] = set()
    for epoch in range(1, 40):
        batches.epoch = epoch
        drawn = list(batches)
        assert len(drawn) == len(batches) == steps
        assert [len(items) for items in drawn] == [batch] * steps
        seen |= {index for items in drawn for _, index in items}
    assert seen == set(range(length))


def test_derived_seeds_are_fixed_for_ever_and_separate_their_parts() -> None:
    # hashlib.blake2b(b"order\x1f0\x1f1", digest_size=4), little-endian: runs of other days must give the same digits.
    assert derived_seed("order", 0, 1) == 2977485673
    seeds = {derived_seed(*parts) for parts in [("a", 1, 11), ("a", 11, 1), ("a", 111), ("a1", 11), ("b", 1, 11)]}
    assert len(seeds) == 5
    assert all(0 <= derived_seed("x", n) < 2**32 for n in range(100))


class Scripted(nn.Module):
    """Logits that depend on the image in a fixed, uneven way; channel order as torch's."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, classes, 5, padding=2)

    def forward(self, images: Tensor, *, resize: bool = True) -> dict[str, Tensor]:
        assert not resize, "logits are to be enlarged once, to each mask's own size"
        return {"out": functional.avg_pool2d(self.conv(images), 4)}


def sampled(logits: np.ndarray, size: tuple[int, int], content: tuple[float, float]) -> np.ndarray:
    """Logits (C, h, w) bilinearly at the centres of an image's pixels, of which they show `content` (of h and of w)."""
    at = [
        np.clip((np.arange(n) + 0.5) * part / n - 0.5, 0, side - 1)
        for n, part, side in zip(size, content, logits.shape[1:], strict=True)
    ]
    grid = np.stack(np.meshgrid(*at, indexing="ij"))
    return np.stack([ndimage.map_coordinates(plane, grid, order=1, mode="nearest") for plane in logits])


def brute_force(model: nn.Module, data: TrialData, size: tuple[int, int], resize: str) -> np.ndarray:
    """Image by image, with torchvision-free NumPy normalisation and scikit-learn's confusion matrix."""
    total = np.zeros((3, 3), np.int64)
    plain = DecodedCache(data.data, size, limit_bytes=0, resize=resize)
    for image_id in data.val:
        shown = plain.eval_arrays(image_id)[0]
        canvas = shown.shape[:2]
        image = shown.astype(np.float32) / 255
        image = (image - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
        truth = np.array(PIL.Image.open(data.data.paths(image_id)[1]))
        with torch.no_grad():
            logits = model(torch.from_numpy(image.transpose(2, 0, 1)[None]).float(), resize=False)["out"]
        scale = min(size[0] / truth.shape[0], size[1] / truth.shape[1])
        takes = tuple(round(side * scale) for side in truth.shape) if resize == LETTERBOX else canvas
        content = [side * part / whole for side, part, whole in zip(logits.shape[2:], takes, canvas, strict=True)]
        full = sampled(logits[0].double().numpy(), truth.shape, (content[0], content[1]))
        known = truth != 255
        total += confusion_matrix(truth[known], full.argmax(0)[known], labels=[0, 1, 2])
    return total


@pytest.mark.parametrize(
    ("batch_size", "resize"),
    [(1, STRETCH), (3, STRETCH), (8, STRETCH), (1, LETTERBOX), (3, LETTERBOX), (1, CROP), (3, CROP)],
)
def test_evaluation_equals_a_loop_at_the_masks_own_sizes_whatever_the_batch(
    tmp_path: Path, batch_size: int, resize: str
) -> None:
    root = write(tmp_path / "mixed", count=8, sizes=((48, 64), (40, 72), (65, 49)), seed=4)
    data = DATASETS.get("folder")(root=root)
    mixed = TrialData(data, (), tuple(data.ids()))
    model = Scripted(3).eval()
    matrix = ConfusionMatrix(3)
    loader = evaluation_loader(data, mixed.val, size=(32, 40), batch_size=batch_size, resize=resize)
    evaluate(model, loader, [matrix])
    expected = brute_force(model, mixed, (32, 40), resize)
    assert expected.sum() == sum(int((np.array(data.mask(i)) != 255).sum()) for i in mixed.val)
    assert (np.diag(expected) > 0).sum() >= 2, "the model must predict more than one class for this to say much"
    assert np.abs(matrix.value() - expected).sum() <= 4  # ties decided by rounding


def test_evaluation_visits_every_image_once_in_order_and_at_its_own_size(mini_data: TrialData) -> None:
    seen: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []

    class Spy:
        def process(self, image_id: str, logits: Tensor, prediction: Tensor, target: Tensor) -> None:
            seen.append((image_id, tuple(logits.shape), tuple(target.shape)))
            assert torch.equal(prediction, logits.argmax(0))
            assert prediction.dtype == target.dtype == torch.uint8

    model = TinyNet(3).train()
    evaluate(model, evaluation_loader(mini_data.data, mini_data.val, size=(24, 32), batch_size=2), [Spy(), Spy()])
    assert [image_id for image_id, *_ in seen[::2]] == list(mini_data.val)
    assert {(logits, target) for _, logits, target in seen} == {((3, 48, 64), (48, 64))}
    assert not model.training


def test_outputs_that_are_not_finite_are_a_divergence(mini_data: TrialData) -> None:
    model = TinyNet(3)
    nn.init.constant_(model.head.bias, float("nan"))
    with pytest.raises(DivergedError, match="not finite"):
        evaluate(model, evaluation_loader(mini_data.data, mini_data.val, size=(24, 32), batch_size=2), [])


def batches_of(count: int) -> Iterator[Batch]:
    torch.manual_seed(1)
    for _ in range(count):
        yield Batch(
            ("a", "b"),
            torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8),
            torch.randint(0, 3, (2, 16, 16), dtype=torch.uint8),
        )


def train(
    model: nn.Module,
    steps: int,
    *,
    schedule: Callable[[int], float] = lambda step: 1.0,
    done: int = 0,
    training: TrainingOptions | None = None,
    **changes: object,
) -> dict[str, float]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    updater = Updater(model, optimizer, schedule, training or TrainingOptions())
    updater.done = done
    options: dict[str, object] = {
        "loss": functional.cross_entropy,
        "updater": updater,
        "aux_weight": 0.4,
        "normalisation": IMAGENET_NORMALISATION,
        "device": CPU,
        **changes,
    }
    return train_one_epoch(model, batches_of(steps), **options)  # type: ignore[arg-type]


def test_epoch_equals_the_textbook_loop() -> None:
    def bare(model: nn.Module) -> float:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        losses = []
        for step, batch in enumerate(batches_of(4)):
            optimizer.param_groups[0]["lr"] = 0.1 * (1 - (step + 4) / 8)  # the second half of a linear decay
            images = ((batch.images / 255 - mean) / std).permute(0, 3, 1, 2)
            outputs = model(images)
            loss = functional.cross_entropy(outputs["out"], batch.masks.long())
            loss = loss + 0.4 * functional.cross_entropy(outputs["aux"], batch.masks.long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return float(np.mean(losses))

    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(TinyNet(3))
        models[-1].backbone[3] = nn.Identity()
    expected = bare(models[0].train())
    trained = train(models[1], 4, schedule=lambda step: 1 - step / 8, done=4)
    assert trained["train/loss"] == pytest.approx(expected, rel=1e-5)
    assert trained["train/lr"] == pytest.approx(0.1 / 8)
    for ours, theirs in zip(models[1].parameters(), models[0].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_auxiliary_loss_counts_only_with_its_weight() -> None:
    def aux_after(weight: float) -> Tensor:
        torch.manual_seed(0)
        model = TinyNet(3)
        train(model, 3, aux_weight=weight)
        return model.aux.weight.detach()

    torch.manual_seed(0)
    untouched = TinyNet(3).aux.weight.detach()
    assert torch.equal(aux_after(0.0), untouched)
    assert not torch.equal(aux_after(0.4), untouched)


@pytest.mark.parametrize("bad_step", [0, 1, 19, 24])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_loss_that_is_not_finite_is_a_divergence_wherever_it_happens(bad_step: int, value: float) -> None:
    calls = itertools.count()

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        good = functional.cross_entropy(logits, target)
        return good * value if next(calls) == bad_step else good

    noticed = 25 if bad_step > 19 else 20  # looked at every 20 steps and at the end
    with pytest.raises(DivergedError, match=f"training loss became .* within {noticed} batches"):
        train(TinyNet(3), 25, loss=loss, aux_weight=0.0)


def test_accumulated_batches_are_one_step_and_what_is_left_at_the_end_is_one_too() -> None:
    """Five batches in threes are two steps: after the third, and after the fifth with the mean of two."""
    torch.manual_seed(0)
    model = TinyNet(3)
    model.backbone[1] = model.backbone[3] = nn.Identity()
    twin = copy.deepcopy(model)
    rates: list[int] = []

    def schedule(step: int) -> float:
        rates.append(step)
        return 1.0

    trained = train(model, 5, training=TrainingOptions(accumulate=3), schedule=schedule)
    assert rates == [0, 1]
    batches, losses = list(batches_of(5)), []
    optimizer = torch.optim.SGD(twin.train().parameters(), lr=0.1)
    for group in (batches[:3], batches[3:]):
        optimizer.zero_grad()
        for batch in group:
            outputs = twin(to_input(batch.images, IMAGENET_NORMALISATION, CPU))
            loss = functional.cross_entropy(outputs["out"], batch.masks.long())
            loss = loss + 0.4 * functional.cross_entropy(outputs["aux"], batch.masks.long())
            (loss / len(group)).backward()
            losses.append(loss.item())
        optimizer.step()
    assert trained["train/loss"] == pytest.approx(float(np.mean(losses)), rel=1e-5)
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_memory_layout_of_images_changes_no_value() -> None:
    images = torch.randint(0, 256, (2, 8, 6, 3), dtype=torch.uint8)
    plain, last = (to_input(images, IMAGENET_NORMALISATION, CPU, channels_last=flag) for flag in (False, True))
    assert plain.is_contiguous()
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(plain, last)


def test_batches_are_mixed_with_a_seed_for_every_sample_and_epoch(mini_data: TrialData) -> None:
    seen: list[list[int]] = []

    class Mixing(Policy):
        def mix(self, images: Image, masks: Mask, seeds: Sequence[int]) -> tuple[Image, Mask]:
            seen.append(list(seeds))
            return images[::-1].copy(), masks[::-1].copy()

    policy = Mixing(PolicySpec.from_flat({"policy": "none"}), (24, 32))
    dataset = TrainingSet(DecodedCache(mini_data.data, (24, 32), limit_bytes=0), mini_data.train, policy, seed=1)
    items = [dataset[(epoch, index)] for epoch, index in ((1, 0), (1, 1), (2, 0))]
    batch = dataset.collate(items)
    assert batch.ids == [mini_data.train[0], mini_data.train[1], mini_data.train[0]]
    np.testing.assert_array_equal(batch.images[0].numpy(), items[2].image)
    np.testing.assert_array_equal(batch.masks[0].numpy(), items[2].mask)
    assert len(set(seen[0])) == 3
    assert seen[0][0] == derived_seed("mix", 1, 1, mini_data.train[0])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("classes", [2, 21, 255])
def test_predicted_class_is_the_first_of_the_largest(layout: torch.memory_format, classes: int) -> None:
    torch.manual_seed(classes)
    logits = torch.randint(0, 6, (1, classes, 13, 17)).float().to(memory_format=layout)  # many ties
    found = predicted_class(logits[0])
    assert found.dtype is torch.uint8
    assert torch.equal(found.long(), logits[0].argmax(dim=0))


@settings(max_examples=60)
@given(
    st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.sampled_from([1.0, 0.7, 0.3]), st.sampled_from([1.0, 0.6])),
    st.integers(0, 2**31),
)
def test_classes_that_lead_nowhere_need_not_be_enlarged(
    own: tuple[int, int, int], size: tuple[int, int], seen: tuple[float, float], seed: int
) -> None:
    """Whole numbers have ties; an offset lets some classes lead nowhere."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-2, 3, own) if seed % 2 else rng.normal(size=own)
    logits = torch.from_numpy((values + 2 * rng.integers(-2, 3, (own[0], 1, 1))).astype(np.float32))
    found = predicted_at(logits, size, seen=seen)
    assert found.dtype is torch.uint8
    assert torch.equal(found, predicted_class(resize_logits(logits, size, seen=seen)))


def test_rounding_decides_between_equal_classes_as_where_all_is_enlarged() -> None:
    logits = torch.randn(1, 28, 28, generator=torch.Generator().manual_seed(0)).repeat(3, 1, 1)
    logits[1], logits[2] = logits[0].flip(0), logits[0] * (1 + 1e-7)
    found = predicted_at(logits, (375, 500))
    assert torch.equal(found, predicted_class(resize_logits(logits, (375, 500))))


def test_only_classes_that_lead_somewhere_are_enlarged() -> None:
    logits = torch.full((21, 4, 4), -5.0)
    logits[3], logits[7, :, 2:], logits[9, 0, 0] = 1.0, 2.0, 1.0
    assert largest_somewhere(logits).tolist() == [3, 7, 9]


def test_outputs_whose_sum_overflows_are_finite_all_the_same(mini_data: TrialData) -> None:
    model = TinyNet(3)
    nn.init.constant_(model.head.weight, 0.0)
    nn.init.constant_(model.head.bias, 3e38)
    matrix = ConfusionMatrix(3)
    evaluate(model, evaluation_loader(mini_data.data, mini_data.val, size=(24, 32), batch_size=2), [matrix])
    assert matrix.value().sum() > 0


@pytest.mark.parametrize("size", [(48, 64), (12, 16), (31, 17)])
def test_logits_are_resized_with_half_pixel_centres(size: tuple[int, int]) -> None:
    logits = torch.randn(3, 24, 32)
    expected: Callable[..., Tensor] = functional.interpolate
    assert torch.equal(
        resize_logits(logits, size), expected(logits[None], size=size, mode="bilinear", align_corners=False)[0]
    )
    assert resize_logits(logits, (24, 32)) is logits


@settings(max_examples=50)
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.floats(0.1, 1), st.floats(0.1, 1)),
)
def test_logits_beside_an_image_are_cut_off_where_its_last_pixel_ends(
    own: tuple[int, int], size: tuple[int, int], seen: tuple[float, float]
) -> None:
    logits = np.random.default_rng(0).normal(size=(2, *own)).astype(np.float32)
    found = resize_logits(torch.from_numpy(logits), size, seen=seen)
    expected = sampled(logits.astype(np.float64), size, (own[0] * seen[0], own[1] * seen[1]))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-4)


def test_input_is_normalised_with_the_given_statistics() -> None:
    images = torch.tensor([[[[0, 128, 255]]]], dtype=torch.uint8)
    found = to_input(images, {"mean": (0.5, 0.5, 0.25), "std": (0.5, 0.25, 0.5)}, "cpu")
    assert found.shape == (1, 3, 1, 1)
    np.testing.assert_allclose(found.flatten(), [-1.0, (128 / 255 - 0.5) / 0.25, 1.5], rtol=1e-5)


def test_batches_are_pinned_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader pins tensors, and what has a `pin_memory` of its own; anything else it silently hands on as it is."""
    pinned: list[Tensor] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor + 1)  # type: ignore[func-returns-value]
    images, masks = torch.zeros(2, 4, 4, 3), torch.zeros(2, 4, 4)
    batch = pin_memory(Batch(("a", "b"), images, masks))
    assert (len(pinned), batch.ids) == (2, ("a", "b"))
    assert torch.equal(batch.images, images + 1)
    assert torch.equal(batch.masks, masks + 1)
    batch = pin_memory(Batch(("a", "b"), images, list(masks)))
    assert len(pinned) == 5
    assert all(torch.equal(mask, masks[0] + 1) for mask in batch.masks)
