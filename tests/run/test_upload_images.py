"""Images travel only where they are few."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from zoo_search.config import load_job
from zoo_search.core.errors import UserError
from zoo_search.run.upload import upload_of
from zoo_search.run.upload_images import LIMIT, check_images_small


@pytest.mark.parametrize("place", ["dataset", "similarity.dataset"])
def test_images_above_the_limit_are_asked_for_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, size in {"images/train/a/1.png": 700, "images/train/b/1.png": 301}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * size)
    (tmp_path / "large.pth").write_bytes(b"w" * 5000)  # weights do not count
    data = {"name": "folder", "path": "images"}
    job = {
        "name": "a", "zoo": {"m": {"arch": "resnet18", "weights": "large.pth"}},
        "dataset": data if place == "dataset" else "digits",
        **({} if place == "dataset" else {"similarity": {"dataset": data}}),
    }  # fmt: skip
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(job))
    config = load_job(file)
    upload = upload_of(file, config)
    check_images_small(upload, config)
    check_images_small(upload, config, limit=1001)
    with pytest.raises(UserError) as caught:
        check_images_small(upload, config, limit=1000)
    told = str(caught.value)
    assert told.startswith(f"{place}.path: images has 2 files")
    assert "s3://BUCKET/NAME" in told
    assert LIMIT > 1 << 20


def test_images_of_the_cluster_do_not_count(tmp_path: Path) -> None:
    job = {
        "name": "a", "zoo": {"m": {"arch": "resnet18"}},
        "dataset": {"name": "folder", "path": "s3://bucket/images"},
    }  # fmt: skip
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(job))
    config = load_job(file)
    check_images_small(upload_of(file, config), config, limit=0)
