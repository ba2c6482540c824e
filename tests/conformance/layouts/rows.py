"""Which cases, and which tests elsewhere, show what the rows of the table of layouts in docs/DATA.md say."""

from __future__ import annotations

import re
from pathlib import Path

ROWS: dict[str, tuple[str, ...]] = {
    "`images/`, `img/`, `JPEGImages/`": ("images_beside_masks", "jpeg_beside_upper_case_png", "voc"),
    "`images/train/`, `train/images/`": (
        "split_folders_inside",
        "split_folders_outside",
        "mmsegmentation",
        "camvid_folders",
        "words_joined_with_splits",
    ),
    "folders below (patients": ("nested_folders_of_patients", "masks_within_each_patient"),
    "`a.jpg` and `a_mask.png`": (
        "suffix_of_masks",
        "unknown_suffix_of_masks",
        "prefixes_on_both_sides",
        "whole_name_of_image_in_mask",
        "cityscapes_names",
    ),
    "images `0001.png`, masks": ("numbers_with_other_zeros",),
    "images and masks in one folder": (
        "one_folder_with_a_suffix",
        "one_folder_with_two_extensions",
        "suffixes_on_both_sides_in_one_folder",
    ),
    "`2_Ortho_RGB/` and `5_Labels_all/`": ("folders_that_say_more_than_their_role", "splits_in_folders_that_say_more"),
    "two folders of any other": ("folders_of_any_names", "two_folders_of_flat_pictures"),
    "upper-case extensions, dots": (
        "jpeg_beside_upper_case_png",
        "names_with_dots_spaces_and_brackets",
        "unicode_forms_differ",
    ),
    "links to files and folders": ("links_to_elsewhere",),
    "copies for the eye or of": ("voc", "cityscapes_names", "kinds_of_masks_beside_one_image"),
    "overlays, predictions, logos": ("pictures_that_are_neither",),
    "two kinds of masks for one": (
        "two_kinds_of_masks",
        "masks_of_two_people",
        "fields_of_view_beside_drawings",
        "two_numbered_masks_of_each_image",
    ),
    "images without a mask": ("images_without_masks", "test_folder_without_masks"),
    "no pair at all, or no masks": ("images_alone", "names_that_have_nothing_in_common"),
    "the folders of `voc2012`": (
        "tests/conformance/test_datasets.py::test_folder_of_a_known_data_set_is_told_with_the_command_that_reads_it",
    ),
    "`train.txt`, `val.txt`, `test.txt`": (
        "lists_with_extensions_marks_and_windows_ends",
        "lists_of_paths_with_masks_behind",
        "two_lists_of_three",
        "voc",
        "voc_in_the_folder_around_it",
    ),
    "lists and split folders that": (
        "tests/trainables/data/test_folder.py::test_lists_that_contradict_split_folders_are_asked_about",
    ),
    "a CSV table with a column": (
        "table_of_pairs",
        "table_with_splits_and_other_columns",
        "tables_of_names_for_each_split",
        "table_of_paths_on_another_machine",
        "table_against_names",
    ),
    "a table of other things (labels": ("table_of_pictures_and_labels_that_are_no_files",),
    "several tables of pairs": ("two_tables",),
    "a table that names an image": ("table_with_an_image_twice",),
    "grey of 1, 2, 4, 8, 16, 32": (
        "masks_of_one_bit",
        "masks_of_16_bits",
        "masks_of_16_bits_with_large_ids",
        "masks_of_32_bits_in_tiff",
        "masks_of_floats_in_tiff",
        "masks_in_bmp",
        "masks_in_lossless_webp",
        "masks_in_npy",
        "more_classes_than_bytes_with_ids",
        "more_classes_than_bytes_with_names",
    ),
    "palette (mode P)": ("masks_with_a_palette",),
    "palettes that differ between": ("palettes_that_differ",),
    "RGB, RGBA; 8 bits, or 16": (
        "masks_in_colours",
        "opaque_masks_with_alpha",
        "masks_in_colours_of_16_bits",
        "masks_of_three_equal_channels",
        "masks_of_grey_and_alpha",
    ),
    "GIF": ("masks_in_gif",),
    "transparent pixels": ("masks_with_a_transparent_ground",),
    "0 and 255 alone": ("binary_masks_of_0_and_255",),
    "255 (65535 in 16 bits) in": ("void_around_objects", "more_classes_than_bytes_with_names"),
    "255 that may be a class": ("greys_up_to_255", "some_masks_of_0_and_1_and_some_of_0_and_255"),
    "negative ids": ("negative_ids_in_npy",),
    "ids from 1": ("ids_from_one",),
    "one mask for each object": (
        "one_mask_an_object",
        "a_folder_of_masks_for_each_image",
        "objects_numbered_after_their_image",
        "objects_numbered_in_one_folder",
        "as_many_objects_in_each_image",
    ),
    "the same, with names that": ("one_mask_a_class",),
    "smoothed edges, JPEG noise": ("smoothed_masks", "more_objects_than_classes"),
    "JPEG, lossy WebP, lossy TIFF": ("masks_saved_as_jpeg", "masks_saved_as_lossy_webp"),
    "one value everywhere, with": ("masks_that_are_transparency_alone",),
    "brush PNGs of Label Studio": ("brush_pngs_of_label_studio",),
    "`classes.txt`, `labels.txt`": ("names_in_a_text_file", "list_of_names_in_utf_16", "names_of_0_and_255"),
    "`class_dict.csv`, `class_dict_seg.csv`": ("names_and_colours_in_a_table", "labelmap_of_cvat"),
    "Roboflow's `_classes.csv`": ("roboflow", "ade20k"),
    "names that could begin at": (
        "names_that_may_begin_at_0_or_1",
        "one_name_too_few",
        "names_without_the_colours_of_the_masks",
    ),
    "RGB, grey, palette, CMYK": ("grey_images", "images_with_a_palette_and_transparency", "images_in_cmyk_and_lab"),
    "more than 8 bits": ("images_of_12_bits_in_16",),
    "EXIF orientation": (
        "lying_photos_with_masks_drawn_upright",
        "lying_photos_with_masks_of_the_stored_pixels",
        "square_photos_with_an_orientation",
    ),
    "pages of a TIFF, with as": ("stacks_of_pages",),
    "pages of a TIFF with one": ("stacks_with_one_mask",),
    "TIFF with other bands than": (
        "tests/trainables/data/test_bands.py::test_all_bands_are_seen_unless_some_are_named",
    ),
    "COCO JSON: `images`, `annotations`": (
        "tests/trainables/data/test_imports.py::test_coco_is_drawn_as_pycocotools_draws_each_object",
    ),
    "Labelme JSON: one `.json`": (
        "tests/trainables/data/test_imports.py::test_labelme_shapes_are_drawn_over_each_other_in_their_order",
    ),
    "YOLO segmentation: one `.txt`": (
        "tests/trainables/data/test_imports.py::test_yolo_outlines_are_drawn_as_ultralytics_and_supervision_draw_them",
    ),
    "CVAT for images 1.1: an `.xml`": (
        "tests/trainables/data/test_imports_of_tools.py::test_cvat_shapes_are_drawn_by_their_z_order",
    ),
    "Supervisely JSON: one `.json`": (
        "tests/trainables/data/test_imports_of_tools.py::test_supervisely_objects_are_drawn_in_their_order",
    ),
    "Label Studio JSON: a list": (
        "tests/trainables/data/test_imports_of_tools.py::test_label_studio_regions_are_drawn_in_their_order",
    ),
    "boxes without outlines": (
        "tests/trainables/data/test_imports.py::test_coco_of_boxes_and_files_that_disagree_are_refused",
    ),
    "Hugging Face `datasets`": (
        "tests/trainables/data/test_imports_of_tables.py::test_parquet_of_a_repository_is_unpacked_with_its_splits_and_names",
    ),
}
"""By what the first cell of a row begins with; in the order of the table."""


def outcomes() -> dict[str, tuple[str, ...]]:
    """The first cell of each row of the table, and what becomes of such a folder: read, asked, drawn, refused."""
    text = (Path(__file__).resolve().parents[3] / "docs" / "DATA.md").read_text(encoding="utf-8")
    table = text.partition("### Layouts\n")[2].partition("\n### ")[0]
    rows = re.findall(r"^\| (.+?) \| ([a-z ]+) \| .+ \|$", table, re.MULTILINE)
    return {first: tuple(outcome.split(" or ")) for first, outcome in rows if outcome != "is"}
