"""What a thing is, as a hash; and random numbers that depend on names, not on the order of work.

Both must stay as they are from version to version: finished runs, cached weights and splits of data
sets are recognised by them.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import random
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def sha256(text: str) -> str:
    """Return the SHA-256 of a text's UTF-8, in lower-case hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(value: object) -> str:
    """Return the SHA-256 of a JSON-like value, independent of the order of mapping keys."""
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False))


def fingerprint_as_read(value: object) -> str:
    """Return the fingerprint of a value as JSON gives it back: all keys of mappings are texts."""
    return fingerprint(json.loads(json.dumps(value, allow_nan=False)))


def digest_of(parts: Iterable[object]) -> str:
    """Return the SHA-256 over the parts as texts, each closed by a byte that no part holds."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(str(part).encode() + b"\0")
    return digest.hexdigest()


def code_identity(call: object, _inside: tuple[object, ...] = ()) -> list[object]:
    """Return what a user's function or class does, JSON-like, the same in every process.

    That is the hash of its source and the values bound to it (in a closure, a partial, or the
    attributes of a callable object), functions among them by their own code, as a decorator binds
    what it decorates; not the source of what it calls.
    """
    inside = (*_inside, call)

    def bound(value: object) -> object:
        text = repr(value)
        if _ADDRESS.search(text) is None:
            return text
        if callable(value) and not any(value is outer for outer in inside):
            return code_identity(value, inside)
        return _ADDRESS.sub("", text)

    if isinstance(call, functools.partial):
        keywords = sorted(call.keywords.items())
        return [code_identity(call.func, inside), bound(call.args), bound(keywords)]
    held = [bound(cell.cell_contents) for cell in getattr(call, "__closure__", None) or ()]
    if not (inspect.isroutine(call) or inspect.isclass(call)):
        held, call = [bound(vars(call))], type(call)
    try:
        return [sha256(inspect.getsource(call)), held]
    except (OSError, TypeError):  # made without a file
        return [f"{call.__module__}.{call.__qualname__}", held]


def name_seed(seed: int, name: str) -> int:
    """Return a seed of 32 bits of the thing's own, so that its neighbours do not change it."""
    return zlib.crc32(f"{seed}|{name}".encode())


def generator(seed: int, text: str) -> torch.Generator:
    """Return a generator seeded by a seed and a text, the same in every process."""
    import torch

    return torch.Generator().manual_seed(_number(f"{seed} {text}", 63))


def numpy_generator(*parts: object) -> np.random.Generator:
    """Return NumPy's generator seeded by some values, the same in every process."""
    return np.random.default_rng(_number(" ".join(map(str, parts)), 128))


@contextmanager
def seeded(*parts: object) -> Iterator[None]:
    """Seed every global random state from ``parts``; put the states back afterwards."""
    import torch

    number = _number(" ".join(map(str, parts)), 32)
    python, numpy = random.getstate(), np.random.get_state()
    # Where CUDA is not in use, asking for a device would take memory of one.
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = [torch.cuda.current_device()] if in_use else []
    with torch.random.fork_rng(devices=devices):
        random.seed(number)
        np.random.seed(number)
        torch.manual_seed(number)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def ranks(ids: Sequence[str], seed: int, purpose: str) -> npt.NDArray[np.uint64]:
    """Return a pseudo-random rank for each id: BLAKE2b of the purpose, the seed and the id."""
    # The state after the common prefix is copied for each id: half the time for millions of ids.
    keyed = hashlib.blake2b(f"{purpose}:{seed}:".encode(), digest_size=8)
    values = np.empty(len(ids), dtype=np.uint64)
    for i, name in enumerate(ids):
        digest = keyed.copy()
        digest.update(name.encode())
        values[i] = int.from_bytes(digest.digest(), "little")
    return values


def _number(text: str, bits: int) -> int:
    """Return the first ``bits`` bits of a text's SHA-256 as a number."""
    return int(sha256(text), 16) >> (256 - bits)
