"""Data sets behind one registry; importing the package registers all of them."""

from trainables.data import camvid, cityscapes, folder, oxford_pet, scenes, voc2012, voc2012_aug
from trainables.data.base import DATASETS, VOID, ClassInfo, SegmentationData, Splits
from trainables.data.void import void_id

__all__ = [
    "DATASETS",
    "VOID",
    "ClassInfo",
    "SegmentationData",
    "Splits",
    "camvid",
    "cityscapes",
    "folder",
    "oxford_pet",
    "scenes",
    "voc2012",
    "voc2012_aug",
    "void_id",
]
