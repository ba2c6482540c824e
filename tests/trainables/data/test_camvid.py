from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from trainables.data import DATASETS
from trainables.data.camvid import GAP_SECONDS
from trainables.data.check import check
from trainables.errors import DataError

camvid = DATASETS.get("camvid")


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """Two sequences, a frame a second, classes that change along the road."""
    root = tmp_path / "drive"
    for part, start, stop in (("train", 0, 90), ("val", 90, 120)):
        for kind in (part, f"{part}annot"):
            (root / kind).mkdir(parents=True)
        for sequence in ("0001TP", "0006R0"):
            for second in range(start, stop):
                stem = f"{sequence}_{'f' if sequence == '0006R0' else ''}{30 * second + 7:05d}"
                rng = np.random.default_rng([second, sequence == "0001TP"])
                PIL.Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).save(root / part / f"{stem}.png")
                mask = rng.integers(0, 12, (6, 8), np.uint8)
                PIL.Image.fromarray(mask).save(root / f"{part}annot" / f"{stem}.png")
    return root


def moment(image_id: str) -> tuple[str, float]:
    """Sequence and second of a frame; 30 frames are a second."""
    sequence, frame = image_id.split("_")
    return sequence, int(frame.removeprefix("f")) / 30


def closest(first: tuple[str, ...], second: tuple[str, ...]) -> float:
    """Seconds between the closest frames of one sequence, one of each split."""
    gaps = [float("inf")]
    for one in first:
        for other in second:
            (sequence, time), (other_sequence, other_time) = moment(one), moment(other)
            if sequence == other_sequence:
                gaps.append(abs(time - other_time))
    return min(gaps)


def assert_no_leak(data, splits) -> None:  # type: ignore[no-untyped-def]
    parts = (splits.train, splits.val, splits.test)
    for number, part in enumerate(parts):
        for other in parts[number + 1 :]:
            assert not set(part) & set(other)
            assert closest(part, other) >= GAP_SECONDS
            assert not {data.group(i) for i in part} & {data.group(i) for i in other}


@pytest.mark.parametrize("seed", range(4))
def test_splits_are_blocks_of_video_with_gaps(drive: Path, seed: int) -> None:
    data = camvid(root=drive)
    splits = data.splits(seed=seed)
    assert_no_leak(data, splits)
    assert data.splits(seed=seed) == splits
    assert min(map(len, (splits.train, splits.val, splits.test))) >= 20
    assert not check(data, splits).warnings, "every class in every split"
    for group in {data.group(i) for i in data.ids()}:
        times = sorted(moment(i) for i in data.ids() if data.group(i) == group)
        assert times[-1][1] - times[0][1] < 15
        assert times[0][0] == times[-1][0]


def test_unlabelled_is_void(drive: Path) -> None:
    data = camvid(root=drive)
    stored = np.array(PIL.Image.open(data.paths("0001TP_00007")[1]))
    assert (stored == 11).any()
    np.testing.assert_array_equal(data.mask("0001TP_00007"), np.where(stored == 11, 255, stored))


def test_reader_is_warned_about_the_official_split(drive: Path) -> None:
    (warning,) = camvid(root=drive).splits().warnings
    assert "official" in warning


def test_frames_and_masks_without_each_other_are_listed(drive: Path) -> None:
    (drive / "train" / "0001TP_00007.png").unlink()
    (drive / "valannot" / "0001TP_02707.png").unlink()
    data = camvid(root=drive)
    found = sorted((offender.kind, offender.image_id) for offender in check(data, data.splits()).errors)
    assert found == [("image without mask", "0001TP_02707"), ("mask without image", "0001TP_00007")]


def test_names_without_a_frame_number_are_refused(drive: Path) -> None:
    for folder in ("train", "trainannot"):
        (drive / folder / "0001TP_00007.png").rename(drive / folder / "first.png")
    with pytest.raises(DataError, match="SEQUENCE_NUMBER"):
        camvid(root=drive)


def test_empty_root_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="trainannot"):
        camvid(root=tmp_path)
    with pytest.raises(DataError, match="cannot be downloaded"):
        camvid(root=tmp_path, download=True)


def test_real_frames(camvid_root: Path) -> None:
    data = camvid(root=camvid_root)
    splits = data.splits()
    assert len(data.ids()) == 367 + 101
    assert_no_leak(data, splits)
    result = check(data, splits)
    assert not result.errors and not result.warnings
    used = len(splits.train) + len(splits.val) + len(splits.test)
    assert used >= 0.85 * 468
    assert min(len({data.group(i) for i in part}) for part in (splits.train, splits.val, splits.test)) >= 4
    assert data.image(splits.val[0]).shape == (360, 480, 3)
