"""YAML of others: as large as it looks, and one paragraph for all that is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from zoo_search.config import load_job
from zoo_search.core.errors import UserError
from zoo_search.core.yaml_text import read_yaml, texts
from zoo_search.networks.recipe import Recipe

LAUGHS = "\n".join(
    ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 30))]
)
BAD = {
    "a: &a [*a]": r"line 1 holds itself by an alias",
    "a: &a {b: {c: *a}}": r"line 1 holds itself by an alias",
    LAUGHS: r"more than 100,000 values by aliases",
    "[" * 5000 + "]" * 5000: r"nested too deep",
    "a: [1\nb: 2": r"line 2 is not valid YAML",
    "a: 2024-13-45": r"holds a value that is none: month must be in 1\.\.12",
    "a: \x00": r"is not valid YAML",
    "a: {m: 1, n: 2, m: 3}": r"line 1: the key 'm' is in this mapping already, in line 1, and one",
    "a:\n- b: 1\n  c: 2\n  b: 1": r"line 4: the key 'b' is in this mapping already, in line 2",
    "on: 1\ntrue: 2": r"line 2: the key 'on' and 'true', which YAML reads as one value, True",
    "1: a\n1.0: b": r"line 2: the key '1' and '1\.0', which YAML reads as one value, 1\.0",
    "a: !!python/object/apply:os.system [ls]": r"is not valid YAML",
}


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_what_is_no_plain_value_is_told(text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=BAD[text]):
        read_yaml(text, "The file")
    file = tmp_path / "x.yaml"
    file.write_bytes(text.encode())
    for read in (load_job, Recipe.from_any):
        with pytest.raises(UserError, match=BAD[text]):
            read(file)


def test_plain_values_and_aliases_are_read_as_the_library_reads_them() -> None:
    text = "a: &x {b: [1, 2.5, null, yes]}\nc: *x\nd: {<<: *x, e: 2024-01-02}\n"
    node, value = read_yaml(text, "The file")
    assert value == yaml.safe_load(text)
    assert isinstance(node, yaml.MappingNode)
    assert read_yaml("", "The file") == (None, None)


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(b"name: \xff\xfe")
    for read in (load_job, Recipe.from_any):
        with pytest.raises(UserError, match=r"cannot be read \('utf-8' codec can't decode"):
            read(file)


def test_texts_of_nested_values_with_their_places() -> None:
    value = {"a": "x", "b": {"c": ["y", 3, {"d": "z"}], "e": None}, 5: ("w",), "f": b"no text"}
    assert list(texts(value)) == [("a", "x"), ("b.c.0", "y"), ("b.c.2.d", "z"), ("5.0", "w")]
    assert list(texts("alone")) == [("", "alone")]
