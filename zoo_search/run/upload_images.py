"""Images travel with a job only where they are few; else the cluster reads them at their place."""

from __future__ import annotations

import os
from pathlib import Path

from zoo_search.config import JobConfig
from zoo_search.core.errors import UserError
from zoo_search.core.files import gb
from zoo_search.run.upload import Upload

LIMIT = 32 * 2**20
"""Bytes of a data set's files that travel: the head keeps them in memory, nodes unpack them."""
_DATA = ("dataset.path", "similarity.dataset.path")


def check_images_small(upload: Upload, config: JobConfig, limit: int = LIMIT) -> None:
    """Refuse data sets that are too large to travel, before anything does.

    Raises:
        UserError: Names the data set, its size, and where to put it.
    """
    for place, option in config.paths().items():
        if place not in _DATA or not option.is_relative:
            continue
        folder = Path(os.path.normpath(option.place))
        sizes = [
            size
            for path, (_, size) in upload.files.items()
            if path == folder or folder in path.parents
        ]
        if sum(sizes) > limit:
            raise UserError(
                f"{place}: {option.given} has {len(sizes)} files, {gb(sum(sizes))}, and images "
                f"travel with a job up to {gb(limit)} only: the cluster's head keeps them in "
                "memory, and each node unpacks a copy. Nothing was sent. Write them to object "
                f"storage ('zoo-search data pack {option.given} s3://BUCKET/NAME'), and name that "
                "URI there (name: webdataset), or put them on a drive that all machines of the "
                "cluster have, and name them by their absolute path."
            )
