"""What a step needs, said before the start: against what was written, and refusals with advice."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo_search.config import SimilarityConfig
from zoo_search.core.errors import UserError
from zoo_search.core.store import RunStore
from zoo_search.similarities.passes import needs
from zoo_search.similarities.passes.extract import ModelJob
from zoo_search.similarities.step import compute

SIZES = [16, 16, 18]


@pytest.mark.parametrize(
    ("metric", "dtype"),
    [("cka", "float16"), pytest.param("lr", "float32", marks=pytest.mark.slow)],
)
def test_the_disk_that_was_foreseen_is_the_disk_that_is_used(
    zoo, subset, tmp_path: Path, hosts, metric: str, dtype: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = SimilarityConfig(batch_size=16, metric=metric, gram_dtype=dtype, workers=1)
    compute(zoo, subset, config, 0, RunStore(tmp_path), hosts)
    used = sum(path.stat().st_size for path in (tmp_path / "grams").rglob("*.parquet"))
    jobs = {name: ModelJob(m.graph, m.transform, "", range(3)) for name, m in zoo.items()}
    settings = SimilarityConfig(metric=metric, gram_dtype=dtype, window_mb=1)
    foreseen = needs.needs_of(jobs, 40, SIZES, settings)
    assert used == pytest.approx(foreseen.disk, rel=0.05)
    shown = " ".join(capsys.readouterr().err.split())
    assert "2 models, 6 batches to run: " in shown
    assert " on disk (" in shown


def room(disk: int | None = 10**12, memory: int = 10**12, store: int = 10**12) -> needs.Room:
    return needs.Room(disk, memory, store, workers=4)


NEEDS = needs.Needs(disk=10**9, worker=10**9, driver=10**8, store=10**9)


def test_what_fits_passes_and_an_unknown_disk_is_not_asked() -> None:
    needs.check(NEEDS, room())
    needs.check(NEEDS, room(disk=None))
    needs.check(NEEDS, room(disk=10**9, memory=41 * 10**8, store=10**9))


@pytest.mark.parametrize(
    ("short", "told"),
    [
        (room(disk=10**9 - 1), r"1\.0 GB on disk.*fraction.*batch_size.*float16.*--dir"),
        (room(memory=4 * 10**9), r"4 workers of 1\.0 GB.*4\.1 GB of memory.*4\.0 GB are free.*avg"),
        (room(store=10**8), r"object store of Ray has 0\.1 GB.*window_mb"),
    ],
)
def test_what_does_not_fit_is_refused_with_advice(short: needs.Room, told: str) -> None:
    with pytest.raises(UserError, match=told) as error:
        needs.check(NEEDS, short)
    assert "\n" not in str(error.value)


def test_needs_grow_with_what_makes_them(zoo) -> None:
    """Batches twice as large, half as many: about twice the disk; full maps: more memory."""
    model = zoo["mobile"]
    jobs = {"m": ModelJob(model.graph, model.transform, "", range(4))}

    def needed(sizes: list[int], **settings: str) -> needs.Needs:
        kinds = SimilarityConfig(window_mb=1, **settings)
        return needs.needs_of(jobs, 20, sizes, kinds)

    small, full = needed([256] * 4), needed([256] * 4, pool="none")
    assert full.worker > small.worker
    assert needed([256] * 4, gram_dtype="float32").disk == pytest.approx(2 * small.disk, rel=0.01)
    half = {"m": ModelJob(model.graph, model.transform, "", range(2))}
    twice = needs.needs_of(half, 20, [512] * 2, SimilarityConfig(window_mb=1))
    assert twice.disk == pytest.approx(2 * small.disk, rel=0.01)
