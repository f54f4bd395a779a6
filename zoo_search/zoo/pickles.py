"""What lies beside the weights in a torch checkpoint, read without making it.

Training scripts keep arguments, metrics and dates with the weights. ``torch.load`` reads a pickle
of known names alone (``weights_only=True``); here the names of plain values become known, and each
stands for an object that keeps nothing: neither NumPy nor anything else is called by a file.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from zoo_search.core.errors import UserError, first_line
from zoo_search.core.files import gb
from zoo_search.core.foreign.opcodes import TooMuchError, check_opcodes


class Aside:
    """In place of a value beside the weights: takes whatever the file gives, and drops it."""

    def __new__(cls, *given: object, **named: object) -> Aside:
        """Make one of any arguments."""
        return super().__new__(cls)

    def __init__(self, *given: object, **named: object) -> None:
        """Keep nothing."""

    def __setstate__(self, state: object) -> None:
        """Keep nothing."""


class _AsideMapping:
    """In place of a kind of mapping: a plain one, which may hold weights."""

    def __new__(cls, *given: object) -> Any:
        return {}


class _AsideSequence:
    """In place of a kind of list: a plain one."""

    def __new__(cls, *given: object) -> Any:
        return []


def _names(modules: Iterable[str], names: str) -> list[str]:
    return [f"{module}.{name}" for module in modules for name in names.split()]


_ASIDE = (
    *_names(("numpy",), "dtype ndarray bool bool_ str_ bytes_ void object_ datetime64 timedelta64"),
    *_names(("numpy",), "int8 int16 int32 int64 intc intp longlong uint8 uint16 uint32 uint64"),
    *_names(("numpy",), "uintc uintp ulonglong float16 float32 float64 longdouble float128"),
    *_names(("numpy",), "complex64 complex128 clongdouble complex256"),
    # Under the first name to version 1, under the second from version 2 on.
    *_names(("numpy.core.multiarray", "numpy._core.multiarray"), "scalar _reconstruct"),
    *_names(("numpy.core.numeric", "numpy._core.numeric"), "_frombuffer"),
    # Under the second name in Python 3.13.
    *_names(("pathlib", "pathlib._local"), "Path PosixPath WindowsPath"),
    *_names(("pathlib", "pathlib._local"), "PurePath PurePosixPath PureWindowsPath"),
    *_names(("datetime",), "date datetime time timedelta timezone"),
    *_names(("builtins",), "bool bytes float frozenset int list range slice str tuple"),
    *("argparse.Namespace", "types.SimpleNamespace", "uuid.UUID", "decimal.Decimal"),
    *("fractions.Fraction", "torch.torch_version.TorchVersion"),
)
_MAPPINGS = (
    *("builtins.dict", "collections.defaultdict"),
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)  # fmt: skip
_SAFE: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    *((Aside, name) for name in _ASIDE),
    *((_AsideMapping, name) for name in _MAPPINGS),
    (_AsideSequence, "collections.deque"),
]


_UNPACKED = 2**26  # bytes that an archive may take beyond four times its own


def _check_archive(path: Path, where: str) -> None:
    """Refuse an archive that takes far more memory than bytes of the file; torch packs nothing."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # an old format, or none: the reader says it
    if size > 4 * path.stat().st_size + _UNPACKED:
        raise UserError(
            f"{where}: {path.name} has {gb(path.stat().st_size)} and would unpack to {gb(size)}. "
            "torch.save compresses nothing: save the weights again by it."
        )


def load_torch(path: Path, where: str) -> object:
    """Return what a torch checkpoint holds: tensors, plain containers and plain values.

    Raises:
        UserError: If it asks for anything else, which might run code; names it. If it is none, or
            an archive that unpacks to many times its size, or a pickle that asks for far more
            time or memory than it is large.
    """
    _check_archive(path, where)
    try:
        check_opcodes(path)
        with torch.serialization.safe_globals(_SAFE):
            return torch.load(path, map_location="cpu", weights_only=True)
    except TooMuchError as error:
        raise UserError(
            f"{where}: {path.name} is refused: it is a pickle of few bytes that would take many, "
            f"or hours: {error}. Ask the author for a .safetensors file, or save the state dict "
            "alone: torch.save(model.state_dict(), 'weights.pth')."
        ) from None
    except pickle.UnpicklingError as error:
        asked = re.search(r"(?:GLOBAL|unrecognized function) (\S+)", str(error))
        if asked is None and "nsupported operand" in str(error):
            raise UserError(
                f"{where}: {path.name} is a pickle of a protocol that torch does not read safely. "
                "Save it again as torch.save does by itself: torch.save(…, pickle_protocol=2)."
            ) from None
        kind = ", but no torch checkpoint of plain tensors, and loading any other may run code"
        if asked is not None:
            kind = f" that would call '{asked[1]}' while it is read, and a file that runs code is "
            kind += "never loaded"
        raise UserError(
            f"{where}: {path.name} is refused: it is a pickle{kind}. Weights must be tensors in "
            "plain containers. Ask the author for a .safetensors file or a state dict, or save one "
            "yourself with torch.save(model.state_dict(), 'weights.pth') where you trust the file."
        ) from None
    except (
        RuntimeError, EOFError, ValueError, KeyError, OSError, TypeError, AttributeError,
        IndexError, AssertionError, NotImplementedError,
    ) as error:  # fmt: skip
        # The reader meets bytes that no writer wrote: any of its own errors may come.
        raise UserError(
            f"{where}: {path.name} is not a torch checkpoint, or it is cut short "
            f"({first_line(error)[:200]})."
        ) from None
