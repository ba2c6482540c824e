import base64
import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from analysis import pictures
from analysis.colours import ELSEWHERE, HIT, INVENTED, MISSED, VOID_DARK, VOID_LIGHT, WRONG
from trainables.data.base import VOID, ClassInfo

CLASSES = (ClassInfo("sky", (10, 20, 30)), ClassInfo("road", (200, 100, 0)), ClassInfo("car", (0, 0, 255)))


def scene(height: int = 24, width: int = 32) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.choice([0, 1, 2, VOID], (height, width), p=[0.4, 0.4, 0.1, 0.1]).astype(np.uint8)
    prediction = rng.integers(0, 3, (height, width)).astype(np.uint8)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8), truth, prediction


def decode(uri: str) -> Image.Image:
    head, body = uri.split(",", 1)
    assert head in ("data:image/png;base64", "data:image/webp;base64")
    return Image.open(io.BytesIO(base64.b64decode(body)))


@given(st.text(max_size=300))
def test_file_names_stay_in_their_folder(text: str) -> None:
    name = pictures.file_name(text, ".png")
    assert Path(name).name == name
    assert not name.startswith(".")
    assert len(name.encode()) <= 124


@given(st.text(max_size=30), st.text(max_size=30))
def test_different_ids_have_different_file_names(first: str, second: str) -> None:
    assert (pictures.file_name(first) == pictures.file_name(second)) == (first == second)


def test_usual_ids_keep_their_names() -> None:
    assert pictures.file_name("2007_000032", ".png") == "2007_000032.png"


def test_colourised_mask_has_the_classes_colours_and_void_has_none_of_them() -> None:
    _, truth, _ = scene()
    shown = pictures.colourise(truth, CLASSES)
    for row, column in np.ndindex(truth.shape):
        if truth[row, column] == VOID:
            assert tuple(shown[row, column]) in (VOID_DARK, VOID_LIGHT)
        else:
            assert tuple(shown[row, column]) == CLASSES[truth[row, column]].color


def test_void_is_hatched_with_both_greys() -> None:
    shown = pictures.colourise(np.full((12, 12), VOID, np.uint8), CLASSES)
    assert {tuple(pixel) for pixel in shown.reshape(-1, 3).tolist()} == {VOID_DARK, VOID_LIGHT}


@pytest.mark.parametrize(
    "draw", [pictures.colourise, pictures.mask_uri, lambda mask, classes: pictures.id_mask(mask, classes, range(3))]
)
def test_ids_outside_the_class_list_are_refused(draw) -> None:
    with pytest.raises(ValueError, match=r"\[3, 200\]"):
        draw(np.array([[0, 3], [200, 1]], np.uint8), CLASSES)


def test_error_map_marks_exactly_the_wrong_pixels() -> None:
    image, truth, prediction = scene()
    shown = pictures.error_map(image, truth, prediction)
    for row, column in np.ndindex(truth.shape):
        is_wrong = truth[row, column] != VOID and truth[row, column] != prediction[row, column]
        assert (tuple(shown[row, column]) == WRONG) == is_wrong


def test_class_error_map_tells_hits_misses_and_inventions_apart() -> None:
    truth = np.array([[1, 1, 0, 0, VOID, VOID]], np.uint8)
    prediction = np.array([[1, 0, 1, 0, 1, 0]], np.uint8)
    assert pictures.class_error_map(truth, prediction, 1).tolist() == [[1, 2, 3, 0, 4, 4]]


def test_embedded_class_error_has_the_legends_colours() -> None:
    truth = np.array([[1, 1, 0, 0]], np.uint8)
    prediction = np.array([[1, 0, 1, 0]], np.uint8)
    shown = np.asarray(decode(pictures.class_error_uri(truth, prediction, 1)).convert("RGB"))
    assert [tuple(pixel) for pixel in shown[0].tolist()] == [HIT, MISSED, INVENTED, ELSEWHERE]


