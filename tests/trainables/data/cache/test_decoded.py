import hashlib
import itertools
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from math import ceil, floor
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from trainables.augmentations import POLICIES, Policy, PolicySpec
from trainables.data import DATASETS, SegmentationData
from trainables.data.base import Image, Mask
from trainables.data.cache.decoded import DecodedCache, class_pixels
from trainables.data.cache.scan import scan
from trainables.data.reading import files as files_module
from trainables.data.resizing import resize_image, resize_mask
from trainables.errors import DataError

MakeFolder = Callable[..., Path]
REPO = Path(__file__).resolve().parents[4]
PLENTY = 10**9


def folder_data(root: Path) -> SegmentationData:
    return DATASETS.get("folder")(root=root)


def built(data: SegmentationData, size: tuple[int, int] = (6, 8), *, limit: int = PLENTY) -> DecodedCache:
    """All images of a data set cached for both uses."""
    cache = DecodedCache(data, size, limit_bytes=limit)
    cache.build(data.ids(), data.ids())
    return cache


def arrays(cache: DecodedCache, image_id: str) -> list[Image | Mask]:
    return [*cache.train_arrays(image_id), *cache.eval_arrays(image_id)]


def assert_same(first: DecodedCache, second: DecodedCache) -> None:
    for image_id in first.data.ids():
        for one, other in zip(arrays(first, image_id), arrays(second, image_id), strict=True):
            assert one.dtype == other.dtype == np.uint8
            np.testing.assert_array_equal(one, other)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images decoded since the test last cleared the list."""
    read: list[str] = []
    whole = files_module.read_image
    monkeypatch.setattr(files_module, "read_image", lambda path: (read.append(path.stem), whole(path))[1])
    return read


def packs(place: Path) -> list[Path]:
    return sorted((place / "decoded").glob("*.u8"))


def test_shrinking_an_image_takes_the_mean_of_the_area() -> None:
    image = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
    expected = image.reshape(4, 3, 5, 4, 3).mean(axis=(1, 3))
    assert np.abs(resize_image(image, (4, 5)).astype(float) - expected).max() <= 0.5 + 1e-6


def test_enlarging_an_image_is_bilinear_between_pixel_centres() -> None:
    image = np.zeros((1, 2, 3), np.uint8)
    image[0, 1] = 200
    assert resize_image(image, (1, 4))[0, :, 0].tolist() == [0, 50, 150, 200]


@pytest.mark.parametrize("size", [(5, 7), (12, 16), (31, 29), (12, 40), (3, 16)])
def test_resized_mask_takes_the_pixel_under_each_centre(size: tuple[int, int]) -> None:
    mask = np.random.default_rng(1).choice(np.array([0, 3, 200, 255], np.uint8), (12, 16))
    resized = resize_mask(mask, size)
    assert resized.shape == size
    for y in range(size[0]):
        for x in range(size[1]):
            # A centre that falls exactly between two pixels may take either.
            row, column = Fraction(2 * y + 1, 2) * Fraction(12, size[0]), Fraction(2 * x + 1, 2) * Fraction(16, size[1])
            near = mask[max(0, ceil(row) - 1) : floor(row) + 1, max(0, ceil(column) - 1) : floor(column) + 1]
            assert resized[y, x] in near


def write_image(root: Path, stem: str, size: tuple[int, int], seed: int) -> tuple[Image, Mask]:
    """An image and its mask of stored ids at a size."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*size, 3), np.uint8)
    mask = rng.choice(np.array([3, 7, 40, 255], np.uint8), size)
    PIL.Image.fromarray(image).save(root / "images" / f"{stem}.png")
    PIL.Image.fromarray(mask).save(root / "masks" / f"{stem}.png")
    return image, mask


