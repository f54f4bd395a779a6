"""The folder of a pack, as it grows: shards, then the index of all.

A shard appears under its name when it is whole, then its part of the index in ``parts/``, from
which a later run knows what it holds.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field

import pyarrow as pa

from zoo_search.core.errors import UserError, some
from zoo_search.core.files import ASIDE, Place, file_system, gb
from zoo_search.core.progress import Bar
from zoo_search.core.store import RunStore
from zoo_search.data.ahead import Encoded, read_shuffled
from zoo_search.data.selection import check_bad
from zoo_search.data.sources.files import FileTree
from zoo_search.data.sources.listing import Listing
from zoo_search.data.sources.shard_index import (
    CLASSES,
    INDEX,
    MANIFEST,
    SCHEMA,
    index_bytes,
    index_of,
)
from zoo_search.data.splits import SPLITS
from zoo_search.data.tar_writer import TarWriter

_FORMAT = 1
_NAME = rf"({'|'.join(SPLITS)})-\d{{6}}\.tar"
_SHARD, _PART = re.compile(_NAME), re.compile(rf"parts/{_NAME}\.parquet")
_WORDS = {
    "source": "data set", "seed": "--seed", "shard_bytes": "--shard-mb", "resize": "--resize",
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What decides on the bytes of a pack."""

    source: str
    """Hash of the data set."""
    seed: int
    shard_bytes: int
    resize: int | None


