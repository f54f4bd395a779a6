"""Candidates in plain values and in their file."""

import json

from zoo_search.networks import BlockRef, Recipe
from zoo_search.reassembly import Candidate
from zoo_search.reassembly.candidates import best_first, from_table, to_table


def test_candidates_survive_the_file():
    recipe = Recipe.from_any({"blocks": [{"model": "m", "start": 0, "stop": 2}]})
    good = Candidate(0, recipe, "zoo", 10, 20, {"naswot": 1.5, "params": 10.0}, "complete", "", 0.1)
    bad = Candidate(1, recipe, "reassembly", 11, 2**40, {}, "failed", "naswot: no", 0.2)
    table = to_table([good, bad], ["naswot", "params"], {"seed": 0})
    assert table.column("naswot").to_pylist() == [1.5, None]
    assert from_table(table) == [good, bad]
    assert best_first([bad, good], "naswot") == [good]
    assert json.loads(table.schema.metadata[b"zoo_search"])["seed"] == 0


def test_measured_costs_survive_the_file_and_are_there_only_where_asked_for():
    recipe = Recipe((BlockRef("m", 0, 2),))
    plain = Candidate(0, recipe, "zoo", 10, 20, {"naswot": 1.5}, "complete", "", 0.1)
    full = Candidate(1, recipe, "zoo", 10, 20, {"naswot": 1.0}, "complete", "", 0.1, 2.5, 2**40)
    table = to_table([plain, full], ["naswot"], {})
    assert table.column("latency_ms").to_pylist() == [None, 2.5]
    assert table.column("memory").to_pylist() == [None, 2**40]
    assert from_table(table) == [plain, full]
    assert not {"latency_ms", "memory"} & set(to_table([plain], ["naswot"], {}).column_names)
