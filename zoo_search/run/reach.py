"""Whether every node of a cluster sees what a run reads and writes, asked before it begins.

Nodes read images and write to the run directory. Weights and tables are read where the command
runs, and go to the nodes through Ray. Nodes that join later are not asked.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from zoo_search import cluster
from zoo_search.cluster.nodes import ask_nodes
from zoo_search.core.errors import UserError, first_line, some
from zoo_search.core.progress import working
from zoo_search.core.store import RunStore
from zoo_search.data.sources.listing import Unreadable
from zoo_search.run.run import Run

if TYPE_CHECKING:
    from zoo_search.config import DatasetConfig
    from zoo_search.data import VisionDataset
    from zoo_search.data.decode import Raw
    from zoo_search.data.sources.listing import Reader

_IMAGES = 8  # of each data set, spread over its index
_CURE = (
    "Put it on a drive that all nodes have at the same path, or in object storage (such as "
    "s3://BUCKET/…), and say so in the run file, or with --dir. Nothing has been computed."
)
_HASH = "sha256:"
Seen = Mapping[str, str]
"""What lies under each name: a hash of it, or why it cannot be read."""


def check_reach(run: Run, steps: Sequence[str]) -> None:
    """Ask every node of a cluster that an address names for what the steps read and write.

    Each node reads some images of each data set, and a file that is written to the run directory
    for this, and writes one itself. On this machine alone there is nothing to ask.

    Raises:
        UserError: If there is no such cluster, or a node sees less, or something else: says which
            node and what.
    """
    if not run.joins:
        return
    run.connect()
    with working("asking the nodes of the cluster"):
        check_directory(run.store)
        for option, dataset in _datasets(run, steps).items():
            check_images_seen(option, dataset)


def _datasets(run: Run, steps: Sequence[str]) -> dict[str, VisionDataset]:
    """Return the data sets that nodes read images of, by the option that names their place."""
    found, config = {}, run.job.similarity
    if "reassemble" in steps:
        found[_named("dataset", run.job.dataset)] = run.dataset
    if "similarity" in steps and config.table is None:
        own = config.dataset or run.job.dataset
        section = "dataset" if config.dataset is None else "similarity.dataset"
        found[_named(section, own)] = run.similarity_dataset
    return {option: data for option, data in found.items() if not data.reader.in_memory}


def _named(section: str, config: DatasetConfig) -> str:
    place = f"{section}.name: {config.name}"
    return place if config.path is None else f"{section}.path: {config.path}"


def check_images_seen(option: str, dataset: VisionDataset) -> None:
    """Let every node read some images, the same as here.

    Raises:
        UserError: If a node cannot read one, or finds another one in its place.
    """
    import ray

    ids = dataset.index["id"].to_pylist()
    chosen = ids[:: -(-len(ids) // _IMAGES)]
    cluster.ship(type(dataset.reader))
    here = images_seen(dataset.reader, chosen)
    for node, there in ask_nodes(images_seen, ray.put(dataset.reader), chosen).items():
        _compare(node, option, "images", here, there)


def images_seen(reader: Reader, ids: Sequence[str]) -> Seen:
    """Return what is stored under each id, as a hash, or why it cannot be read."""
    found: dict[str, str] = {}
    try:
        for name, raw in reader.read(ids):
            found[name] = raw.reason if isinstance(raw, Unreadable) else _hash(raw)
    except Exception as error:  # each storage and each library has errors of its own
        return {name: found.get(name, first_line(error)) for name in ids}
    return found


def _hash(raw: Raw) -> str:
    data = raw if isinstance(raw, bytes) else raw.tobytes()
    return f"{_HASH}{hashlib.sha256(data).hexdigest()}"


def check_directory(store: RunStore) -> None:
    """Let every node read a file of the run directory, and write one.

    A directory that cannot be written to from here either is not looked at.

    Raises:
        UserError: If a node sees another directory, or may not write there.
    """
    mark = f".seen-{uuid.uuid4().hex}"
    try:
        store.write_text(mark, mark)
    except OSError:
        return
    try:
        here = {mark: _hash(mark.encode())}
        for node, there in ask_nodes(directory_seen, store.url, mark).items():
            _compare(node, f"the run directory {store.url}", "files just written", here, there)
    finally:
        store.remove(mark)


def directory_seen(url: str, mark: str) -> Seen:
    """Return what a file of a run directory holds, if one can be written beside it, or why not."""
    try:
        store = RunStore(url)
        found = store.read_bytes(mark)
        own = f"{mark}-{uuid.uuid4().hex}"
        store.write_text(own, own)
        store.remove(own)
        return {mark: _hash(found)}
    except Exception as error:  # each storage has errors of its own
        return {mark: first_line(error)}


def _compare(node: str, what: str, files: str, here: Seen, there: Seen) -> None:
    """Refuse a node that sees less than, or something else than, is seen here.

    Raises:
        UserError: Names the node, what it should see, and what it sees.
    """
    wrong = [name for name in here if there.get(name) != here[name]]
    if wrong:
        found = [there.get(name, "nothing") for name in wrong]
        told = dict.fromkeys("others" if each.startswith(_HASH) else each for each in found)
        raise UserError(
            f"The node {node} of the cluster does not see what this machine sees of {what}: of "
            f"{len(here)} {files} that were asked for, {len(wrong)} are not the same there "
            f"({some(list(told))}). {_CURE}"
        )