@dataclass
class Packing:
    """A pack under way.

    Raises:
        UserError: If the folder cannot be written, or holds other things or another pack.
    """

    out: Place
    listing: Listing
    settings: Settings
    max_bad: float
    shards: dict[str, int] = field(default_factory=dict)
    """Sizes by name."""
    tables: list[pa.Table] = field(default_factory=list)
    """The index of each shard."""
    bad: dict[str, str] = field(default_factory=dict)
    kept: int = 0
    """Shards that were there already."""

    def __post_init__(self) -> None:
        self._store = RunStore(self.out, "OUT:")
        self._tree = FileTree(*file_system(self.out, "OUT:"))
        self._label = dict(zip(self.listing.ids, self.listing.labels, strict=True))
        self._there = self._look()
        self.whole = self._take_all()
        """All was there from the start."""
        if not self.whole:
            try:
                self._record(whole=False)
                lines = "".join(f"{name}\n" for name in self.listing.classes)
                self._store.write_text(CLASSES, lines)
            except OSError as error:
                raise UserError(
                    f"OUT: {self._store.url} cannot be written ({error.strerror or error}). Give "
                    "a folder, or a URI, that you may write to."
                ) from None

    def _look(self) -> dict[str, int]:
        """Return the sizes of our files; what a killed run has left aside is removed."""
        self._tree.fs.invalidate_cache()
        found = self._tree.sizes()
        aside = [name for name in found if name.rpartition("/")[2].startswith(ASIDE)]
        strange = [n for n in found if n not in aside and not (_is_ours(n) and MANIFEST in found)]
        begun = self._recorded() if MANIFEST in found and not strange else asdict(self.settings)
        if strange or begun is None:
            raise UserError(
                f"OUT: {self._store.url} holds other things: "
                f"{some(strange or [MANIFEST], ', ', ' and')}. A pack needs an empty or new "
                "folder. Give another one, or remove them."
            )
        mine = asdict(self.settings).items()
        if other := [_WORDS[name] for name, value in mine if begun[name] != value]:
            raise UserError(
                f"OUT: {self._store.url} holds a pack with another {', '.join(other)}. Give the "
                "arguments that it was begun with or another folder, or remove it."
            )
        for name in aside:
            self._store.remove(name)
            del found[name]
        return found

    def _recorded(self) -> dict[str, object] | None:
        """Return the settings of the pack that is there; None if it is no pack."""
        try:
            record = self._store.read_json(MANIFEST)
            fields = {name: record["made_from"][name] for name in asdict(self.settings)}
            return fields if record["format"] == _FORMAT else None
        except (ValueError, KeyError, TypeError):
            return None

    def _record(self, *, whole: bool) -> None:
        facts = {"format": _FORMAT, "whole": whole, "made_from": asdict(self.settings)}
        self._store.write_json(MANIFEST, facts)

    def _take_all(self) -> bool:
        if INDEX not in self._there:
            return False
        found = index_of(self._store.read_bytes(INDEX), f"OUT: {self._store.path(INDEX)}")
        there = {name: size for name, size in self._there.items() if _SHARD.fullmatch(name)}
        if found is None or found[1]["shards"] != there:
            return False
        self.tables, self.shards, self.bad = [found[0]], there, found[1]["bad"]
        self.kept = len(there)
        return True

    def write_split(self, split: str, ids: list[str], bar: Bar) -> None:
        """Write the shards of a split that are not there yet.

        Raises:
            UserError: If too many images are bad, or all of the split.
        """
        before = len(self.tables)
        number, read = self._keep(split)
        bar.advance(read, f"{gb(sum(self.shards.values()))} kept")
        reader, seed, side = self.listing.reader, self.settings.seed, self.settings.resize
        with closing(read_shuffled(reader, ids, seed, side, read)) as found:
            images = _Images(found, read)
            while images.now is not None:
                name = f"{split}-{number:06d}.tar"
                with self._store.open(name, "wb") as stream:
                    shard = TarWriter(stream)
                    table, bad = self._fill(shard, name, images, bar)
                    shard.close()
                self.shards[name] = shard.size
                self.tables.append(table)
                part = index_bytes(table, {name: shard.size}, bad=bad, read=images.read)
                self._store.write_bytes(_part(name), part)
                number += 1
        if not any(table.num_rows for table in self.tables[before:]):
            shown = some([f"{name} ({reason})" for name, reason in sorted(self.bad.items())])
            raise UserError(
                f"None of the {len(ids)} images of the {split} split can be read or decoded: "
                f"{shown}. Repair them."
            )

    def _keep(self, split: str) -> tuple[int, int]:
        """Take over what is whole; return how many shards, and how many images were read."""
        read = 0
        for number in itertools.count():
            name = f"{split}-{number:06d}.tar"
            if name not in self._there or _part(name) not in self._there:
                break
            part = _part(name)
            found = index_of(self._store.read_bytes(part), f"OUT: {self._store.path(part)}")
            if found is None or found[1]["shards"] != {name: self._there[name]}:
                break
            table, facts = found
            self.tables.append(table)
            self.shards |= facts["shards"]
            self.bad |= facts["bad"]
            self.kept, read = self.kept + 1, facts["read"]
        return number, read

    def _fill(
        self, shard: TarWriter, name: str, images: _Images, bar: Bar
    ) -> tuple[pa.Table, dict[str, str]]:
        """Write images until the shard is full; return its index and which were bad."""
        split = name.partition("-")[0]
        rows: dict[str, list[object]] = {column: [] for column in SCHEMA.names}
        bad: dict[str, str] = {}
        before = sum(self.shards.values())
        while (image := images.now) is not None:
            label = self._label[image.id]
            if image.bad is not None:
                bad[image.id] = self.bad[image.id] = image.bad
                check_bad(self.bad, len(self.listing.ids), self.max_bad)
            elif shard.has_room(image.data, label, self.settings.shard_bytes):
                key = f"{images.read:09d}"
                start = shard.add(key, image.data, image.ending, label)
                row = (f"{name}:{key}", label, split, name, start, len(image.data), image.id)
                for column, value in zip(rows.values(), row, strict=True):
                    column.append(value)
            else:
                break
            images.step()
            bar.advance(note=gb(before + shard.size))
        return pa.table(rows, schema=SCHEMA), bad

    def end(self) -> None:
        """Write the index, and remove its parts.

        Raises:
            UserError: If too many images are bad, those of an earlier run among them.
        """
        check_bad(self.bad, len(self.listing.ids), self.max_bad)
        if not self.whole:
            for name in self._there:
                if _SHARD.fullmatch(name) and name not in self.shards:
                    self._store.remove(name)
            self._record(whole=True)
            table = pa.concat_tables([table.replace_schema_metadata() for table in self.tables])
            self._store.write_bytes(INDEX, index_bytes(table, self.shards, bad=self.bad))
        self._store.remove("parts")

    @property
    def splits(self) -> dict[str, int]:
        """How many images of each split are packed."""
        found = Counter(part for table in self.tables for part in table["split"].to_pylist())
        return {split: found[split] for split in SPLITS if found[split]}


class _Images:
    """Images one by one: ``now``, and how many were before it."""

    def __init__(self, found: Iterator[Encoded], read: int) -> None:
        self._found, self.read = found, read
        self.now = next(found, None)

    def step(self) -> None:
        """Go on to the next one; ``now`` is None at the end."""
        self.read += 1
        self.now = next(self._found, None)


def _part(shard: str) -> str:
    return f"parts/{shard}.parquet"


def _is_ours(name: str) -> bool:
    fixed = name in (MANIFEST, INDEX, CLASSES)
    return fixed or bool(_SHARD.fullmatch(name) or _PART.fullmatch(name))
