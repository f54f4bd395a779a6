"""NASWOT against its definition, written out in numpy and float64."""

import math

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from zoo_search.reassembly import BlockRef, Recipe, assemble
from zoo_search.reassembly.cache import TensorCache
from zoo_search.reassembly.proxies import Batches, score
from zoo_search.reassembly.proxies.codes import Codes, _distance, _packed_distance, _words
from zoo_search.reassembly.proxies.naswot import code_kernel, log_det

MIXED = Recipe((BlockRef("cnn", 0, 4), BlockRef("vit", 1, 3), BlockRef("mlp", 8, 10)))


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


def naswot_by_hand(codes: np.ndarray) -> float:
    """``log |det K|`` with ``K[i, j] = N_A - Hamming(i, j)``, written out."""
    images, units = codes.shape
    kernel = np.empty((images, images))
    for i in range(images):
        for j in range(images):
            kernel[i, j] = units - int((codes[i] != codes[j]).sum())
    return float(np.linalg.slogdet(kernel)[1])


def conv_by_hand(x: np.ndarray, layer: nn.Conv2d) -> np.ndarray:
    """A 3x3 convolution with padding 1: ``[B, C, H, W]`` to ``[B, K, H, W]``."""
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    out = np.zeros((len(x), len(weight), *x.shape[2:]))
    for i in range(3):
        for j in range(3):
            patch = padded[:, :, i : i + x.shape[2], j : j + x.shape[3]]
            out += np.einsum("bchw,kc->bkhw", patch, weight[:, :, i, j])
    return out + bias[:, None, None]


def relu_net_by_hand(net, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs of the two ReLUs, and logits."""
    first = conv_by_hand(x, net.blocks[0][0])
    second = conv_by_hand(np.maximum(first, 0), net.blocks[1][0])
    weight, bias = net.head.weight.detach().numpy(), net.head.bias.detach().numpy()
    return first, second, np.maximum(second, 0).mean(axis=(2, 3)) @ weight.T + bias


def test_naswot_is_the_original_definition(relu_net):
    x = torch.randn(80, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    batches = Batches(x, seed=4)
    assert (batches.number, batches.size) == (5, 32)
    by_hand = []
    for batch in range(5):
        first, second, _ = relu_net_by_hand(relu_net, x[batches.indices(batch)].numpy())
        by_hand.append(
            naswot_by_hand(np.hstack([first.reshape(32, -1), second.reshape(32, -1)]) > 0)
        )
    assert np.ptp(by_hand) > 0
    assert score(relu_net, "naswot", batches) == pytest.approx(np.mean(by_hand), rel=1e-12)


def test_naswot_dery_takes_outputs_of_activations_and_linear_layers(relu_net):
    x = torch.randn(40, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    batches = Batches(x, number=1, size=12)
    outputs = relu_net_by_hand(relu_net, x[batches.indices(0)].numpy())
    codes = np.hstack([out.reshape(12, -1) > 0 for out in outputs])
    expected = naswot_by_hand(codes)
    assert score(relu_net, "naswot_dery", batches) == pytest.approx(expected, rel=1e-12)
    assert score(relu_net, "naswot", batches) != pytest.approx(expected, rel=1e-6)


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
        with pytest.raises(ValueError, match="no ReLU-like unit"):
            code_kernel(nn.Sequential(unit), x)
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


def test_a_singular_batch_is_drawn_again(relu_net):
    """Images 0 and 1 differ only in a place where both are far below 0 behind the first layer."""
    x = torch.randn(24, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x[1] = x[0]
    x[1, 0, 0, 0] += 1e-9
    batches = Batches(x, number=4, size=20, seed=0)
    scores, again = [], 0
    for batch in batches:
        for attempt in range(5):
            chosen = batches.indices(batch, attempt)
            if not {0, 1} <= set(chosen.tolist()):
                break
            again += 1
        first, second, _ = relu_net_by_hand(relu_net, x[chosen].numpy())
        scores.append(
            naswot_by_hand(np.hstack([first.reshape(20, -1), second.reshape(20, -1)]) > 0)
        )
    assert again > 0
    assert score(relu_net, "naswot", batches) == pytest.approx(np.mean(scores), rel=1e-12)
    with pytest.raises(ValueError, match="singular"):
        score(relu_net, "naswot", Batches(x[:2], number=1, size=2))


def test_mean_over_batches_and_cache_give_the_same_score(zoo, images):
    net = assemble(MIXED, zoo, images=images, num_classes=4)
    plain = Batches(images, number=3, size=16, seed=1)
    by_hand = [
        log_det(code_kernel(net, plain.for_net(net, plain.indices(batch)))) for batch in range(3)
    ]
    assert score(net, "naswot", plain) == pytest.approx(np.mean(by_hand), rel=1e-12)
    shared = Batches(images, number=3, size=16, seed=1, cache=TensorCache(2**26))
    for _ in range(2):
        assert score(net, "naswot", shared) == score(net, "naswot", plain)
