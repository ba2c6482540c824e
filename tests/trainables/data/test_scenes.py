import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from trainables.data import DATASETS
from trainables.data.scenes import Scene, SceneObject, SceneSpec, dataset, draw_scene, scene_spec
from trainables.data.scenes.spec import CAR, CLASSES, PERSON, POLE, SIGN
from trainables.errors import DataError

FEW = {"train": 3, "val": 2, "test": 2}


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder that draws seven scenes."""
    build = dataset._build
    monkeypatch.setattr(dataset, "_build", lambda place: build(place, FEW))
    monkeypatch.setattr(dataset, "COUNTS", FEW)


def street(*things: SceneObject, split: str = "train") -> SceneSpec:
    """An empty street with a few things in it."""
    spec = scene_spec(split, 0)
    edges = tuple(item for item in spec.objects if item.kind == "building")
    return replace(spec, objects=edges + things)


def content(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("factor", ["light", "blur", "noise", "jpeg"])
def test_light_and_lens_change_the_image_and_nothing_in_the_mask(factor: str) -> None:
    spec = scene_spec("val", 3)
    changes = {
        "light": replace(spec, light=replace(spec.light, exposure=0.6, warmth=0.5, sun_side=-spec.light.sun_side)),
        "blur": replace(spec, camera=replace(spec.camera, blur=spec.camera.blur + 1)),
        "noise": replace(spec, camera=replace(spec.camera, noise=15.0)),
        "jpeg": replace(spec, camera=replace(spec.camera, jpeg=30)),
    }
    before, after = draw_scene(spec), draw_scene(changes[factor])
    np.testing.assert_array_equal(before.mask, after.mask)
    assert (before.image != after.image).mean() > 0.5
    assert [(o.pixels, o.occlusion, o.truncation, o.box) for o in before.objects] == [
        (o.pixels, o.occlusion, o.truncation, o.box) for o in after.objects
    ]


def test_a_larger_person_changes_the_scene_only_around_that_person() -> None:
    person = SceneObject("person", x=0.5, z=9.0, color=(204, 46, 50), seed=5)
    car = SceneObject("car", x=-2.0, z=14.0, color=(32, 62, 140), seed=6)
    small, large = street(car, person), street(car, replace(person, size=1.3))
    before, after = draw_scene(small), draw_scene(large)
    top, left, bottom, right = next(o.box for o in after.objects if o.kind == "person")
    changed = before.mask != after.mask
    assert changed.any()
    changed[max(0, top - 1) : bottom + 1, max(0, left - 1) : right + 1] = False
    assert not changed.any()
    # Chroma blocks of the compression are 16 pixels; the shadow falls on the ground beside the feet.
    far = np.ones(before.mask.shape, bool)
    far[max(0, top - 32) : bottom + 32, max(0, left - 40) : right + 40] = False
    assert far.mean() > 0.2
    np.testing.assert_array_equal(before.image[far], after.image[far])


def test_an_object_in_front_occludes_without_changing_the_size_behind() -> None:
    behind = SceneObject("car", x=0.0, z=14.0, color=(190, 30, 34), seed=1)
    front = SceneObject("person", x=0.0, z=8.0, seed=2)
    free, hidden = draw_scene(street(behind)), draw_scene(street(behind, front))
    free_car, hidden_car = (next(o for o in s.objects if o.kind == "car") for s in (free, hidden))
    assert free_car.occlusion == pytest.approx(0, abs=0.02)
    assert hidden_car.occlusion > 0.15
    assert hidden_car.pixels == pytest.approx(free_car.pixels * (1 - hidden_car.occlusion), rel=0.03)


def test_an_object_pushed_out_of_the_frame_is_truncated_by_what_is_missing() -> None:
    inside = street(SceneObject("car", x=0.0, z=9.0, seed=1))
    full = next(o for o in draw_scene(inside).objects if o.kind == "car")
    assert full.truncation == 0
    half_width = inside.width / 2 * 9.0 / (115 * inside.camera.zoom)
    cut = next(
        o for o in draw_scene(street(SceneObject("car", x=half_width, z=9.0, seed=1))).objects if o.kind == "car"
    )
    assert 0.3 < cut.truncation < 0.7
    assert cut.box[3] == inside.width


def test_darkness_lowers_light_and_contrast_of_every_object() -> None:
    spec = scene_spec("train", 1)
    day, dusk = draw_scene(spec), draw_scene(replace(spec, light=replace(spec.light, exposure=0.4)))
    for bright, dark in zip(day.objects, dusk.objects, strict=True):
        assert dark.light < bright.light
    assert np.mean([o.contrast for o in dusk.objects]) < 0.7 * np.mean([o.contrast for o in day.objects])


def visible(scene: Scene, class_id: int) -> int:
    return int((scene.mask == class_id).sum())


@pytest.mark.parametrize(("split", "index"), [("train", 4), ("val", 2), ("test", 7)])
def test_recorded_sizes_agree_with_the_mask(split: str, index: int) -> None:
    scene = draw_scene(scene_spec(split, index))
    for class_id in (CAR, PERSON, POLE, SIGN):
        recorded = sum(o.pixels for o in scene.objects if o.class_name == CLASSES[class_id].name)
        seams = sum(2 * sum((o.box[2] - o.box[0], o.box[3] - o.box[1])) + 8 for o in scene.objects
                    if o.class_name == CLASSES[class_id].name)  # fmt: skip
        assert visible(scene, class_id) <= recorded + seams
        assert visible(scene, class_id) >= recorded - 2 * seams


def test_masks_have_seams_one_or_two_pixels_wide_and_all_classes() -> None:
    scenes = [draw_scene(scene_spec(split, index)) for split in ("train", "val") for index in range(8)]
    masks = np.concatenate([scene.mask.ravel() for scene in scenes])
    counts = np.bincount(masks, minlength=256)
    assert (counts[: len(CLASSES)] > 0).all() and counts[len(CLASSES) : 255].sum() == 0
    assert 0.02 < counts[255] / counts.sum() < 0.08
    assert counts[: len(CLASSES)].max() / counts.sum() < 0.5
    for scene in scenes:
        void = scene.mask == 255
        thick = void[:-3, :-3].copy()
        for dy in range(4):
            for dx in range(4):
                thick &= void[dy : void.shape[0] - 3 + dy, dx : void.shape[1] - 3 + dx]
        assert thick.mean() < 0.001


def test_train_conditions_are_narrower_than_those_of_val_and_test() -> None:
    specs = {split: [scene_spec(split, index) for index in range(100)] for split in ("train", "val", "test")}
    for factor in (
        lambda s: s.light.exposure, lambda s: s.light.warmth, lambda s: s.camera.zoom, lambda s: s.camera.roll,
        lambda s: s.camera.blur, lambda s: s.camera.yaw, lambda s: float(s.street.mirrored),
    ):  # fmt: skip
        spread = {split: float(np.std([factor(spec) for spec in members])) for split, members in specs.items()}
        assert spread["train"] < 0.5 * spread["val"]
        assert spread["test"] == pytest.approx(spread["val"], rel=0.35)


def test_same_bytes_in_another_process() -> None:
    code = (
        "import hashlib; from trainables.data.scenes import draw_scene, scene_spec\n"
        "s = draw_scene(scene_spec('val', 5))\n"
        "print(hashlib.sha256(s.jpeg + s.mask.tobytes() + repr(s.objects).encode()).hexdigest())"
    )
    root = Path(__file__).resolve().parents[3]
    runs = [
        subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True) for _ in "ab"
    ]
    assert runs[0].stdout == runs[1].stdout and len(runs[0].stdout) == 65


def test_image_is_exactly_what_the_written_file_holds() -> None:
    data = DATASETS.get("scenes")()
    scene = draw_scene(scene_spec("val", 1))
    np.testing.assert_array_equal(data.image("val_0001"), scene.image)
    np.testing.assert_array_equal(data.mask("val_0001"), scene.mask)
    assert PIL.Image.open(data.paths("val_0001")[1]).mode == "P"
    record = json.loads((data.root / "difficulty.json").read_text())["val_0001"]
    assert [o["pixels"] for o in record["objects"]] == [o.pixels for o in scene.objects]
    assert record["camera"]["blur"] == scene_spec("val", 1).camera.blur


def test_two_draws_are_equal_to_the_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = content(DATASETS.get("scenes")().root)
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "another"))
    assert content(DATASETS.get("scenes")().root) == first
    assert len(first) == 2 * 7 + 3 + 2


def temporary(cache: Path) -> list[str]:
    """What a builder left beside the scenes."""
    return [path.name for path in cache.iterdir() if path.name.startswith(".")]


def test_a_whole_cache_is_left_alone_and_a_torn_one_is_drawn_again(own_cache: Path) -> None:
    place = DATASETS.get("scenes")().root
    assert place.parent == own_cache
    before, stamp = content(place), (place / "manifest.json").stat().st_mtime_ns
    DATASETS.get("scenes")()
    assert (place / "manifest.json").stat().st_mtime_ns == stamp
    for harm in (
        lambda: (place / "SegmentationClass" / "val_0000.png").write_bytes(b"\0" * 100),
        lambda: (place / "JPEGImages" / "test_0001.jpg").unlink(),
        lambda: shutil.rmtree(place / "ImageSets"),
    ):
        harm()
        assert content(place) != before
        DATASETS.get("scenes")()
        assert content(place) == before
    assert temporary(own_cache) == []


def _own_file(place: Path, elsewhere: Path) -> None:
    (place / "JPEGImages" / "holiday.jpg").write_bytes(b"mine")


def _own_folder(place: Path, elsewhere: Path) -> None:
    (place / "thesis").mkdir()


def _link_to_a_folder(place: Path, elsewhere: Path) -> None:
    shutil.rmtree(place / "JPEGImages")
    (place / "JPEGImages").symlink_to(elsewhere)


def _link_to_a_file(place: Path, elsewhere: Path) -> None:
    (place / "difficulty.json").unlink()
    (place / "difficulty.json").symlink_to(elsewhere / "val_0000.jpg")


def _manifest_of_a_run(place: Path, elsewhere: Path) -> None:
    (place / "manifest.json").write_text('{"format": 3, "data": {"files": {}}}')


def _manifest_that_is_torn(place: Path, elsewhere: Path) -> None:
    (place / "manifest.json").write_text("{")


def _manifest_that_lists_what_we_never_write(place: Path, elsewhere: Path) -> None:
    path = place / "manifest.json"
    manifest = json.loads(path.read_bytes())
    (place / "thesis.tex").write_bytes(b"mine")
    manifest["files"] |= {"thesis.tex": "", "../../elsewhere/val_0000.jpg": ""}
    path.write_text(json.dumps(manifest))


def _link_in_place_of_it_all(place: Path, elsewhere: Path) -> None:
    place.rename(place.with_name("moved"))
    place.symlink_to(place.with_name("moved"))


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (_own_file, "did not write: holiday.jpg"),
        (_own_folder, "did not write: thesis"),
        (_link_to_a_folder, "did not write: JPEGImages"),
        (_link_to_a_file, "did not write: difficulty.json"),
        (_manifest_of_a_run, "its manifest.json"),
        (_manifest_that_is_torn, "its manifest.json"),
        (_manifest_that_lists_what_we_never_write, "its manifest.json"),
        (_link_in_place_of_it_all, "a symbolic link"),
    ],
)
def test_a_torn_cache_that_holds_anything_else_is_left_as_it_is(
    harm: Callable[[Path, Path], None], told: str, tmp_path: Path
) -> None:
    place = DATASETS.get("scenes")().root
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "val_0000.jpg").write_bytes(b"mine")
    (place / "JPEGImages" / "val_0000.jpg").write_bytes(b"torn")
    harm(place, elsewhere)
    before = content(tmp_path)
    with pytest.raises(DataError, match=rf"{re.escape(told)}.*SEGSWEEP_CACHE"):
        DATASETS.get("scenes")()
    assert content(tmp_path) == before


def test_an_own_file_beside_whole_scenes_disturbs_nobody() -> None:
    place = DATASETS.get("scenes")().root
    (place / ".DS_Store").touch()
    assert len(DATASETS.get("scenes")().ids()) == 7


def test_builders_at_once_end_with_one_whole_data_set(own_cache: Path) -> None:
    failures: list[BaseException] = []

    def build() -> None:
        try:
            assert len(DATASETS.get("scenes")().ids()) == 7
        except BaseException as error:
            failures.append(error)

    for round_number in range(2):
        threads = [threading.Thread(target=build) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (place,) = own_cache.iterdir()
        assert not failures and dataset._is_whole(place)
        if round_number == 0:
            (place / "JPEGImages" / "val_0000.jpg").write_bytes(b"torn")


def test_a_killed_drawing_leaves_nothing_that_counts(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(dataset, "_palette_png", die)
        with pytest.raises(KeyboardInterrupt):
            DATASETS.get("scenes")()
    assert not list(own_cache.iterdir())
    assert len(DATASETS.get("scenes")().ids()) == 7


def test_helper_process_draws_the_same_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "cores", lambda: 2)
    dataset._write_all(tmp_path / "new", {"train": 50, "val": 0, "test": 0})
    helped = json.loads((tmp_path / "order-1.done").read_bytes())
    assert sorted(helped) == [f"train_{index:04d}" for index in range(1, 50, 2)]
    for index in (1, 25, 49):
        scene = draw_scene(scene_spec("train", index))
        assert (tmp_path / "new" / "JPEGImages" / f"train_{index:04d}.jpg").read_bytes() == scene.jpeg
    assert len(json.loads((tmp_path / "new" / "difficulty.json").read_text())) == 50


def _as_another_version_drew_it(place: Path) -> None:
    manifest = json.loads((place / "manifest.json").read_bytes())
    (place / "manifest.json").write_text(json.dumps({**manifest, "drawing": "0123456789"}))


@pytest.mark.parametrize("harm", [lambda place: None, _as_another_version_drew_it])
def test_whole_scenes_are_taken_from_any_folder(harm: Callable[[Path], None], tmp_path: Path) -> None:
    data = DATASETS.get("scenes")()
    given = tmp_path / "given"
    ids, splits = data.ids(), data.splits()
    data.root.rename(given)
    harm(given)
    before = content(given)
    again = DATASETS.get("scenes")(root=given)
    assert (again.ids(), again.splits(), again.root) == (ids, splits, given)
    np.testing.assert_array_equal(again.mask("test_0001"), draw_scene(scene_spec("test", 1)).mask)
    assert content(given) == before and not data.root.exists(), "nothing is drawn anew, there or in the cache"


def _photos(place: Path) -> None:
    (place / "mine.jpg").write_bytes(b"x")


def _run(place: Path) -> None:
    (place / "manifest.json").write_text('{"data": {"name": "scenes"}, "files": {"mine.jpg": ""}}')
    _photos(place)


def _nothing(place: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("fill", "fault"),
    [(_photos, "holds no drawn scenes"), (_run, "holds no drawn scenes"), (_nothing, "holds no drawn")],
)
def test_a_root_that_is_none_is_refused_with_the_flag_that_was_forgotten(
    fill: Callable[[Path], None], fault: str, tmp_path: Path
) -> None:
    place = tmp_path / "photos"
    place.mkdir()
    fill(place)
    before = content(tmp_path)
    with pytest.raises(DataError, match=f"{fault}.*take no --data-root.*own images: --data folder --data-root {place}"):
        DATASETS.get("scenes")(root=place)
    assert content(tmp_path) == before


def test_a_root_whose_scenes_are_torn_is_not_mended(tmp_path: Path) -> None:
    given = tmp_path / "given"
    DATASETS.get("scenes")().root.rename(given)
    (given / "JPEGImages" / "val_0000.jpg").write_bytes(b"torn")
    (given / "difficulty.json").unlink()
    before = content(given)
    with pytest.raises(DataError, match=r"not whole: JPEGImages/val_0000.jpg and 1 more are missing or changed"):
        DATASETS.get("scenes")(root=given)
    assert content(given) == before
    with pytest.raises(DataError, match="does not exist; scenes are drawn by this project and take no --data-root"):
        DATASETS.get("scenes")(root=tmp_path / "nowhere")


def test_a_download_is_refused() -> None:
    with pytest.raises(DataError, match="nothing to download"):
        DATASETS.get("scenes")(download=True)


def test_place_that_cannot_be_written_is_one_error_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(DataError, match="set SEGSWEEP_CACHE to a folder that can be written"):
        DATASETS.get("scenes")()


def test_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="train, val, test"):
        scene_spec("trainval", 0)
