"""What a torch checkpoint's pickle would hash, call or quote: counted before anything is made.

A tuple in a tuple twice, in a tuple twice, … takes a few bytes a level, and twice the time a level
where it is a key: forty levels are hours inside one call of the interpreter. Other pickles call for
gigabytes, with a number: ``bytearray(10**10)``. The opcodes are followed here as
``torch.load(weights_only=True)`` follows them, on lists in place of values.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import IO, Any

_STEPS = 2**20  # values that may be visited, beyond so many of each opcode:
_STEPS_EACH = 8
_DEEPEST = 100  # containers inside each other, of what is hashed: the interpreter's hash recurses
_ODD_KEYS = 10_000  # tuples and integers of any length as keys: their hashes can be made equal
_LEGACY = 5  # pickles one after the other, in the form that torch wrote before version 1.6


class _Node(list[Any]):
    """What a value holds, whatever it is; of texts, whole numbers and globals their own word."""

    word: str | int | None = None


_ATOM = _Node()  # holds nothing, and nobody asks which it is
_WORDS = frozenset({"BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "GLOBAL"})
_ATOMS = frozenset({"NONE", "NEWFALSE", "NEWTRUE", "BINFLOAT", "SHORT_BINSTRING"})
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_CALLS = frozenset({"REDUCE", "NEWOBJ"})


class TooMuchError(Exception):
    """A pickle of few bytes asks for values that take hours to visit, or for gigabytes."""


def check_opcodes(path: Path) -> None:
    """Follow the pickles of a torch checkpoint, an archive or in the form before.

    Raises:
        TooMuchError: If what it hashes, calls or makes is many times larger than itself.
        UnpicklingError: If it has an opcode that ``torch.load`` does not follow.
        Exception: Whatever a damaged archive or pickle leads to.
    """
    followed = _Followed()
    with path.open("rb") as stream:
        if stream.peek(4)[:4] == b"PK\x03\x04":  # as torch looks, and by its own reader
            import torch

            reader = torch._C.PyTorchFileReader(str(path))
            followed.pickle(io.BytesIO(reader.get_record("data.pkl")))
            return
        for _ in range(_LEGACY):
            if stream.peek(1):
                followed.pickle(stream)


class _Followed:
    """Counts what pickles ask for."""

    def __init__(self) -> None:
        self._left, self._odd = _STEPS, _ODD_KEYS

    def pickle(self, stream: IO[bytes]) -> None:
        """Follow one pickle up to its end."""
        outer: list[list[_Node]] = []
        stack: list[_Node] = []
        memo: dict[Any, _Node] = {}
        for opcode, arg, _ in pickletools.genops(stream):
            self._left += _STEPS_EACH
            name = opcode.name
            if name in _ATOMS:
                stack.append(_ATOM)
            elif name in _WORDS:
                stack.append(node := _Node())
                node.word = arg
            elif name in ("BINGET", "LONG_BINGET"):
                stack.append(memo[arg])
            elif name in ("BINPUT", "LONG_BINPUT"):
                memo[arg] = stack[-1]
            elif name == "MARK":
                outer.append(stack)
                stack = []
            elif name in ("TUPLE", "APPENDS", "SETITEMS"):
                items, stack = stack, outer.pop()
                if name == "TUPLE":
                    stack.append(_Node(items))
                else:
                    self._put(stack[-1], items, keyed=name == "SETITEMS")
            elif name in _TUPLES:
                items = stack[-_TUPLES[name] :]
                stack[-_TUPLES[name] :] = [_Node(items)]
            elif name == "APPEND":
                item = stack.pop()
                self._put(stack[-1], [item], keyed=False)
            elif name == "SETITEM":
                value, key = stack.pop(), stack.pop()
                self._put(stack[-1], [key, value], keyed=True)
            elif name in _CALLS:
                given, function = stack.pop(), stack.pop()
                self._visit([function, given])
                _check_call(function, given)
                stack.append(_Node([function, given]))
            elif name == "BUILD":
                state = stack.pop()
                self._visit([state])
                self._put(stack[-1], [state], keyed=False)
            elif name == "BINPERSID":
                self._visit([stack.pop()])
                stack.append(_Node())
            elif name.startswith("EMPTY_"):
                stack.append(_Node())
            elif name not in ("PROTO", "STOP"):
                raise pickle.UnpicklingError(f"Unsupported operand {name}")

    def _put(self, holder: _Node, items: list[_Node], *, keyed: bool) -> None:
        """Put items into what holds them; of a mapping keys and values take turns."""
        if keyed:
            odd = [key for key in items[::2] if _is_odd(key)]
            self._odd -= len(odd)
            self._visit(odd)
        if holder is not _ATOM:
            holder += items

    def _visit(self, roots: list[_Node]) -> None:
        """Visit all that values hold, each once for every way that leads to it, as a hash does."""
        level = roots
        for _ in range(_DEEPEST):
            self._left -= sum(map(len, level))
            if self._left < 0 or self._odd < 0:
                raise TooMuchError("it holds values inside each other that take hours to visit")
            level = [item for node in level for item in node]
            if not level:
                return
        raise TooMuchError(f"it holds keys or calls with more than {_DEEPEST} values in each other")


def _is_odd(key: _Node) -> bool:
    """Say whether keys like this can be made to have one hash: not texts, and short numbers."""
    return key.word is None or (isinstance(key.word, int) and abs(key.word) >= 2**64)


def _check_call(function: _Node, given: _Node) -> None:
    """Refuse a call that makes as many bytes or values as a number says, or that never ends.

    ``_rebuild_from_type_v2(function, type, arguments, state)`` calls the function that it is given.
    """
    name = str(function.word).replace(" ", ".")
    if name.endswith("._rebuild_from_type_v2") and len(given) > 2:
        _check_call(given[0], given[2])
    numbers = [item.word for item in given if isinstance(item.word, int)]
    sized = name.endswith(("bytearray", "Tensor", "Storage"))
    if sized and any(number > 0 for number in numbers):
        raise TooMuchError(f"it calls {name} for a size of {' x '.join(map(str, numbers))}")
    if name.endswith(".encode") and [item.word for item in given[1:]] != ["latin1"]:
        raise TooMuchError(f"it calls {name} as no pickle of bytes does")
