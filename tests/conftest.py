"""Shared fixtures: one Ray for the whole test session, with its own HOME and token; a table."""

from __future__ import annotations

import ast
import os
import random
import secrets
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from zoo_search.similarities.table import SimilarityTable

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray gives way to all others by default, and would wait for the tests that run beside it.
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.pop("RAY_ADDRESS", None)
# Ray reads these when it is imported; without a token it would write one into the user's HOME.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(16)

TESTS = Path(__file__).parent


@cache
def ray_fixtures(conftest: Path) -> frozenset[str]:
    """Return the fixtures, of a folder and of those above it, that start the Ray of the session."""
    found = {"ray_cluster"}
    if conftest.parent != TESTS:
        found |= ray_fixtures(conftest.parent.parent / "conftest.py")
    return frozenset(found | uses(conftest, found)) if conftest.exists() else frozenset(found)


def uses(path: Path, fixtures: Iterable[str]) -> set[str]:
    """Return the functions of a file that take one of these fixtures, or each other."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    takes = {
        node.name: {argument.arg for argument in node.args.args}
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }
    found: set[str] = set()
    while more := {name for name in takes.keys() - found if takes[name] & {*fixtures, *found}}:
        found |= more
    return found


@cache
def needs_ray(path: str) -> bool:
    """Say whether a file of tests uses the Ray of the session."""
    file = TESTS.parent / path
    fixtures = ray_fixtures(file.parent / "conftest.py")
    return bool(uses(file, fixtures)) or 'usefixtures("ray_cluster")' in file.read_text("utf-8")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need Ray come first: they take longest, and one process has them all."""
    known = {path: needs_ray(path) for path in {item.nodeid.partition("::")[0] for item in items}}
    items.sort(key=lambda item: not known[item.nodeid.partition("::")[0]])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Say which tests go to one process where several share the work (``pytest -n``).

    All that need Ray go to one, so that one Ray serves them; else those of a file, for the sake of
    its fixtures, but for slow ones, each of which stands alone.
    """
    from xdist.scheduler import LoadScopeScheduling

    alone = config.option.markexpr in ("slow", "slow and not exhaustive", "exhaustive")

    class Rooms(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return "ray" if needs_ray(path) else nodeid if alone else path

    return Rooms(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What a test draws without a seed is drawn alike each time, whatever ran before it."""
    seed = zlib.crc32(item.nodeid.encode())
    random.seed(seed)
    np.random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


@pytest.fixture(scope="session")
def private_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A HOME of the tests' own, so that nothing is read from or written to the user's."""
    home = tmp_path_factory.mktemp("home")
    before = os.environ.get("HOME", "")
    os.environ["HOME"] = str(home)
    yield home
    os.environ["HOME"] = before


@pytest.fixture(scope="session")
def ray_cluster(private_home: Path) -> Iterator[None]:
    """One local Ray with two CPUs, started through the project's own engine."""
    from zoo_search import cluster

    cluster.connect("local", num_cpus=2)
    yield
    cluster.disconnect()


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Seeded random weights of a timm architecture as a file; made once for equal arguments."""
    import timm
    import torch
    from safetensors.torch import save_file

    folder, known = tmp_path_factory.mktemp("weights"), {}

    def make(arch: str, seed: int = 5, **kwargs: object) -> str:
        key = repr((arch, seed, kwargs))
        if key not in known:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                state = timm.create_model(arch, **kwargs).state_dict()
            known[key] = str(folder / f"{len(known)}.safetensors")
            save_file(state, known[key])
        return known[key]

    return make


@pytest.fixture(scope="session")
def job_with_new(weights_file: Callable[..., str]) -> Callable[..., dict[str, Any]]:
    """Make a run file with two models that have weights, and one (``new``) that has none."""
    vit = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 4, "num_heads": 2}
    cnn, given = "mobilenetv3_small_050", "vit_tiny_patch16_224"

    def make(new: dict[str, Any], **more: Any) -> dict[str, Any]:
        zoo = {
            "cnn": {"arch": cnn, "weights": weights_file(cnn), "license": "mit",
                    "mean": [0.1, 0.2, 0.3]},
            "vit": {"arch": given, "kwargs": vit, "weights": weights_file(given, **vit),
                    "license": "apache-2.0"},
            "new": {"weights": None, **new},
        }  # fmt: skip
        return {"name": "t", "dataset": "digits", "input_size": 32, "zoo": zoo, **more}

    return make


@pytest.fixture(scope="session")
def zoo_table() -> Callable[..., SimilarityTable]:
    """A table with the diagonal pattern of a real zoo: neighbouring relative depths are alike."""

    from zoo_search.similarities.table import ModelCuts, SimilarityTable

    def make(depths: Sequence[int], seed: int = 0) -> SimilarityTable:
        rng = np.random.default_rng(seed)
        centres = np.linspace(0, 1, 24)
        features = []
        for depth in depths:
            at = np.linspace(0, 1, depth + 1)[:, None] + rng.normal(0, 0.02, (depth + 1, 1))
            bumps = np.exp(-((at - centres) ** 2) / 0.065) + rng.normal(0, 0.2, (depth + 1, 24))
            features.append(bumps / np.linalg.norm(bumps, axis=1, keepdims=True))
        rows = np.concatenate(features)
        models = {
            f"m{n}": ModelCuts([f"c{i}" for i in range(d + 1)], [1] * d, [1] * d)
            for n, d in enumerate(depths)
        }
        return SimilarityTable(models, (rows @ rows.T).astype(np.float32))

    return make
