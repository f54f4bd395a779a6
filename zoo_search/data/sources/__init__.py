"""Where images come from: one function a source, from its configuration to a listing."""

from __future__ import annotations

from collections.abc import Callable

from zoo_search.config import DatasetConfig
from zoo_search.data.sources.arrays import digits, mnist5k
from zoo_search.data.sources.folder import folder
from zoo_search.data.sources.libraries import hf, torchvision
from zoo_search.data.sources.listing import Listing, Reader, Unreadable, chunks
from zoo_search.data.sources.parquet import parquet
from zoo_search.errors import UserError, nearest

__all__ = ["SOURCES", "Listing", "Reader", "Unreadable", "chunks", "list_source"]

SOURCES: dict[str, Callable[[DatasetConfig], Listing]] = {
    "digits": digits,
    "mnist5k": mnist5k,
    "folder": folder,
    "parquet": parquet,
    "torchvision:": torchvision,
    "hf:": hf,
}
"""Source by name; a name that ends in a colon takes what follows it as an argument."""


def list_source(config: DatasetConfig) -> Listing:
    """List the images of the source that ``config.name`` names.

    Raises:
        UserError: If there is no such source, or the source cannot be listed.
    """
    prefix, colon, _ = config.name.partition(":")
    source = SOURCES.get(prefix + colon)
    if source is None:
        shown = [name + "NAME" if name.endswith(":") else name for name in SOURCES]
        raise UserError(
            f"dataset.name: there is no data set '{config.name}'.{nearest(config.name, shown)} "
            f"Allowed: {', '.join(shown)}. For images of your own take 'folder' and its 'path'."
        )
    return source(config)
