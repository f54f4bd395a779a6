"""The estimate before the start: against what was really written, and refusals with advice."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo_search.config import SimilarityConfig
from zoo_search.engine import Resources
from zoo_search.errors import UserError
from zoo_search.similarity import estimate
from zoo_search.similarity.extract import Settings, Speed
from zoo_search.similarity.pool import Job
from zoo_search.similarity.step import make
from zoo_search.store import RunStore

SIZES = [16, 16, 18]


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    ("metric", "dtype"),
    [("cka", "float16"), pytest.param("lr", "float32", marks=pytest.mark.slow)],
)
def test_the_disk_that_was_foreseen_is_the_disk_that_is_used(
    zoo, subset, tmp_path: Path, metric: str, dtype: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = SimilarityConfig(batch_size=16, metric=metric, gram_dtype=dtype, workers=1)
    make(zoo, subset, config, 0, RunStore(tmp_path))
    used = sum(path.stat().st_size for path in (tmp_path / "grams").rglob("*.parquet"))
    jobs = {name: Job((m.graph, m.transform), "", range(3)) for name, m in zoo.items()}
    settings = Settings(metric, gram_dtype=dtype)
    needs = estimate.needs_of(jobs, 40, SIZES, 3 * 32 * 32, settings, 10**6)
    assert used == pytest.approx(needs.disk, rel=0.05)
    shown = " ".join(capsys.readouterr().err.split())
    assert "2 models, 6 batches to run: about" in shown


def room(disk: int | None = 10**12, memory: int = 10**12, store: int = 10**12) -> estimate.Room:
    return estimate.Room(disk, memory, store, workers=4)


NEEDS = estimate.Needs(disk=10**9, worker=10**9, driver=10**8, store=10**9)


def test_what_fits_passes_and_an_unknown_disk_is_not_asked() -> None:
    estimate.check(NEEDS, room())
    estimate.check(NEEDS, room(disk=None))
    estimate.check(NEEDS, room(disk=10**9, memory=41 * 10**8, store=10**9))


@pytest.mark.parametrize(
    ("short", "told"),
    [
        (room(disk=10**9 - 1), r"1\.0 GB on disk.*fraction.*batch_size.*float16.*--dir"),
        (room(memory=4 * 10**9), r"4 workers of 1\.0 GB.*4\.1 GB of memory.*4\.0 GB are free.*avg"),
        (room(store=10**8), r"object store of Ray has 0\.1 GB.*window_mb"),
    ],
)
def test_what_does_not_fit_is_refused_with_advice(short: estimate.Room, told: str) -> None:
    with pytest.raises(UserError, match=told) as error:
        estimate.check(NEEDS, short)
    assert "\n" not in str(error.value)


def test_needs_grow_with_what_makes_them(zoo) -> None:
    """Batches twice as large, half as many: about twice the disk; full maps: more memory."""
    jobs = {"m": Job((zoo["mobile"].graph, None), "", range(4))}

    def needs(sizes: list[int], **settings: str) -> estimate.Needs:
        kinds = Settings("cka", **settings)  # type: ignore[arg-type]
        return estimate.needs_of(jobs, 20, sizes, 3072, kinds, 10**6)

    small, full = needs([256] * 4), needs([256] * 4, pooling="none")
    assert full.worker > small.worker
    assert needs([256] * 4, gram_dtype="float32").disk == pytest.approx(2 * small.disk, rel=0.01)
    half = {"m": Job((zoo["mobile"].graph, None), "", range(2))}
    twice = estimate.needs_of(half, 20, [512] * 2, 3072, Settings("cka"), 10**6)
    assert twice.disk == pytest.approx(2 * small.disk, rel=0.01)


def test_time_is_what_was_measured_times_what_is_left() -> None:
    jobs = {name: Job((None, None), "", left) for name, left in (("a", [0, 2]), ("b", [1]))}
    speeds = {"a": Speed(0.5, 1.0), "b": Speed(0.25, 2.0)}
    forward = (0.5 * 34 + 2 + 0.25 * 16 + 2) / 2
    cpus, gpus = Resources(4, 0, 1, "local"), Resources(4, 2, 1, "local")
    assert estimate.run_seconds(jobs, SIZES, speeds, 2, cpus, 40.0) == forward + 10
    assert estimate.run_seconds(jobs, SIZES, speeds, 2, gpus, 40.0) == forward
    assert estimate.run_seconds(jobs, SIZES, speeds, 2, gpus, 400.0) == 100
    once, twice = (estimate.product_seconds(cuts, [256], "cka") for cuts in (100, 400))
    assert 4 < twice / once < 64  # 16, on a machine with other things to do
