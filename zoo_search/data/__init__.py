"""Labelled images from many sources, with stable ids, seeded splits and one way of decoding."""

from zoo_search.data.base import Images, Subset, VisionDataset
from zoo_search.data.decode import DecodeError, decode
from zoo_search.data.opening import open_dataset
from zoo_search.data.splits import SPLITS, Split
from zoo_search.data.view import View

__all__ = [
    "SPLITS",
    "DecodeError",
    "Images",
    "Split",
    "Subset",
    "View",
    "VisionDataset",
    "decode",
    "open_dataset",
]
