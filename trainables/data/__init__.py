"""Data sets behind one registry; importing the package registers all of them."""

from trainables.data import camvid, folder, scenes, voc2012
from trainables.data.base import DATASETS, VOID, ClassInfo, SegmentationData, Splits

__all__ = ["DATASETS", "VOID", "ClassInfo", "SegmentationData", "Splits", "camvid", "folder", "scenes", "voc2012"]
