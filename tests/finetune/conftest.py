"""A zoo of two small networks, and a run of fine-tuning that several tests look at."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo_search.core.store import RunStore
from zoo_search.finetune import tuning

sys.path.insert(0, str(Path(__file__).parent))

from small_runs import SIZE, Done, Setting, halve, train_here, tune_small


@pytest.fixture(scope="session")
def entries(weights_file: Callable[..., str]) -> dict[str, dict[str, Any]]:
    """The zoo of a run file: two architectures with seeded random weights."""
    return {
        name: {"arch": arch, "weights": weights_file(arch), "license": "mit"}
        for name, arch in {"a": "resnet10t", "b": "mobilenetv3_small_050"}.items()
    }


@pytest.fixture(scope="session")
def setting(entries: dict[str, dict[str, Any]]) -> Setting:
    """A loaded zoo and a target of a few images."""
    return Setting.of(
        {
            "name": "x",
            "input_size": SIZE,
            "zoo": entries,
            "dataset": {"name": "digits", "per_class": 5},
            "finetune": {"epochs": 2, "seeds": 1, "tries": 1},
        }
    )


@pytest.fixture(scope="session")
def job(entries: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A run file with a plain architecture, a variant, and a hook of the user's."""
    import zoo_search as zs

    zs.register_hook("test_halve")(halve)
    return {
        "name": "x",
        "input_size": SIZE,
        "zoo": entries,
        "dataset": {"name": "digits", "per_class": 5},
        "init": [
            {"hook": "dpiat", "roles": ["zoo", "plain", "variant"]},
            {"hook": "least_squares", "roles": ["candidate"]},
            {"hook": "test_halve", "roles": ["candidate"]},
        ],
        "finetune": {
            "epochs": 1,
            "seeds": 1,
            "tries": 1,
            "protocol": ["frozen"],
            "plain": {"x": {"arch": "mobilenetv3_small_075"}},
            "variants": {"larger": {"input_size": 48}},
        },
    }


@pytest.fixture(scope="session", params=[1, pytest.param(2, marks=pytest.mark.exhaustive)])
def done(
    request: pytest.FixtureRequest,
    job: dict[str, Any],
    ray_cluster: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Done:
    """That run: the trainings of winners through a real Ray Train, and those of variants.

    Each is a trainer of its own, which takes long to start, so that variants are trained in this
    process where not every case is asked for.
    """
    store = RunStore(tmp_path_factory.mktemp("run") / "run")
    calls = itertools.count()
    real = tuning.train_all

    def train(*args: Any) -> Any:
        return (real if next(calls) < request.param else train_here)(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "train_all", train)
        return Done(store, tune_small(job, store))