def test_training_arrays_keep_the_original_up_to_twice_the_training_size(make_folder: MakeFolder) -> None:
    root = make_folder(1)
    with PIL.Image.open(root / "images/a00.png") as image, PIL.Image.open(root / "masks/a00.png") as mask:
        original, stored = np.asarray(image), np.asarray(mask)
    data = folder_data(root)
    same, means = data.mask("a00"), original.reshape(6, 2, 8, 2, 3).mean(axis=(1, 3))
    np.testing.assert_array_equal(np.array([3, 7, 40, 255])[np.minimum(same, 3)], stored)
    for cache in (built(data, (6, 8)), DecodedCache(data, (6, 8), limit_bytes=0)):
        image, mask = cache.train_arrays("a00")
        np.testing.assert_array_equal(image, original)
        np.testing.assert_array_equal(mask, same)
    for cache in (built(data, (3, 4)), DecodedCache(data, (3, 4), limit_bytes=0)):
        image, mask = cache.train_arrays("a00")
        assert np.abs(image.astype(float) - means).max() <= 0.5 + 1e-6
        np.testing.assert_array_equal(mask, resize_mask(same, (6, 8)))
    image, mask = built(data, (3, 100)).train_arrays("a00")
    assert (image.shape, mask.shape) == ((6, 16, 3), (6, 16))


def test_evaluation_arrays_are_the_image_at_the_training_size_and_the_mask_untouched(make_folder: MakeFolder) -> None:
    data = folder_data(make_folder(1))
    for size in ((6, 8), (3, 4), (20, 30)):
        image, mask = built(data, size).eval_arrays("a00")
        np.testing.assert_array_equal(image, resize_image(data.image("a00"), size))
        np.testing.assert_array_equal(mask, data.mask("a00"))


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (2, 40), (40, 50)])
def test_cached_arrays_equal_those_decoded_on_the_fly(make_folder: MakeFolder, size: tuple[int, int]) -> None:
    root = make_folder(2)
    for number, shape in enumerate([(9, 31), (50, 20), (13, 13)]):
        write_image(root, f"b{number}", shape, number)
    data = folder_data(root)
    assert_same(built(data, size), DecodedCache(data, size, limit_bytes=0))


def test_files_are_decoded_once_for_all_caches(make_folder: MakeFolder, reads: list[str]) -> None:
    data = folder_data(make_folder(3))
    built(data)
    reads.clear()
    for _ in range(2):
        cache = built(data)
        for image_id in data.ids():
            arrays(cache, image_id)
    assert reads == []


def test_only_images_that_are_asked_for_are_decoded(make_folder: MakeFolder, reads: list[str]) -> None:
    cache = DecodedCache(folder_data(make_folder(4)), (6, 8), limit_bytes=PLENTY)
    cache.build(["a01"], ["a03"])
    assert set(reads) == {"a01", "a03"}
    reads.clear()
    cache.train_arrays("a01")
    cache.eval_arrays("a03")
    assert reads == []
    cache.eval_arrays("a01")
    assert reads == ["a01"]


def test_without_build_nothing_is_written(make_folder: MakeFolder, own_cache: Path) -> None:
    arrays(DecodedCache(folder_data(make_folder(1)), (6, 8), limit_bytes=PLENTY), "a00")
    assert not (own_cache / "decoded").exists()


@pytest.mark.parametrize("changed", ["images", "masks"])
def test_changed_file_is_never_served_stale(make_folder: MakeFolder, reads: list[str], changed: str) -> None:
    root = make_folder(3)
    old = [array.copy() for array in built(folder_data(root)).train_arrays("a01")]
    shutil.copy(root / changed / "a02.png", root / changed / "a01.png")
    cache = built(folder_data(root))
    reads.clear()
    image, mask = cache.train_arrays("a01")
    np.testing.assert_array_equal(image, cache.train_arrays("a02")[0] if changed == "images" else old[0])
    np.testing.assert_array_equal(mask, cache.train_arrays("a02")[1] if changed == "masks" else old[1])
    assert reads == []


