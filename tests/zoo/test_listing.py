"""``zoo list`` and ``zoo inspect``, on models whose weights are files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from zoo_search.cli.app import app
from zoo_search.zoo import inspect_model, load_zoo
from zoo_search.zoo.listing import detail_rows

SIZE = 32
ARCHS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("resnet10t", {"num_classes": 7}),
    "dense": ("densenet121", {"growth_rate": 8, "block_config": [2, 2], "num_classes": 7}),
}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    zoo: dict[str, Any] = {}
    for name, (arch, kwargs) in ARCHS.items():
        path = folder / f"{name}.safetensors"
        save_file(timm.create_model(arch, **kwargs).state_dict(), path)
        zoo[name] = {"arch": arch, "kwargs": kwargs, "weights": str(path)}
    path = folder / "job.yaml"
    path.write_text(
        yaml.safe_dump(
            {"name": "a", "dataset": "digits", "input_size": SIZE, "zoo": zoo}, sort_keys=False
        ),
        encoding="utf-8",
    )
    return path


def cost(name: str) -> tuple[int, float]:
    """Parameters and multiply-adds, by torch's own counter."""
    arch, kwargs = ARCHS[name]
    model = timm.create_model(arch, **kwargs).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        model(torch.zeros(1, 3, SIZE, SIZE))
    return sum(p.numel() for p in model.parameters()), flops.get_total_flops() / 2


def shown(*arguments: str) -> list[dict[str, Any]]:
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def test_zoo_list_names_every_model_with_its_cost(job: Path) -> None:
    rows = {row["name"]: row for row in shown("zoo", "list", str(job))}
    assert list(rows) == list(ARCHS)
    for name, row in rows.items():
        params, macs = cost(name)
        assert row["params"] == params
        assert row["gmacs"] * 1e9 == pytest.approx(macs, rel=1e-6)
        assert str(job.parent / f"{name}.safetensors") in row["weights"]
        assert (row["arch"], row["size"], row["problem"]) == (ARCHS[name][0], [SIZE, SIZE], "")
    assert (rows["plain"]["nodes"], rows["plain"]["family"]) == (4, "resnet")


def test_zoo_inspect_lists_image_nodes_and_head(job: Path) -> None:
    rows = shown("zoo", "inspect", str(job), "plain")
    assert rows == json.loads(json.dumps(detail_rows(inspect_model(load_zoo(job).model("plain")))))
    cuts, head = [row for row in rows if "grid" in row], [r for r in rows if r["name"] == "head"]
    assert [row["index"] for row in cuts] == [0, 1, 2, 3, 4]
    assert (cuts[0]["channels"], cuts[0]["grid"]) == (3, [SIZE, SIZE])
    assert [row["name"] for row in cuts[1:]] == [f"layer{i}.0" for i in range(1, 5)]
    assert [row["channels"] for row in cuts[1:]] == [64, 128, 256, 512]
    assert [row["grid"] for row in cuts[1:]] == [[8, 8], [4, 4], [2, 2], [1, 1]]
    assert len(head) == 1
    assert sum(row.get("params", 0) for row in rows) == cost("plain")[0]


def test_zoo_inspect_says_why_a_place_is_no_cut(job: Path) -> None:
    rows = shown("zoo", "inspect", str(job), "dense")
    refused = {row["name"]: row["why"] for row in rows if "why" in row}
    assert "2 tensors stay alive" in refused["after features.denseblock1.denselayer1"]
    assert all(set(row) == {"name", "why"} for row in rows if "why" in row)
    assert sum(row.get("params", 0) for row in rows) == cost("dense")[0]
