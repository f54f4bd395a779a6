"""The code of ``docs/extending.md`` runs, and what it adds passes the suites."""

from __future__ import annotations

import importlib
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from testing.running import OPTIONS

import zoo_search as zs
from zoo_search.core.registry import Registry
from zoo_search.core.store import RunStore
from zoo_search.data.sources import SOURCES
from zoo_search.hooks.registry import HOOKS
from zoo_search.reassembly.proxies import PROXIES
from zoo_search.reassembly.samplers import SAMPLERS
from zoo_search.run.pipeline import run
from zoo_search.similarities.estimators.registry import METRICS

PAGE = Path(zs.__file__).parent.parent / "docs" / "extending.md"
REGISTRIES: tuple[Registry, ...] = (HOOKS, METRICS, PROXIES, SAMPLERS, SOURCES)


def blocks() -> dict[str, str]:
    """Return the page's files by name, each put together of its blocks; the use under ``use``."""
    files: dict[str, list[str]] = defaultdict(list)
    for code in re.findall(r"```(?:python|yaml)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
        name = re.match(r"# (\w+\.\w+)\n", code)
        files[name[1] if name else "use"].append(code)
    return {name: "\n".join(parts) for name, parts in files.items()}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the page's files and an archive of digits, from which ``mine`` is imported."""
    from sklearn.datasets import load_digits

    for name, code in blocks().items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    data = load_digits(n_class=3)
    grey = (data.images[:150] * (255 / 16)).astype(np.uint8)
    images = np.repeat(np.kron(grey, np.ones((1, 4, 4), np.uint8))[..., None], 3, axis=3)
    np.savez(tmp_path / "digits.npz", images=images, labels=data.target[:150])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("SHELF", str(tmp_path / "shelf"))
    before = [set(registry) for registry in REGISTRIES]
    yield tmp_path
    for registry, known in zip(REGISTRIES, before, strict=True):
        for name in set(registry) - known:
            registry.unregister(name)
    sys.modules.pop("mine", None)


def test_what_the_page_adds_passes_the_suites(place: Path) -> None:
    importlib.import_module("mine")
    assert pytest.main([str(place / "test_mine.py"), *OPTIONS]) == pytest.ExitCode.OK


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_what_the_page_adds_is_used_by_name(place: Path) -> None:
    found: dict[str, object] = {}
    exec(compile((place / "use").read_text("utf-8"), "docs/extending.md", "exec"), found)
    best = found["best"]
    assert isinstance(best, list)
    assert {candidate.kind for candidate in best} == {"reassembly", "zoo"}
    for candidate in best:
        assert set(candidate.scores) == {"spread"}
        (report,) = candidate.init
        (report,) = candidate.init
        assert (report["hook"], report["facts"]) == ("orthogonal", {"gain": 0.7})
    kept = RunStore(place / "shelf" / "runs" / "digits").read_json("best.json")
    assert kept == best[0].recipe.to_dict()


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_run_file_names_them_by_their_paths_and_follows_their_code(place: Path) -> None:
    """Changed code is seen by the step that runs it, and by those behind it."""

    def outcomes(until: str) -> dict[str, bool]:
        sys.modules.pop("mine", None)
        lines: list[str] = []
        run("mine.yaml", until=until, directory=str(place / "run"), say=lines.append)
        ended = [line.partition(": ") for line in lines if ": " in line]
        return {step: "skipped" in words for step, _, words in ended}

    def change(old: str, new: str) -> None:
        text = (place / "mine.py").read_text("utf-8")
        assert old in text
        (place / "mine.py").write_text(text.replace(old, new), encoding="utf-8")

    steps = ("zoo", "similarity", "partition", "reassemble")
    assert outcomes("reassemble") == dict.fromkeys(steps, False)
    assert outcomes("reassemble") == dict.fromkeys(steps, True)
    change("sum(float(net(x).std())", "sum(float(net(x).var())")
    assert outcomes("reassemble") == {**dict.fromkeys(steps, True), "reassemble": False}
    change("torch.inf", "1.0")
    assert outcomes("similarity") == {"zoo": True, "similarity": False}


def test_the_table_of_the_page_is_whole() -> None:
    """Every registry, every suite and every function that registers is named."""
    page = PAGE.read_text("utf-8")
    for registry in REGISTRIES:
        assert registry.group in page or registry.group.removeprefix("zoo_search") in page
    for name in dir(zs):
        if name.startswith("register_"):
            assert f"`zs.{name}`" in page
