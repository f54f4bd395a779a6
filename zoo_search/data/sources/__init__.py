"""Where images come from: one function a source, from its configuration to a listing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from zoo_search.config import DatasetConfig
from zoo_search.core.registry import Registry
from zoo_search.data.sources.arrays import ArrayReader
from zoo_search.data.sources.listing import Listing, Reader, Unreadable, chunks

__all__ = [
    "SOURCES",
    "ArrayReader",
    "Listing",
    "Reader",
    "Source",
    "Unreadable",
    "chunks",
    "register_source",
]

Source = Callable[[DatasetConfig], Listing]
"""Lists its images; decodes none."""

S = TypeVar("S", bound=Source)

_HERE = "zoo_search.data.sources"

SOURCES = Registry[Source](
    "data set",
    {
        "digits": f"{_HERE}.arrays:digits",
        "mnist5k": f"{_HERE}.arrays:mnist5k",
        "folder": f"{_HERE}.folder:folder",
        "parquet": f"{_HERE}.parquet:parquet",
        "webdataset": f"{_HERE}.webdataset:webdataset",
        "torchvision:NAME": f"{_HERE}.libraries:torchvision",
        "hf:NAME": f"{_HERE}.libraries:hf",
    },
    group="zoo_search.sources",
    ending=":NAME",
    hint=" For images of your own take 'folder' and its 'path'.",
)
"""Sources by name; one whose name ends in ``:NAME`` takes what stands there as an argument."""


def register_source(name: str) -> Callable[[S], S]:
    """Register a source of images under a name that run files can use; a decorator.

    A source is called with the section ``dataset`` of the run file and returns a
    :class:`Listing`. With a name that ends in ``:NAME``, such as ``shards:NAME``, it is called for
    every ``shards:…``. Whoever starts ``zoo-search`` from the command line names the function in
    the run file instead (``name: module:package.mod:function``), or declares it in the package's
    entry points, group ``zoo_search.sources``. Registering the same source again replaces it.

    Raises:
        UserError: If the name is one of ours, looks like a path, or is another source's.
    """
    return SOURCES.register(name)