def test_embedded_mask_shows_what_colourise_shows() -> None:
    _, truth, _ = scene()
    shown = np.asarray(decode(pictures.mask_uri(truth, CLASSES)).convert("RGB"))
    np.testing.assert_array_equal(shown, pictures.colourise(truth, CLASSES))


def test_embedded_pictures_are_bounded_in_size() -> None:
    image, truth = np.zeros((300, 2000, 3), np.uint8), np.zeros((300, 2000), np.uint8)
    assert decode(pictures.photo_uri(image)).size == (512, 77)
    assert decode(pictures.mask_uri(truth, CLASSES)).size == (512, 77)


@pytest.mark.parametrize("ids", [(0, 1, 2), (1, 2, 3), (200, 7, 255)])
def test_saved_prediction_reads_back_as_the_ids_asked_for(tmp_path: Path, ids: tuple[int, ...]) -> None:
    _, _, prediction = scene()
    pictures.id_mask(prediction, CLASSES, ids).save(tmp_path / "mask.png")
    stored = Image.open(tmp_path / "mask.png")
    assert stored.mode == "P"
    np.testing.assert_array_equal(np.asarray(stored), np.array(ids)[prediction])
    shown = np.asarray(stored.convert("RGB"))
    for row, column in np.ndindex(prediction.shape):
        assert tuple(shown[row, column]) == CLASSES[prediction[row, column]].color


def test_saved_prediction_of_ids_above_255_has_16_bits(tmp_path: Path) -> None:
    _, _, prediction = scene()
    pictures.id_mask(prediction, CLASSES, (7, 900, 65535)).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "mask.png")), np.array((7, 900, 65535))[prediction])


def photo(height: int, width: int) -> np.ndarray:
    """A smooth picture with some noise, as a photograph is."""
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[:height, :width] / 40
    waves = np.stack([np.sin(rows + columns), np.cos(rows - columns), np.sin(columns)], axis=-1)
    return np.clip(128 + 90 * waves + rng.normal(0, 8, (height, width, 3)), 0, 255).astype(np.uint8)


def test_saved_picture_keeps_marks_and_classes_exactly_in_a_third_of_the_bytes(tmp_path: Path) -> None:
    _, truth, prediction = scene(375, 500)
    picture = pictures.failure_picture(photo(375, 500), truth, prediction, CLASSES, title="t")
    pictures.save_picture(picture, tmp_path / "small.png", CLASSES)
    picture.save(tmp_path / "plain.png")
    before, after = np.asarray(picture), np.asarray(Image.open(tmp_path / "small.png").convert("RGB"))
    for color in (*(info.color for info in CLASSES), WRONG, VOID_DARK, VOID_LIGHT, pictures.PAPER, pictures.INK):
        here = (before == color).all(axis=-1)
        assert here.any()
        np.testing.assert_array_equal((after == color).all(axis=-1)[here], True)
    shown = slice(66, 66 + 375), slice(12, 12 + 500)
    np.testing.assert_array_equal(before[shown], photo(375, 500))
    assert np.abs(after[shown].astype(int) - before[shown]).mean() < 16
    assert (tmp_path / "small.png").stat().st_size < (tmp_path / "plain.png").stat().st_size / 3


def test_a_picture_of_very_many_classes_is_saved_in_full_colour(tmp_path: Path) -> None:
    classes = [ClassInfo(str(index), (index, 255 - index, index // 2)) for index in range(200)]
    truth = np.tile(np.arange(200, dtype=np.uint8), (200, 1))
    picture = pictures.failure_picture(photo(200, 200), truth, truth.T.copy(), classes, title="t")
    pictures.save_picture(picture, tmp_path / "many.png", classes)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "many.png")), np.asarray(picture))


