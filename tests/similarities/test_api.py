"""Similarity in memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from zoo_search.core.errors import UserError
from zoo_search.linegraph import trace
from zoo_search.similarities.api import chunks, similarity
from zoo_search.similarities.estimators import registry
from zoo_search.training.precision import has_bf16


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x).relu()


class Net(nn.Module):
    def __init__(self, width: int, depth: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.head = nn.Linear(width, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(41, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_two_modules_and_a_tensor(pairwise, images: torch.Tensor) -> None:
    a, b = Net(6, 3, 0).eval(), Net(8, 2, 1).eval()
    table = similarity({"a": a, "b": b}, images, batch_size=20)
    assert [len(m.cuts) for m in table.models.values()] == [4, 3]
    assert table.metadata["samples"] == 41
    with torch.no_grad():

        def cuts(net: Net, x: torch.Tensor) -> list[torch.Tensor]:
            y = net.stem(x)
            return [x.mean((2, 3))] + [(y := block(y)).mean((2, 3)) for block in net.blocks]

        batches = [images[:20], images[20:]]
        expected = pairwise([[*cuts(a, x), *cuts(b, x)] for x in batches])
    assert np.abs(table.values - expected).max() < 1e-5
    assert table.value("a", 0, "b", 0) == pytest.approx(1)


@pytest.mark.parametrize("metric", ["cka", "cka_biased", "rbf_cka", "lr"])
@pytest.mark.parametrize("pool", ["avg", "none"])
def test_a_model_is_like_itself(metric: str, pool: str, images: torch.Tensor) -> None:
    net = Net(6, 2, 0).eval()
    table = similarity({"x": net, "y": trace(net, (3, 16, 16))}, images, metric, pool=pool)
    assert np.allclose(table.block("x", "y").diagonal(), 1, atol=1e-5)
    assert np.allclose(table.block("x", "y"), table.block("x", "x"), atol=1e-5)


@pytest.mark.skipif(not has_bf16("cpu"), reason="no unit for bf16")
@pytest.mark.parametrize("pool", ["avg", "none"])
def test_bfloat16_is_close_to_float32(pool: str, images: torch.Tensor) -> None:
    models = {"a": Net(6, 2, 0).eval(), "b": Net(8, 2, 1).eval()}
    full = similarity(models, images, pool=pool).values
    half = similarity(models, images, pool=pool, precision="bf16").values
    assert 0 < np.abs(full - half).max() < 0.02


@pytest.mark.parametrize("pool", ["avg", "none"])
def test_without_a_unit_for_bfloat16_it_is_float32_with_a_word(
    pool: str, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {"a": Net(6, 2, 0).eval(), "b": Net(8, 2, 1).eval()}
    full = similarity(models, images, pool=pool).values
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    with pytest.warns(UserWarning, match="no unit for bfloat16.*fp32 is taken"):
        table = similarity(models, images, pool=pool, precision="bf16")
    assert np.array_equal(full, table.values)
    assert table.metadata["precision"] == "fp32"


def test_training_mode_is_left_as_it_was(images: torch.Tensor) -> None:
    net = Net(6, 2, 0).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    similarity({"x": net}, images)
    assert net.training
    assert all((value == before[name]).all() for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("samples", "size", "expected"),
    [(8, 4, [4, 4]), (11, 4, [4, 7]), (12, 4, [4, 4, 4]), (5, 256, [5]), (16, 5, [5, 5, 6])],
)
def test_a_short_last_batch_joins_the_one_before(samples, size, expected) -> None:
    parts = chunks(samples, size)
    assert [part.stop - part.start for part in parts] == expected
    assert [i for part in parts for i in range(samples)[part]] == list(range(samples))


def test_too_few_images_before_any_forward_pass(images: torch.Tensor) -> None:
    net, calls = Net(6, 2, 0).eval(), []
    graph = trace(net, (3, 16, 16))
    graph.nodes[0].module.register_forward_hook(lambda *_: calls.append(1))
    with pytest.raises(UserError, match="at least 4 images"):
        similarity({"x": graph}, images[:3])
    assert not calls


def test_images_must_fit(images: torch.Tensor) -> None:
    net = Net(6, 2, 0).eval()
    with pytest.raises(UserError, match="no normalisation"):
        similarity({"x": net}, (images * 50).to(torch.uint8))
    with pytest.raises(UserError, match=r"takes images of size \[3, 32, 32\]"):
        similarity({"x": trace(net, (3, 32, 32))}, images)
    with pytest.raises(UserError, match=r"\[N, C, H, W\]"):
        similarity({"x": net}, images[0])


def test_neither_ray_nor_arrow_nor_timm_is_imported() -> None:
    code = """
import sys
import torch
import zoo_search as zs
torch.manual_seed(0)
nets = {name: torch.nn.Sequential(*[torch.nn.Conv2d(3, 3, 3, padding=1) for _ in range(3)])
        for name in "ab"}
for metric in ("cka", "lr"):
    table = zs.similarity(nets, torch.randn(16, 3, 8, 8), metric)
print(table.block("a", "b").shape)
print([name for name in ("ray", "pyarrow", "timm", "optuna", "pandas") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["(4, 4)", "[]"], done.stderr


@pytest.mark.parametrize("metric", ["cka", "cka_biased"])
@pytest.mark.parametrize("pool", ["avg", "none"])
def test_feature_space_and_gram_space_give_the_same_table(
    metric: str, pool: str, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {"a": Net(2, 2, 0).eval(), "b": Net(3, 2, 1).eval()}
    found = []
    for choice in (True, False):
        monkeypatch.setattr(registry, "is_cheaper", lambda *_, choice=choice: choice)
        found.append(similarity(models, images, metric, batch_size=20, pool=pool).values)
    assert np.abs(found[0] - found[1]).max() < 5e-5
    assert np.ptp(found[0]) > 0.1


def test_a_gradient_mode_survives_an_error(images: torch.Tensor) -> None:
    net = Net(4, 2, 0)
    with torch.no_grad():
        net.stem.weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(UserError, match="Model 'x' gives a NaN"):
        similarity({"x": net}, images)
    assert torch.is_grad_enabled()
    assert net.training
