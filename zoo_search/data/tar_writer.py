"""Tar shards, sample by sample; equal samples give equal bytes."""

from __future__ import annotations

import tarfile
from typing import IO

_BLOCK = tarfile.BLOCKSIZE


class TarWriter:
    """Writes samples of an image and its label to a stream; knows where each image lies."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.size = 0
        """Bytes written so far."""

    def has_room(self, image: bytes, label: int, limit: float) -> bool:
        """Say whether one more sample leaves the shard within ``limit`` bytes; the first does."""
        more = 2 * _BLOCK + _padded(len(image)) + _padded(len(str(label)))
        return not self.size or self.size + more + tarfile.RECORDSIZE <= limit

    def add(self, key: str, image: bytes, ending: str, label: int) -> int:
        """Write ``KEY.cls`` and ``KEY.ENDING``; return the offset of the image's first byte."""
        self._member(f"{key}.cls", str(label).encode())
        start = self.size + _BLOCK
        self._member(f"{key}.{ending}", image)
        return start

    def close(self) -> None:
        """Write the end of the tar; the stream stays open."""
        self._write(bytes(2 * _BLOCK))
        self._write(bytes(-self.size % tarfile.RECORDSIZE))

    def _member(self, name: str, data: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o444
        self._write(info.tobuf(tarfile.USTAR_FORMAT))
        self._write(data)
        self._write(bytes(-len(data) % _BLOCK))

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self.size += len(data)


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