def test_large_photographs_are_made_smaller_before_anything_is_worked_out_on_them() -> None:
    image, truth, prediction = (part.repeat(10, axis=0).repeat(10, axis=1) for part in scene(300, 400))
    tracemalloc.start()
    try:
        page = np.asarray(pictures.failure_picture(image, truth, prediction, CLASSES, title="t"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < image.nbytes
    width, height = size = (582, 436)
    left, low = page.shape[1] - 12 - width, 66 + height + 36
    small = np.asarray(Image.fromarray(truth).resize(size, Image.Resampling.NEAREST))
    np.testing.assert_array_equal(page[66 : 66 + height, left : left + width], pictures.colourise(small, CLASSES))
    wrong = (truth != VOID) & (truth != prediction)
    expected = np.asarray(Image.fromarray(wrong).resize(size, Image.Resampling.NEAREST))
    shown = (page[low : low + height, left : left + width] == WRONG).all(axis=-1)
    np.testing.assert_array_equal(shown, expected)


def test_embedded_pictures_of_a_large_mask_show_every_so_many_th_pixel() -> None:
    _, truth, prediction = scene(900, 1200)
    size = (512, 384)
    levels = Image.fromarray(pictures.class_error_map(truth, prediction, 1)).resize(size, Image.Resampling.NEAREST)
    shown = np.asarray(decode(pictures.class_error_uri(truth, prediction, 1)).convert("RGB"))
    for level, color in enumerate((ELSEWHERE, HIT, MISSED, INVENTED)):
        np.testing.assert_array_equal((shown == color).all(axis=-1), np.asarray(levels) == level)
    small = pictures.thumbnail(truth)
    assert small.shape == (384, 512)
    assert pictures.mask_uri(small, CLASSES) == pictures.mask_uri(truth, CLASSES)


@pytest.mark.parametrize(("height", "width"), [(24, 32), (96, 128), (375, 500), (500, 375), (60, 900), (1024, 2048)])
def test_failure_picture_is_about_as_wide_as_a_page(height: int, width: int) -> None:
    image, truth, prediction = scene(height, width)
    picture = pictures.failure_picture(image, truth, prediction, CLASSES, title="best")
    assert 600 <= picture.width <= 1220


def test_failure_picture_holds_the_masks_enlarged_pixel_by_pixel() -> None:
    image, truth, prediction = scene(24, 32)
    page = np.asarray(pictures.failure_picture(image, truth, prediction, CLASSES, title="t"))
    factor = 8
    for name, mask in (("truth", truth), ("prediction", prediction)):
        enlarged = np.kron(pictures.colourise(mask, CLASSES), np.ones((factor, factor, 1), np.uint8))
        windows = [
            page[66 : 66 + 24 * factor, left : left + 32 * factor] for left in range(0, page.shape[1] - 32 * factor)
        ]
        assert any(np.array_equal(window, enlarged) for window in windows), name


def test_legend_names_only_what_is_there() -> None:
    truth, prediction = np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8)
    image = np.zeros((40, 40, 3), np.uint8)
    plain = pictures.failure_picture(image, truth, prediction, CLASSES, title="t")
    assert CLASSES[2].color not in {color for _, color in plain.getcolors(1 << 20)}
    prediction[0, 0] = 2
    with_car = pictures.failure_picture(image, truth, prediction, CLASSES, title="t")
    legend = with_car.crop((0, with_car.height - 40, with_car.width, with_car.height))
    assert CLASSES[2].color in {color for _, color in legend.getcolors(1 << 20)}


def test_long_titles_and_captions_are_cut_not_spilt() -> None:
    image, truth, prediction = scene()
    caption = pictures.Caption("c" * 500, 0.1, "x" * 500)
    long = pictures.failure_picture(image, truth, prediction, CLASSES, title="t" * 500, captions=[caption])
    short = pictures.failure_picture(
        image, truth, prediction, CLASSES, title="t", captions=[pictures.Caption("c", 0.1, "x")]
    )
    assert long.size == short.size
    assert np.asarray(long)[:, -8:].min() == 255
