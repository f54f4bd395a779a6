"""Exported networks in other runtimes."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
import torch
from networks_to_export import MIXED, SOURCE, TAPPED, images, make, save

from zoo_search.core.errors import UserError
from zoo_search.export.runtimes import export_all, export_onnx, export_torch
from zoo_search.zoo import Zoo


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(MIXED, marks=pytest.mark.exhaustive, id="mixed"),
        pytest.param(TAPPED, marks=pytest.mark.slow, id="tapped"),
    ],
)
def test_onnx_gives_the_same_logits_at_any_batch_size(
    zoo: Zoo, recipe: Any, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    net = save(zoo, recipe, tmp_path / "w")
    assert export_all(tmp_path / "w", onnx=True) == [tmp_path / "w" / "model.onnx"]
    session = onnxruntime.InferenceSession(
        tmp_path / "w" / "model.onnx", providers=["CPUExecutionProvider"]
    )
    for count in (1, 2, 5):
        x = images(count)
        (found,) = session.run(["logits"], {"image": x.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(found), net(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("recipe", [MIXED, TAPPED], ids=["mixed", "tapped"])
def test_torch_export_gives_the_same_logits(zoo: Zoo, recipe: Any, tmp_path: Path) -> None:
    net = make(zoo, recipe)
    export_torch(net, tmp_path / "model.pt2")
    program = torch.export.load(tmp_path / "model.pt2").module()
    with torch.no_grad():
        torch.testing.assert_close(program(images(5)), net(images(5)))
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt2"]


def test_a_missing_package_is_named(
    zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def no_onnx(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "onnx":
            raise ModuleNotFoundError("No module named 'onnx'", name="onnx")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_onnx)
    with pytest.raises(UserError, match=r"needs the package 'onnx'.*zoo-search\[export\]"):
        export_onnx(make(zoo, SOURCE), tmp_path / "model.onnx")
    with pytest.raises(UserError, match="Nothing to export"):
        export_all(tmp_path)