def test_file_changed_while_the_cache_is_built_is_not_kept(
    make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder(2)
    data = folder_data(root)
    scan(data)
    whole, changed = files_module.read_image, list[Image]()

    def change_first(path: Path) -> Image:
        if path.stem == "a01" and not changed:
            changed.append(write_image(root, "a01", (12, 16), 99)[0])
        return whole(path)

    monkeypatch.setattr(files_module, "read_image", change_first)
    cache = DecodedCache(data, (6, 8), limit_bytes=PLENTY)
    cache.build(data.ids())
    (image,) = changed
    monkeypatch.setattr(files_module, "read_image", lambda path: np.zeros((12, 16, 3), np.uint8))
    assert cache.train_arrays("a00")[0].any(), "kept"
    assert not cache.train_arrays("a01")[0].any(), "not kept: decoded now"
    monkeypatch.setattr(files_module, "read_image", whole)
    np.testing.assert_array_equal(built(data).train_arrays("a01")[0], image)


def test_file_that_vanishes_while_the_cache_is_built_is_left_out(
    make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = folder_data(make_folder(2))
    scan(data)
    whole = files_module.read_image

    def vanished(path: Path) -> Image:
        if path.stem == "a01":
            raise DataError(f"{path}: image is missing")
        return whole(path)

    monkeypatch.setattr(files_module, "read_image", vanished)
    cache = built(data)
    cache.train_arrays("a00")
    with pytest.raises(DataError, match="a01"):
        cache.train_arrays("a01")


def test_renamed_root_shares_the_files(make_folder: MakeFolder, reads: list[str], own_cache: Path) -> None:
    root = make_folder(3)
    old = built(folder_data(root))
    moved = folder_data(root.rename(root.with_name("elsewhere")))
    scan(moved)
    reads.clear()
    cache = built(moved)
    assert reads == []
    assert len(packs(own_cache)) == 1
    np.testing.assert_array_equal(cache.train_arrays("a02")[0], old.train_arrays("a02")[0])


def test_other_split_and_other_size_decode_only_what_is_new(make_folder: MakeFolder, reads: list[str]) -> None:
    data = folder_data(make_folder(4))
    scan(data)
    cache = DecodedCache(data, (6, 8), limit_bytes=PLENTY)
    cache.build(["a00", "a01"])
    reads.clear()
    cache.build(["a01", "a02", "a00"])
    assert reads == ["a02"]
    reads.clear()
    DecodedCache(data, (12, 16), limit_bytes=PLENTY).build(["a00", "a01", "a02"])
    assert reads == [], "below twice either size the originals are kept"


def test_other_meaning_of_the_ids_is_decoded_again(make_folder: MakeFolder) -> None:
    root = make_folder(2)
    before = built(folder_data(root)).eval_arrays("a00")[1]
    description = json.loads((root / "classes.json").read_text())
    description["classes"].pop()
    description["void"] = [40, 255]
    (root / "classes.json").write_text(json.dumps(description))
    after = built(folder_data(root)).eval_arrays("a00")[1]
    np.testing.assert_array_equal(after, np.where(before == 2, 255, before))


def test_equal_images_under_two_ids_are_kept_once_and_served_for_both(
    make_folder: MakeFolder, reads: list[str], own_cache: Path
) -> None:
    root = make_folder(1)
    for kind in ("images", "masks"):
        shutil.copy(root / kind / "a00.png", root / kind / "twin.png")
    data = folder_data(root)
    cache = built(data)
    reads.clear()
    np.testing.assert_array_equal(cache.train_arrays("twin")[0], cache.train_arrays("a00")[0])
    assert reads == []
    (pack,) = packs(own_cache)
    assert pack.stat().st_size == 12 * 16 * 4 + 6 * 8 * 3 + 12 * 16


def test_limit_keeps_the_first_images_and_the_plan_says_so(
    make_folder: MakeFolder, reads: list[str], own_cache: Path
) -> None:
    data = folder_data(make_folder(6))
    each = 12 * 16 * 4
    cache = DecodedCache(data, (6, 8), limit_bytes=3 * each + 5)
    order = ["a04", "a00", "a05", "a01", "a02", "a03"]
    plan = cache.plan(order)
    assert (plan.images, plan.needed_bytes, plan.limit_bytes) == (6, 6 * each, 3 * each + 5)
    assert (plan.cached_images, plan.cached_bytes, plan.missing_bytes) == (3, 3 * each, 3 * each)
    assert "the first 3, the others are decoded at each use" in str(plan)
    cache.build(order)
    assert cache.plan(order).missing_bytes == 0
    assert [pack.stat().st_size for pack in packs(own_cache)] == [3 * each]
    reads.clear()
    for image_id in data.ids():
        cache.train_arrays(image_id)
    assert reads == ["a01", "a02", "a03"]
    assert_same(cache, built(data))


def test_plan_says_the_size_before_anything_is_decoded_for_it(make_folder: MakeFolder, own_cache: Path) -> None:
    data = folder_data(make_folder(3))
    cache = DecodedCache(data, (600, 800), limit_bytes=PLENTY)
    expected = 2 * 12 * 16 * 4 + 600 * 800 * 3 + 12 * 16
    assert str(cache.plan(["a00", "a01"], ["a02"])) == f"decoded cache: 3 images, {round(expected / 1e6)} MB"
    assert packs(own_cache) == []
    cache.build(["a00", "a01"], ["a02"])
    assert packs(own_cache)[0].stat().st_size == expected
    assert str(cache.plan(["a00", "a01"], ["a02"])).endswith("; nothing to build")


def test_limit_zero_keeps_nothing(make_folder: MakeFolder, own_cache: Path) -> None:
    data = folder_data(make_folder(2))
    cache = built(data, limit=0)
    assert not (own_cache / "decoded").exists()
    assert_same(cache, DecodedCache(data, (6, 8), limit_bytes=0))
    assert str(cache.plan(["a00"], ["a01"])) == "decoded cache: off; the 2 images are decoded at each use"


def test_folder_that_cannot_be_written_costs_one_warning(
    make_folder: MakeFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = folder_data(make_folder(2))
    (tmp_path / "file").write_text("in the way")
    cache = DecodedCache(data, (6, 8), limit_bytes=PLENTY, folder=tmp_path / "file" / "decoded")
    cache.build(data.ids(), data.ids())
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "cannot be written" in caplog.text and "SEGSWEEP_CACHE" in caplog.text
    assert_same(cache, DecodedCache(data, (6, 8), limit_bytes=0))


def test_damaged_image_is_left_out_and_said_at_its_use(make_folder: MakeFolder, reads: list[str]) -> None:
    root = make_folder(3)
    image = root / "images" / "a01.png"
    image.write_bytes(image.read_bytes()[:100])
    data = folder_data(root)
    cache = DecodedCache(data, (6, 8), limit_bytes=PLENTY)
    assert cache.plan(data.ids()).images == 2
    cache.build(data.ids())
    reads.clear()
    cache.train_arrays("a00")
    cache.train_arrays("a02")
    assert reads == []
    with pytest.raises(DataError, match="a01"):
        cache.train_arrays("a01")


def test_work_in_place_does_not_reach_the_cache(make_folder: MakeFolder) -> None:
    data = folder_data(make_folder(1))
    for cache in (built(data), DecodedCache(data, (12, 16), limit_bytes=0)):
        for array in cache.train_arrays("a00"):
            with pytest.raises(ValueError, match="read-only"):
                array[:] = 0
        before = [array.copy() for array in cache.eval_arrays("a00")]
        for array in cache.eval_arrays("a00"):
            assert array.flags.writeable, "torch would write to the mapped file, which ends the process"
            torch.from_numpy(array).zero_()
        for old, new in zip(before, cache.eval_arrays("a00"), strict=True):
            np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("family", list(POLICIES))
def test_every_policy_works_on_arrays_that_it_may_not_change(make_folder: MakeFolder, family: str) -> None:
    image, mask = built(folder_data(make_folder(1)), (12, 16)).train_arrays("a00")
    before = image.copy(), mask.copy()
    policy = Policy(PolicySpec.from_flat({"policy": family}), (12, 16))
    for seed in range(20):
        policy(image, mask, seed=seed)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(mask, before[1])


def test_cache_travels_light_and_maps_on_arrival(make_folder: MakeFolder, reads: list[str]) -> None:
    root = make_folder(1)
    write_image(root, "large", (400, 500), 0)
    cache = built(folder_data(root), (300, 300))
    arrays(cache, "large")
    sent = pickle.dumps(cache)
    assert len(sent) < 10_000
    reads.clear()
    assert_same(pickle.loads(sent), cache)
    assert reads == []


class Child:
    """A process of its own that builds the cache of a folder and then does more."""

    def __init__(self, root: Path, work: str, *, marker: Path | None = None) -> None:
        code = f"""
import hashlib, os, time
from pathlib import Path
from trainables.data import DATASETS
from trainables.data.reading import files as files_module
from trainables.data.cache.decoded import DecodedCache
reads, whole = [], files_module.read_image
files_module.read_image = lambda path: (reads.append(path.stem), time.sleep(0.02), whole(path))[2]
data, marker = DATASETS.get('folder')(root=Path({str(root)!r})), Path({str(marker)!r})
cache = DecodedCache(data, (6, 8), limit_bytes=10**9)
{work}
"""
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def output(self) -> str:
        output, errors = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, errors
        return output.strip()


def appears(path: Path, child: Child) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert child.process.poll() is None and time.monotonic() < deadline, child.process.communicate()
        time.sleep(0.01)


def test_of_two_processes_one_builds_and_both_map_the_same_file(make_folder: MakeFolder, own_cache: Path) -> None:
    root = make_folder(20)
    data = folder_data(root)
    cache = DecodedCache(data, (6, 8), limit_bytes=PLENTY)
    cache.plan(data.ids())  # scans
    work = """
cache.build(data.ids())
count = len(reads)
digest = hashlib.sha256(b"".join(cache.train_arrays(i)[0].tobytes() for i in data.ids())).hexdigest()
mapped = {line.split()[4] for line in open("/proc/self/maps") if line.rstrip().endswith(".u8")}
print(count, len(reads), digest, *mapped)
"""
    outcomes = [child.output().split() for child in [Child(root, work) for _ in range(2)]]
    assert sorted(int(built) for built, *_ in outcomes) == [0, 20]
    assert sorted(int(read) for _, read, *_ in outcomes) == [0, 20], "no image was decoded again to be read"
    (pack,) = packs(own_cache)
    assert {tuple(inodes) for _, _, _, *inodes in outcomes} == {(str(pack.stat().st_ino),)}
    digest = hashlib.sha256(b"".join(cache.train_arrays(i)[0].tobytes() for i in data.ids())).hexdigest()
    assert {outcome[2] for outcome in outcomes} == {digest}


def test_builder_killed_half_way_leaves_nothing_visible_and_the_next_builds(
    make_folder: MakeFolder, tmp_path: Path, own_cache: Path
) -> None:
    root, marker = make_folder(12), tmp_path / "half"
    work = """
def half(done, total):
    if done == 6:
        marker.touch()
        time.sleep(100)
cache.build(data.ids(), progress=half)
"""
    child = Child(root, work, marker=marker)
    appears(marker, child)
    assert list((own_cache / "decoded").glob("*.tmp")), "it was at work"
    os.kill(child.process.pid, signal.SIGKILL)
    child.process.communicate(timeout=60)
    data = folder_data(root)
    cache = DecodedCache(data, (6, 8), limit_bytes=PLENTY)
    assert cache.plan(data.ids()).missing_bytes == 12 * 12 * 16 * 4
    steps: list[tuple[int, int]] = []
    cache.build(data.ids(), progress=lambda *step: steps.append(step))
    assert steps == [(done, 12) for done in range(1, 13)]
    assert cache.plan(data.ids()).missing_bytes == 0
    assert sorted(path.suffix for path in (own_cache / "decoded").iterdir()) == ["", ".json", ".u8"]
    assert_same(cache, DecodedCache(data, (6, 8), limit_bytes=0))


def test_first_arrays_of_a_second_trial_come_in_less_than_a_second_on_voc(voc_root: Path) -> None:
    data = DATASETS.get("voc2012")(root=voc_root)
    ids = list(itertools.islice(data.ids(), 60))
    first = DecodedCache(data, data.default_image_size, limit_bytes=PLENTY)
    first.build(ids[:40], ids[40:])

    def second_trial() -> tuple[float, list[tuple[Image, Mask]]]:
        started = time.perf_counter()
        second = DecodedCache(data, data.default_image_size, limit_bytes=PLENTY)
        second.build(ids[:40], ids[40:])
        batch = [second.train_arrays(image_id) for image_id in ids[:8]]
        return time.perf_counter() - started, batch

    seconds, batch = min((second_trial() for _ in range(3)), key=lambda outcome: outcome[0])
    assert seconds < 1
    for image_id, (image, mask) in zip(ids, batch, strict=False):
        image_path, mask_path = data.paths(image_id)
        with PIL.Image.open(image_path) as truth:
            np.testing.assert_array_equal(image, np.asarray(truth.convert("RGB")))
        with PIL.Image.open(mask_path) as truth:
            np.testing.assert_array_equal(mask, np.asarray(truth))


def test_class_pixels_equal_a_loop_over_the_masks(make_folder: MakeFolder) -> None:
    data = DATASETS.get("folder")(root=make_folder(5))
    ids = ["a04", "a01"]
    expected = [sum(int((data.mask(i) == c).sum()) for i in ids) for c in range(3)]
    assert class_pixels(data, ids).tolist() == expected
