"""Types and values of a file's tensors: each kind has its answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from one_model import load_one, net_of
from torch import Tensor

from zoo_search.core.errors import UserError
from zoo_search.zoo import ZooModel
from zoo_search.zoo.fitting.values import same_bits


def _load(tmp_path: Path, change: Callable[[Tensor], Tensor], least: int = 0) -> ZooModel:
    """Load a file whose floating tensors of at least so many dimensions are changed."""
    state = {
        key: change(value) if value.is_floating_point() and value.ndim >= least else value
        for key, value in net_of().state_dict().items()
    }
    torch.save(state, tmp_path / "w.pth")
    return load_one(weights=str(tmp_path / "w.pth"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_become_the_networks_own(tmp_path: Path, dtype: torch.dtype) -> None:
    model = _load(tmp_path, lambda t: t.to(dtype))
    assert f"({str(dtype).removeprefix('torch.')} taken as float32)" in model.source
    for key, value in net_of().state_dict().items():
        found = model.module.state_dict()[key]
        assert found.dtype == value.dtype
        assert torch.equal(found, value.to(dtype).to(value.dtype))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.to(torch.int8), r"quantised weights: conv1\.0\.weight \(int8\)"),
        (lambda t: t.to(torch.float8_e4m3fn), r"quantised weights: .*\(float8_e4m3fn\)"),
        (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), r"quantised.*\(qint8\)"),
        (lambda t: t.to(torch.complex64), r"no network here has: .*\(complex64\)"),
        (lambda t: t.to_sparse(), r"no network here has: .*\(float32, sparse_coo\)"),
        (lambda t: t.to("meta"), r"without values \(meta tensors\): conv1\.0\.weight"),
        (lambda t: t * torch.nan, r"not finite \(NaN or infinite\): conv1\.0\.weight \(432 of 432"),
        (lambda t: t / 0, r"not finite"),
    ],
)
def test_what_no_network_is_made_of(
    tmp_path: Path, change: Callable[[Tensor], Tensor], words: str
) -> None:
    with pytest.raises(UserError, match=rf"^zoo\.a\.weights: .*w\.pth holds .*{words}") as caught:
        _load(tmp_path, change, least=2)
    assert "\n" not in str(caught.value)


def test_statistics_that_are_not_finite(tmp_path: Path) -> None:
    state = net_of().state_dict()
    state["layer1.0.bn1.running_var"] = state["layer1.0.bn1.running_var"] * torch.inf
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"layer1\.0\.bn1\.running_var \(32 of 32\)"):
        load_one(weights=str(tmp_path / "w.pth"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "kind",
    [
        lambda t: t,
        lambda t: t.T,
        lambda t: t.to(torch.float8_e4m3fn),
        lambda t: t.to(torch.float8_e5m2),
        lambda t: t.to(torch.complex64).conj(),
        lambda t: t.to(torch.int8),
        lambda t: t > 0,
        lambda t: t.sum(),
        lambda t: t[:0],
    ],
)
def test_tensors_that_share_memory_or_not_are_the_same_by_their_bits(
    kind: Callable[[Tensor], Tensor],
) -> None:
    tensor = kind(torch.arange(-3.0, 3.0).reshape(2, 3))
    assert same_bits(tensor, tensor.detach())
    assert same_bits(tensor, tensor.clone())
    if tensor.numel():
        other = kind(torch.arange(-3.0, 3.0).reshape(2, 3) + 5 * torch.eye(2, 3))
        assert not same_bits(tensor, other)


def test_values_that_are_no_numbers_are_the_same_as_themselves() -> None:
    assert same_bits(torch.full((2,), torch.nan), torch.full((2,), torch.nan))


@pytest.mark.parametrize("kind", [Tensor.to_sparse, lambda t: t.to("meta")])
def test_what_has_no_plain_values_is_the_same_by_shape(kind: Callable[[Tensor], Tensor]) -> None:
    assert same_bits(kind(torch.eye(3)), kind(torch.eye(3)))
    assert not same_bits(kind(torch.eye(3)), kind(torch.ones(2, 3)))
    assert not same_bits(kind(torch.eye(3)), kind(torch.eye(3).half()))
