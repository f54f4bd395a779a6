"""Data sets of other libraries: ``torchvision:NAME`` from local files and ``hf:NAME``."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo_search.config import DatasetConfig, SplitsConfig
from zoo_search.core.errors import UserError, first_line, nearest, some
from zoo_search.core.files import expanded
from zoo_search.core.foreign.opcodes import TooMuchError, check_opcodes
from zoo_search.core.json_text import read_json
from zoo_search.core.parquet import check_arrow_stream, refuse_extensions
from zoo_search.data.decode import DecodeError, Raw
from zoo_search.data.sources.files import FileTree, extra_package, open_tree
from zoo_search.data.sources.guarded import check_inside, guarded_pil
from zoo_search.data.sources.held_out import HELD_OUT, assign, split_of
from zoo_search.data.sources.listing import Label, Listing, Reader, Unreadable, numbered
from zoo_search.data.splits import Split

if TYPE_CHECKING:
    from _typeshed import SupportsLenAndGetItem

_PARTS: tuple[Split, ...] = ("train", "test")
_LOADED = (".pt", ".bin")  # what MNIST, PhotoTour and ImageNet read by torch.load
_UNPICKLED = ("LSUN", "LSUNClass")  # these load a pickle that lies beside the images, unchecked


class LibraryReader(Reader):
    """Reads ``SPLIT/POSITION`` from indexable data sets, one a split.

    Each item is (image, label), or a mapping with the encoded image under ``column``, or the path
    of its file. Files have to lie in one of the ``folders``: a row or an index may name any.
    """

    def __init__(
        self,
        parts: Mapping[Split, SupportsLenAndGetItem[Any]],
        column: str | None = None,
        folders: Sequence[Path] = (),
    ) -> None:
        self.parts: dict[str, SupportsLenAndGetItem[Any]] = dict(parts.items())
        self.column, self._folders = column, tuple(folders)

    def read(self, ids: Sequence[str]) -> Iterator[tuple[str, Raw | Unreadable]]:
        """Yield the image of each id; what the library cannot read comes as unreadable."""
        for name in ids:
            split, _, position = name.rpartition("/")
            try:
                with guarded_pil(self.max_pixels, self._folders):
                    item = self.parts[split][int(position)]
            except Exception as error:  # the library decodes here, and decoders raise anything
                yield name, Unreadable(f"{type(error).__name__}: {error}")
                continue
            yield name, item[0] if self.column is None else self._encoded(item[self.column])

    def _encoded(self, value: object) -> bytes | Unreadable:
        """Return the bytes of an undecoded image of the ``datasets`` library."""
        if isinstance(value, dict) and value.get("bytes"):
            return bytes(value["bytes"])
        if not isinstance(value, dict) or not value.get("path"):
            return Unreadable("the image is null")
        named = str(value["path"])
        try:
            check_inside(named, self._folders)
        except DecodeError as error:
            return Unreadable(str(error))
        place = Path(named).resolve()
        if not place.is_file():
            return Unreadable(f"there is no file {named}")
        try:
            return place.read_bytes()
        except OSError as error:
            return Unreadable(f"{type(error).__name__}: {error}")


def torchvision(config: DatasetConfig) -> Listing:
    """List a classification data set of torchvision whose files lie in ``path``; no download.

    Its own test split is kept, and its validation split beside that, where its files are there;
    without a test split, validation is the test split. Content hash: the bytes of the arrays it
    holds in memory, else :meth:`zoo_search.data.sources.files.FileTree.content_hash`. On a cluster
    the path must be there on every node, unless the library holds the images in memory.

    Raises:
        UserError: If torchvision has no such data set or does not find its files.
    """
    import torchvision.datasets

    name = config.name.partition(":")[2]
    allowed = sorted(torchvision.datasets.__all__)
    if name not in allowed or not inspect.isclass(getattr(torchvision.datasets, name)):
        raise UserError(
            f"dataset.name: torchvision has no data set '{name}'.{nearest(name, allowed)} "
            "Allowed are the classes of torchvision.datasets, written as there, such as "
            "torchvision:CIFAR10."
        )
    if name in _UNPICKLED:
        raise UserError(
            f"dataset.name: torchvision's {name} unpickles a file in its folder, which may run "
            "code. Unpack its images into a folder for each class, and read them with name: folder."
        )
    tree = open_tree(config)
    special = [file for file in tree.sizes() if tree.is_special(file)]
    if special:  # torchvision would wait for them
        raise UserError(
            f"dataset.path: in {config.path}, {some(special, ', ', ' and')} is no regular file but "
            "a pipe, a socket or a device. Remove it."
        )
    for file in tree.sizes():
        if file.endswith(_LOADED):
            _check_loaded(Path(tree.path(file)))
    parts = _torchvision_parts(name, tree.root, config.splits)
    classes = getattr(parts["train"], "classes", None)
    held = [getattr(part, "data", None) for part in parts.values()]
    if all(hasattr(data, "__array__") for data in held):
        digest = hashlib.sha256()
        for data in held:
            digest.update(np.ascontiguousarray(np.asarray(data)).tobytes())
        content = digest.hexdigest()
    else:
        content = tree.content_hash(tree.sizes())
    inside = [Path(tree.root)]  # an index may name any file
    targets = {split: _targets(part, split, config, inside) for split, part in parts.items()}
    return _listing(parts, targets, classes, content, None, inside, splits=config.splits)


def _check_loaded(path: Path) -> None:
    """Look at a file that torchvision may read by ``torch.load``, before it does.

    Raises:
        UserError: If it asks for far more time or memory than it is large.
    """
    try:
        check_opcodes(path)
    except TooMuchError as error:
        raise UserError(
            f"dataset.path: {path} is refused: {error}. Take it away, and let torchvision make it "
            "again from the files that were downloaded."
        ) from None
    except Exception:  # no pickle at all, or a damaged one: torchvision says it, if it reads it
        return


def _torchvision_parts(
    name: str, root: str, given: SplitsConfig | None
) -> dict[Split, SupportsLenAndGetItem[Any]]:
    """Open the train and the held-out parts; a data set without splits is all ``train``."""
    import torchvision.datasets

    kind: Callable[..., SupportsLenAndGetItem[Any]] = getattr(torchvision.datasets, name)
    known = inspect.signature(kind).parameters
    options = {"download": False} if "download" in known else {}
    try:
        if "train" in known:
            return {part: kind(root, train=part == "train", **options) for part in _PARTS}
        if "split" not in known:
            return {"train": kind(root, **options)}
        if given is not None and not given.drawn:
            named = given.named().items()
            return {part: kind(root, split=split, **options) for part, split in named}
        found = {"train": kind(root, split="train", **options)}
        for split in HELD_OUT:
            try:
                found[split] = kind(root, split=split, **options)
            except ValueError:  # torchvision's answer to a split that this data set has not
                continue
            except (RuntimeError, OSError):  # no files
                if "test" not in found:
                    raise
        return {split: found[name] for split, name in assign(found, None, "splits").items()}
    except (RuntimeError, OSError, ValueError, TypeError) as error:
        raise UserError(
            f"torchvision's {name} cannot be opened from {root} ({error}). Give dataset.path the "
            f"folder that torchvision.datasets.{name}(root=…, download=True) has filled; nothing "
            "is downloaded here."
        ) from None


def _targets(
    part: SupportsLenAndGetItem[Any], split: str, config: DatasetConfig, folders: Sequence[Path]
) -> list[Label]:
    """Return the labels of a torchvision data set, by decoding it where it keeps no list.

    Raises:
        UserError: If an image cannot be decoded for that.
    """
    for attribute in ("targets", "labels", "_labels"):
        held = getattr(part, attribute, None)
        if held is not None and len(held) == len(part):
            return list(np.asarray(held).tolist())
    found: list[Label] = []
    with guarded_pil(config.max_pixels, folders):
        for i in range(len(part)):
            try:
                found.append(part[i][1])
            except Exception as error:  # the library decodes here, and decoders raise anything
                raise UserError(
                    f"dataset.name: the image {split}/{i} of '{config.name}' cannot be decoded "
                    f"({first_line(error)}), and torchvision gives its label only with it. Repair "
                    "or remove its file."
                ) from None
    return found


def hf(config: DatasetConfig) -> Listing:
    """List an image data set of the ``datasets`` library: by name, or from ``path`` on disk.

    ``path`` is a folder written by ``DatasetDict.save_to_disk``. Its own test split is
    kept, and its validation split beside that; without a test split, or where labels of the test
    are hidden, validation is the test split. Content hash: the library's fingerprints of the
    splits.

    Raises:
        UserError: If the library is not installed, the data set is not found or has no image
            and label columns, or a column is of an extension type of Arrow's.
    """
    datasets = extra_package("datasets", "hf", config)
    name = config.name.partition(":")[2]
    if config.path:
        _check_on_disk(open_tree(config))
    try:
        found = datasets.load_from_disk(config.path) if config.path else datasets.load_dataset(name)
    except Exception as error:  # network, hub and file errors of many kinds
        raise UserError(
            f"dataset.name: the Hugging Face data set '{name}' cannot be opened ({error}). Check "
            "the name and the network, or give dataset.path a folder written by save_to_disk."
        ) from None
    available = dict(found) if isinstance(found, datasets.DatasetDict) else {"train": found}
    for split, part in available.items():
        refuse_extensions(part.data.schema, f"dataset.name: {config.name}, split {split},")
    given = None if config.splits is None or config.splits.drawn else config.splits
    training = assign(available, given, "splits").get("train")
    if training is None:
        raise UserError(
            f"dataset.name: '{config.name}' has no training split, only: {', '.join(available)}. "
            "Name it: dataset.splits: {train: NAME, test: NAME}."
        )
    features = available[training].features
    image = next((c for c, f in features.items() if isinstance(f, datasets.Image)), None)
    labels = [c for c, f in features.items() if isinstance(f, datasets.ClassLabel)]
    # Values of other kinds may be opened when they are asked for.
    plain = [c for c, f in features.items() if isinstance(f, datasets.ClassLabel | datasets.Value)]
    label = next((c for c in ("label", "labels", "fine_label", *labels) if c in plain), None)
    if image is None or label is None:
        raise UserError(
            f"'{config.name}' has no image or no label column; its columns: {', '.join(features)}."
        )
    classes = getattr(features[label], "names", None)
    # The hub's hidden test labels are all -1.
    known = [
        name
        for name in available
        if name == training or (_is_split(name, given) and -1 not in available[name][label])
    ]
    named = assign(known, given, "splits")
    chosen = {split: available[name] for split, name in named.items()}
    content = ":".join(str(part._fingerprint) for part in chosen.values())
    targets = {split: list(part[label]) for split, part in chosen.items()}
    raw = datasets.Image(decode=False)
    # Other columns stay shut: to decode a row of theirs would open what it names.
    parts = {
        split: part.select_columns([image]).cast_column(image, raw)
        for split, part in chosen.items()
    }
    from huggingface_hub.constants import HF_HUB_CACHE

    caches = datasets.config.HF_DATASETS_CACHE, HF_HUB_CACHE
    places = [config.path] if config.path else list(map(str, caches))
    folders = [Path(expanded(place)).resolve() for place in places]
    return _listing(parts, targets, classes, content, image, folders, splits=config.splits)


def _is_split(name: str, given: SplitsConfig | None) -> bool:
    return split_of(name) is not None if given is None else name in given.named().values()


def _check_on_disk(tree: FileTree) -> None:
    """Look at the schema of each file that the library will open, before it does.

    Raises:
        UserError: As :func:`zoo_search.core.parquet.check_arrow_stream`, or if the folder names a
            file that is not in it.
    """
    there = tree.sizes()
    named = {name for name in there if name.endswith(".arrow")}
    for name in there:
        folder, slash, base = name.rpartition("/")
        if base in _INDEXES:
            named |= {folder + slash + each for each in _INDEXES[base](tree.read_whole(name))}
    if strangers := sorted(named - there.keys()):
        raise UserError(
            f"dataset.path: the folder names files that are not in it: "
            f"{some(strangers, ', ', ' and')}. A data set opens no others than its own. Write it "
            "again with save_to_disk, or copy it again."
        )
    for name in sorted(named):
        with tree.open(name) as stream:
            if not name.endswith("state.json"):
                check_arrow_stream(stream, f"dataset.path: {name}")


def _splits_in(data: bytes) -> list[str]:
    """Return the file of each split that ``dataset_dict.json`` names; the library says mistakes."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return [f"{split}/state.json" for split in read_json(data)["splits"]]
    return []


def _parts_in(data: bytes) -> list[str]:
    """Return the files that ``state.json`` names."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return [str(part["filename"]) for part in read_json(data)["_data_files"]]
    return []


_INDEXES = {"dataset_dict.json": _splits_in, "state.json": _parts_in}


def _listing(
    parts: Mapping[Split, SupportsLenAndGetItem[Any]],
    targets: Mapping[Split, Sequence[Label]],
    classes: Sequence[str] | None,
    content: str,
    column: str | None,
    folders: Sequence[Path] = (),
    *,
    splits: SplitsConfig | None,
) -> Listing:
    labels = [label for part in targets.values() for label in part]
    positions = [label for label in labels if isinstance(label, int)]
    if classes is None or len(positions) < len(labels):
        classes, positions = numbered(labels)
    split = [name for name, part in targets.items() for _ in part]
    return Listing(
        classes=tuple(str(name) for name in classes),
        ids=[f"{name}/{i:07d}" for name, part in targets.items() for i in range(len(part))],
        labels=positions,
        splits=None if len(parts) < 2 or (splits is not None and splits.drawn) else split,
        content=content,
        reader=LibraryReader(parts, column, folders),
    )
