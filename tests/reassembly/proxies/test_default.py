"""The proxy that ranks where none is named is the one that chose better than the paper's."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest

from zoo_search.config.sections import SearchConfig
from zoo_search.reassembly.scoring import Scoring

MEASURED = Path(__file__).parents[3] / "benchmarks/measured/guides.jsonl"
PAPERS = "naswot"  # DeRy, section 3.3


def trained() -> dict[str, list[dict[str, Any]]]:
    """Recipes that were scored and trained, by setting (``python benchmarks/guides.py``)."""
    rows = [json.loads(line) for line in MEASURED.read_text("utf-8").splitlines()]
    names = dict.fromkeys(row["setting"] for row in rows)
    return {n: [r for r in rows if r["setting"] == n and r["trainings"]] for n in names}


@pytest.mark.parametrize("setting", ["textures-10-large", "mnist-20-small"])
def test_it_loses_less_than_the_papers(setting: str) -> None:
    (default,) = SearchConfig().proxies
    assert list(Scoring().proxies) == [default]
    assert default != PAPERS
    rows = trained()[setting]
    assert len(rows) >= 28
    end = np.array([fmean(list(t["test"].values())[-1] for t in r["trainings"]) for r in rows])
    rng, lost = np.random.default_rng(1), dict[str, float]()
    draws = [rng.choice(len(rows), 16, replace=False) for _ in range(1000)]
    for name in (default, PAPERS):
        score = np.array([row["scores"][name] for row in rows])
        lost[name] = fmean(end[d].max() - end[d[score[d].argmax()]] for d in draws)
    assert lost[default] < 0.6 * lost[PAPERS]
