"""The dashboard of a finished search, served for real and read by a headless browser."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from reassembly.study_by_hand import study_of

from zoo_search.cli.dashboard import serve
from zoo_search.core.errors import UserError
from zoo_search.costs import Budget, CostTable
from zoo_search.linegraph import trace
from zoo_search.reassembly import Candidate, Space, best_first
from zoo_search.reassembly.candidates import Outcome
from zoo_search.testing.small import even_partition

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
           "--disable-background-networking", "--window-size=1240,2000",
           "--virtual-time-budget=8000")  # fmt: skip


@pytest.fixture(scope="module")
def space() -> Space:
    zoo = {
        name: trace(timm.create_model(arch, num_classes=4).eval(), (3, 64, 64), name)
        for name, arch in (("mobilenet", "mobilenetv3_small_050"), ("resnet", "resnet10t"))
    }
    return Space(even_partition(zoo, 3), CostTable(zoo, 4), Budget())


@pytest.fixture(scope="module")
def found(space: Space, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Candidate]]:
    """A run directory with a study of all eight recipes, one of them failed."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    study = study_of(space, 8, "nsga2", folder / "study.journal")
    while (asked := study.ask()) is not None:
        score = 300 + int(asked.recipe.key, 16) % 9973 / 100
        failed = asked.number == 5
        outcome = Outcome({}, "naswot: no") if failed else Outcome({"naswot": score})
        study.tell(asked, outcome)
    return folder, study.candidates()


@pytest.fixture(scope="module")
def address(found: tuple[Path, list[Candidate]]) -> Iterator[str]:
    """The address that ``zoo-search dashboard`` prints."""
    server = subprocess.Popen(
        [sys.executable, "-m", "zoo_search", "dashboard", str(found[0])],
        stdout=subprocess.PIPE, text=True,
        env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},
    )  # fmt: skip
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        shown = re.match(r"(http://127\.0\.0\.1:\d+)/ ", line)
        assert shown, line
        yield shown[1]
    finally:
        server.terminate()
        server.wait(20)


def page(url: str, folder: Path, *extra: str) -> str:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: the page cannot be looked at")
    done = subprocess.run(
        [CHROMIUM, *OPTIONS, f"--user-data-dir={folder / 'profile'}", *extra, url],
        capture_output=True, text=True, timeout=120, check=True,
        env=os.environ | {"HOME": str(folder)},
    )  # fmt: skip
    return done.stdout


def text_of(html: str) -> str:
    html = re.sub(r"<(script|style)[^>]*>.*?</\1>", " ", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def front_of(candidates: list[Candidate]) -> list[Candidate]:
    """Those that no other one beats in both score and cost, by brute force."""
    ranked = best_first(candidates, "naswot")
    return [
        c
        for c in ranked
        if not any(o.scores["naswot"] > c.scores["naswot"] and o.macs <= c.macs for o in ranked)
    ]


def test_the_pareto_front_is_on_the_page(space, found, address, tmp_path: Path) -> None:
    told = text_of(page(f"{address}/dashboard/studies/0", tmp_path, "--dump-dom"))
    assert "Pareto Front Objective X: score" in told
    assert "Objective Y: GMACs" in told
    best = told[told.index("Best Trials") : told.index("Study User Attributes")]
    front = front_of(found[1])
    assert len(front) > 1
    assert best.count("Objective Values") == len(front)
    for candidate in front:
        score, gmacs = candidate.scores["naswot"], round(candidate.macs / 1e9, 6)
        assert f"Trial {candidate.id} Objective Values = [{score:g}, {gmacs:g}]" in best


def test_the_ranking_is_on_the_page_with_costs(found, address, tmp_path: Path) -> None:
    """The table that can be sorted: a row each, with score, GMACs, parameters and reason."""
    told = text_of(page(f"{address}/dashboard/studies/0/smartSelection", tmp_path, "--dump-dom"))
    assert "UserAttribute params" in told
    assert "UserAttribute gmacs" in told
    rows = told[told.index("Detail") :]
    for c in found[1]:
        gmacs = round(c.macs / 1e9, 6)
        assert f"{c.recipe} {c.kind} {c.params} {c.macs} {gmacs:g}" in rows
        if c.state == "complete":
            assert f" {c.id} Complete {c.scores['naswot']:g} {gmacs:g} " in rows
        else:
            assert "naswot: no" in rows


def test_the_page_can_be_photographed(address, tmp_path: Path) -> None:
    page(f"{address}/dashboard/studies/0", tmp_path, f"--screenshot={tmp_path / 'page.png'}")
    pixels = np.asarray(Image.open(tmp_path / "page.png").convert("RGB"), dtype=int)
    red = (pixels[..., 0] > pixels[..., 2] + 60) & (pixels[..., 0] > 120)
    assert red.sum() > 500  # the trials of the front, and their scale, are red


def test_a_port_in_use_is_an_error(found, address: str) -> None:
    port = address.rpartition(":")[2]
    done = subprocess.run(
        [sys.executable, "-m", "zoo_search", "dashboard", str(found[0]), "--port", port],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"Port {port} of 127.0.0.1 cannot be used" in done.stderr


def test_a_run_directory_without_a_study_has_no_dashboard(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no study"):
        serve(str(tmp_path), 0)
