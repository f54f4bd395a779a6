"""Names of any bytes become text that can be written anywhere, and come back."""

from __future__ import annotations

import os

from hypothesis import example, given, settings
from hypothesis import strategies as st

from zoo_search.core.byte_names import escaped, printable, restored
from zoo_search.core.errors import UserError


@settings(max_examples=50)
@given(st.binary(max_size=30))
@example(b"caf\xe9")
@example(rb"literally \xe9, \x5c and \x5cxe9" + b"\xff")
def test_every_name_comes_back(raw: bytes) -> None:
    name = os.fsdecode(raw)
    text = escaped(name)
    text.encode()  # valid UTF-8, which the name may not be
    assert restored(text) == name
    assert os.fsencode(restored(text)) == raw


@settings(max_examples=50)
@given(st.binary(max_size=8), st.binary(max_size=8))
def test_no_two_names_become_one(one: bytes, other: bytes) -> None:
    assert (escaped(os.fsdecode(one)) == escaped(os.fsdecode(other))) == (one == other)


def test_what_is_valid_stays_as_it_is() -> None:
    for name in ("cat/1.png", "Käfer/ß.png", "a\\b.png", "日本/犬.png"):
        assert escaped(name) == name


def test_errors_can_be_printed() -> None:
    assert printable(os.fsdecode(b"caf\xe9")) == r"caf\xe9"
    assert str(UserError(os.fsdecode(b"caf\xe9.png is no image"))) == r"caf\xe9.png is no image"
