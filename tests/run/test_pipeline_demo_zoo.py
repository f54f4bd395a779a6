"""The demo's zoo with a model that has no weights: jobs/digits-dpiat.yaml up to the candidates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from zoo_search.config import load_job
from zoo_search.report import ranking
from zoo_search.run import pipeline

FILE = Path(__file__).parents[2] / "jobs" / "digits-dpiat.yaml"


def test_its_models_and_settings_are_those_of_the_demo() -> None:
    ours, demo = load_job(FILE), load_job(FILE.with_name("digits.yaml"))
    assert set(ours.zoo) - set(demo.zoo) == {"lite1"}
    assert all(ours.zoo[name] == entry for name, entry in demo.zoo.items())
    for section in ("dataset", "init", "similarity", "partition", "budget", "search"):
        assert getattr(ours, section) == getattr(demo, section)
    assert ours.finetune.schedule == demo.finetune.schedule


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_model_without_weights_takes_part_in_partition_and_search(
    ray_cluster: None, tmp_path: Path
) -> None:
    job: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    job["zoo"] = {name: job["zoo"][name] for name in ("lite0", "lite1", "lite2")}  # none to train
    del job["finetune"]  # its variants name the others
    job["budget"] = {"max_params": 8.0e6, "max_macs": 6.0e7}
    job["search"]["trials"] = 40
    done = pipeline.run(job, until="reassemble", directory=str(tmp_path / "run"))
    lite1 = done.zoo["lite1"]
    (report,) = lite1.init
    assert (report.hook, report.facts["source"]) == ("dpiat", "lite0")
    assert report.facts["similarity"] > 0.9
    # Lite0's first layers are Lite1's: what they give is alike, although the model is deeper.
    table = done.table
    assert table.value("lite1", 1, "lite0", 1) > 0.99
    last = len(done.zoo["lite0"].graph)
    assert max(table.value("lite1", i, "lite0", last) for i in range(1, 9)) < 0.99
    stages = sorted(block.stage for block in done.partition.blocks if block.model == "lite1")
    assert stages == [0, 1, 2, 3]
    with_it = [
        row for row in ranking(done.store).rows()
        if row["kind"] == "reassembly" and any(b["model"] == "lite1" for b in row["blocks"])
    ]  # fmt: skip
    assert len(with_it) >= 10
    assert all(row["state"] == "complete" for row in with_it)
