"""What a node finds out before its first trial, and what is brought to it: no Ray is needed for that."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from trainables import node as module
from trainables.carried import Carried, packed, unpacked
from trainables.errors import CheckpointError, DataError, WeightsError
from trainables.execution import TrialData
from trainables.files import write_json
from trainables.models.weight_files import keep_copy, path_of, value_of
from trainables.node import NodeOrder, get_ready, hashes_of, leave, place_when_ready
from trainables.node_copies import Piece, finish_copy, listing_of, parts_of, write_part
from trainables.versions import code_version

Order = Callable[..., NodeOrder]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The node's own."""
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def order(mini_data: TrialData) -> Order:
    made = NodeOrder(
        token="t0",
        code=code_version(),
        data="folder",
        root=str(mini_data.data.root),
        train=mini_data.train,
        val=mini_data.val,
        hashes=hashes_of(mini_data.data, [*mini_data.train, *mini_data.val]),
        classes=tuple(info.name for info in mini_data.data.classes),
        cache_bytes=2**30,
    )
    return lambda **changes: dataclasses.replace(made, **changes)


def test_other_code_is_refused(order: Order) -> None:
    (fault,) = get_ready(order(code="0" * 12), "n1").faults
    assert f"other code ({code_version()})" in fault


def test_images_that_are_away_or_others_are_named(order: Order, mini_root: Path, tmp_path: Path) -> None:
    assert str(tmp_path / "nothing") in get_ready(order(root=str(tmp_path / "nothing")), "n1").data_fault
    other = shutil.copytree(mini_root, tmp_path / "other")
    shutil.copy(other / "images" / "im001.png", other / "images" / "im000.png")
    (other / "images" / "im002.png").unlink()
    fault = get_ready(order(root=str(other)), "n1").data_fault
    assert f"at {other} are not those" in fault
    assert "1 image of 19 missing or unreadable (im002), 1 image of 19 changed (im000)" in fault


@pytest.mark.parametrize("sees", [True, False])
def test_node_says_whether_it_sees_the_run_folder_and_decodes_into_its_own_cache(
    sees: bool, order: Order, mini_data: TrialData, tmp_path: Path, cache: Path
) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    asked = order(run_dir=str(run_dir), inputs=(("48x64", "stretch"),))
    asked.proof.write_text("t0" if sees else "another")
    report = get_ready(asked, "n1")
    assert report.faults == () and report.wants == ()
    assert len(report.decoded) == 1 and any((cache / "decoded").iterdir())
    data, own = place_when_ready(asked, "n1", mini_data)
    assert data == mini_data
    assert (own is None) == sees
    leave("t0", "n1")
    assert list((cache / "nodes").iterdir()) == []


def test_trial_on_a_node_that_never_gets_ready_is_the_machines_fault(
    order: Order, mini_data: TrialData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.0)
    with pytest.raises(DataError, match="n2 did not get ready"):
        place_when_ready(order(), "n2", mini_data)


def test_cache_folder_that_cannot_be_written_is_named(
    order: Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "file"))
    (fault,) = get_ready(order(), "n1").faults
    assert "set SEGSWEEP_CACHE there" in fault


def test_data_are_copied_once_and_then_found(
    order: Order, mini_data: TrialData, mini_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shutil.copytree(mini_root, tmp_path / "data")
    (root / "empty.txt").touch()
    (root / ".hidden").write_text("x")
    listing = listing_of(root)
    assert ".hidden" not in dict(listing.files)
    monkeypatch.setattr("trainables.node_copies.PART_BYTES", 1000)
    parts = list(parts_of(listing))
    assert len(parts) > 20 and max(sum(len(piece.content) for piece in part) for part in parts) <= 1000
    away = order(root=str(tmp_path / "away"), copy=listing.copy, copy_bytes=listing.bytes, run_dir=str(tmp_path))
    assert get_ready(away, "n1").wants == (listing.copy,)
    for part in parts:
        write_part(listing.copy, "n1", part)
    finish_copy(listing.copy, "n1")
    report = get_ready(away, "n1")
    assert report.wants == () and report.faults == () and report.root is not None
    copied = {path.relative_to(report.root).as_posix(): path.read_bytes() for path in walk(Path(report.root))}
    assert copied == {name: (root / name).read_bytes() for name, _ in listing.files}
    data, _ = place_when_ready(away, "n1", mini_data)
    assert str(data.data.root) == report.root and data.train == mini_data.train
    (Path(report.root) / "images" / "im000.png").write_bytes(b"torn")
    assert "im000" in get_ready(away, "n1").data_fault, "a copy is compared as well"
    (fault,) = get_ready(order(root=away.root, copy="another", copy_bytes=2**60), "n1").faults
    assert "GiB free" in fault


def walk(root: Path) -> Iterator[Path]:
    return (path for path in root.rglob("*") if path.is_file())


def test_piece_that_leads_out_of_the_copy_is_refused() -> None:
    with pytest.raises(DataError, match="leads out"):
        write_part("c", "n1", [Piece("../x", 0, np.zeros(1, np.uint8))])


def test_file_of_weights_is_used_where_it_was_brought(order: Order, tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"weights")
    value = value_of(file)
    file.unlink()
    assert get_ready(order(weights=(("lraspp_mobilenet_v3_large", value),)), "n1").wants == (value,)
    with pytest.raises(WeightsError, match="came torn"):
        keep_copy(value, b"others")
    keep_copy(value, b"weights")
    assert path_of(value).read_bytes() == b"weights"
    assert get_ready(order(weights=(("lraspp_mobilenet_v3_large", value),)), "n1").wants == ()


def test_checkpoint_is_carried_whole_or_not_at_all(tmp_path: Path) -> None:
    import hashlib

    def write(folder: Path, epoch: int) -> None:
        place = folder / f"epoch-{epoch:04d}"
        place.mkdir(parents=True)
        (place / "state.json").write_text(f"{epoch}")
        sums = {"state.json": hashlib.sha256(str(epoch).encode()).hexdigest()}
        write_json(place / "sha256.json", sums)

    write(tmp_path / "there", 2)
    write(tmp_path / "here", 1)
    carried = packed(tmp_path / "there")
    assert carried is not None and packed(tmp_path / "none") is None
    for broken in (
        Carried(carried.name, {**carried.files, "state.json": np.zeros(3, np.uint8)}),
        Carried(carried.name, {**carried.files, "other.py": np.zeros(3, np.uint8)}),
    ):
        with pytest.raises(CheckpointError, match="came torn"):
            unpacked(broken, tmp_path / "here")
        assert [path.name for path in (tmp_path / "here").iterdir()] == ["epoch-0001"]
    assert unpacked(carried, tmp_path / "here").name == "epoch-0002"
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["epoch-0002"]
    assert unpacked(carried, tmp_path / "here").is_dir(), "the same again is no fault"
