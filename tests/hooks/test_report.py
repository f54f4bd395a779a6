"""What is told of a hook."""

from __future__ import annotations

import json

from zoo_search.hooks import HookReport


def test_facts_of_users_hooks_are_taken_as_they_are() -> None:
    """Names that our own reports use mean nothing in a user's."""
    for facts in ({"r2": 0.9}, {"pieces": 3}, {"pieces": ["a"]}, {"source": ["a"]}):
        report = HookReport("mine", "zoo", 8, 4, False, 0.1, facts)
        assert str(report) == "mine, 4 of 8 values changed"


def test_reports_of_earlier_versions_read_as_they_did() -> None:
    """They kept the donor among the facts and described our own hooks by their names."""
    part = {"piece": "head", "source": "vit.head", "similarity": 0.25, "coverage": 0.5}
    missing = {"piece": "stitches.0", "source": None}
    for hook, changed, facts, donors, line in (
        ("dpiat", 4, {"source": "a", "similarity": 0.98765, "coverage": 0.999, "piece": ""},
         ("a",), "dpiat from a (similarity 0.988), 100 % of the values"),
        ("dpiat", 4, {"pieces": [missing, part]},
         ("vit.head",), "dpiat from vit.head (similarity 0.250), 50 % of head"),
        ("dpiat", 0, {"pieces": [missing]}, (), "dpiat, 0 of 8 values changed"),
        ("least_squares", 8, {"r2": [0.514, None], "head": True}, (),
         "least_squares, 8 of 8 values changed, R² of the stitches 0.51, unknown"),
        ("random", 0, {}, (), "random, all 8 values as they were drawn from the seed"),
        ("mine", 4, {"source": "a"}, (), "mine, 4 of 8 values changed"),
    ):  # fmt: skip
        old = {"hook": hook, "role": "candidate", "values": 8, "changed": changed, "fitted": False,
               "seconds": 0.1, "facts": facts, "name": "net"}  # fmt: skip
        report = HookReport.from_dict(old)
        assert (str(report), report.donors) == (line, donors)
        assert HookReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report
