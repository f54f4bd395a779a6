"""Binary codes and their kernel against the definition."""

import math

import numpy as np
import pytest
import timm
import torch
from reassembly.proxies.codes_by_hand import conv_by_hand, naswot_by_hand
from torch import nn
from torch.nn import functional as F

from zoo_search.reassembly.proxies.codes import Codes, _distance, _packed_distance, _words
from zoo_search.reassembly.proxies.naswot import log_det


@torch.no_grad()
def code_kernel(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The kernel of a whole network on a batch."""
    with Codes(x) as codes:
        net(x)
    return codes.kernel[0]


class Small(nn.Module):
    """Two ReLU layers: one in place, one functional."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.fc = nn.Linear(4 * 6 * 6, 10)
        self.out = nn.Linear(10, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(F.relu(self.fc(self.act(self.conv(x)).flatten(1))))


def test_functional_and_in_place_units_count():
    torch.manual_seed(0)
    net = Small().double()
    x = torch.randn(8, 3, 6, 6, dtype=torch.float64)
    first = conv_by_hand(x.numpy(), net.conv).reshape(8, -1)
    weight, bias = net.fc.weight.detach().numpy(), net.fc.bias.detach().numpy()
    second = np.maximum(first, 0) @ weight.T + bias
    by_hand = naswot_by_hand(np.hstack([first, second]) > 0)
    assert log_det(code_kernel(net, x)) == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize(
    ("unit", "counts"),
    [
        (nn.ReLU(), True), (nn.ReLU6(), True), (nn.GELU(), True), (nn.SiLU(), True),
        (nn.Hardswish(), True), (nn.Hardswish(inplace=True), True), (nn.LeakyReLU(), True),
        (nn.PReLU(), True), (nn.ELU(), True), (nn.Mish(), True), (nn.Sigmoid(), False),
        (nn.Hardsigmoid(), False), (nn.Hardtanh(), False), (nn.Tanh(), False),
    ],
)  # fmt: skip
def test_units_are_the_signs_of_the_inputs(unit, counts):
    x = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    if not counts:
        assert not code_kernel(unit, x).any()
        return
    kernel = code_kernel(nn.Sequential(nn.Identity(), unit), x.clone())
    assert log_det(kernel) == pytest.approx(naswot_by_hand((x > 0).flatten(1).numpy()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    "shape",
    [(8, 3, 5, 7), (8, 200_000), (6, 40_003), (16, 5, 9), (3, 1), (32, 12, 96, 64), (8, 2, 65536)],
)
def test_the_kernel_is_exact(shape, dtype):
    """Against integers counted in float64, for batches in windows and for strided tensors too."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))).to(dtype)
    x[x.abs() < 0.1] = 0  # the code of 0 is 0
    size = 8 if shape[0] == 16 else shape[0]
    strided = x.movedim(1, -1).contiguous().movedim(-1, 1)
    signs = (x.double().reshape(size, -1).numpy() > 0) * 2.0 - 1.0
    for given in (x, strided):
        codes = Codes(torch.empty(size, 1))
        codes.add(given)
        assert codes.units == signs.shape[1]
        assert torch.equal(codes.kernel[0], torch.from_numpy((codes.units + signs @ signs.T) / 2))


def test_the_product_of_other_devices_gives_the_same_distances(monkeypatch):
    monkeypatch.setattr("zoo_search.reassembly.proxies.codes._EXACT", 999)
    code = torch.randn(8, 5000, generator=torch.Generator().manual_seed(0)) > 0
    differ = (code[:, None] != code[None]).sum(dim=2).double()
    assert torch.equal(_distance(code), differ)
    bits = [np.packbits(part.numpy(), axis=1) for part in (code[:, :1001], code[:, 1001:])]
    assert torch.equal(torch.from_numpy(_packed_distance(_words(bits))), differ)


def test_batches_in_one_pass_have_kernels_of_their_own(relu_net):
    x = torch.randn(12, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad(), Codes(x, groups=3) as codes:
        relu_net(x.clone())
    alone = [code_kernel(relu_net, part) for part in x.split(4)]
    assert torch.equal(codes.kernel, torch.stack(alone))


def test_fused_activations_of_timm_count():
    net = timm.create_model("resnet10t", num_classes=0).eval()
    seen: list[int] = []
    hooks = [
        m.register_forward_pre_hook(lambda _m, args: seen.append(args[0][0].numel()))
        for m in net.modules()
        if isinstance(m, nn.ReLU)
    ]
    kernel = code_kernel(net, torch.randn(2, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    assert kernel[0, 0] == sum(seen)


def test_equal_codes_make_the_kernel_singular():
    x = torch.randn(5, 3, 6, 6)
    x[4] = x[1]
    assert log_det(code_kernel(Small(), x)) == -math.inf
