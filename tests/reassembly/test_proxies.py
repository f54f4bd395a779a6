import math

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from zoo_search.errors import UserError
from zoo_search.linegraph import count
from zoo_search.reassembly import BlockRef, Recipe, assemble
from zoo_search.reassembly.cache import TensorCache
from zoo_search.reassembly.proxies import PROXIES, Batches, check_proxies, score
from zoo_search.reassembly.proxies.naswot import code_kernel, log_det
from zoo_search.reassembly.scoring import Scorer, Task, scoring_zoo

MIXED = Recipe((BlockRef("cnn", 0, 4), BlockRef("vit", 1, 3), BlockRef("mlp", 8, 10)))


class Small(nn.Module):
    """Two ReLU layers by hand: one in place, one functional."""

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
            kernel[i, j] = units - sum(int(a != b) for a, b in zip(codes[i], codes[j], strict=True))
    return float(np.linalg.slogdet(kernel)[1])


def test_naswot_is_the_original_definition():
    torch.manual_seed(0)
    net = Small().double()
    x = torch.randn(8, 3, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        first = net.conv(x)
        second = net.fc(first.clamp_min(0).flatten(1))
        codes = torch.cat([first.flatten(1) > 0, second > 0], dim=1).numpy()
        kernel = code_kernel(net, x)
    assert log_det(kernel) == pytest.approx(naswot_by_hand(codes), rel=1e-12)


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


def test_batches_hold_no_image_twice_and_follow_the_seed(images):
    doubled = torch.cat([images[:20], images[:20], images[20:40]])
    batches = Batches(doubled, size=32, seed=5)
    for batch in batches:
        x = doubled[torch.from_numpy(batches.indices(batch))]
        assert len(torch.unique(x.flatten(1), dim=0)) == 32
    same, other = Batches(doubled, size=32, seed=5), Batches(doubled, size=32, seed=6)
    assert (same.indices(2) == batches.indices(2)).all()
    assert not (other.indices(2) == batches.indices(2)).all()
    assert not (batches.indices(2, attempt=1) == batches.indices(2)).all()
    with pytest.raises(UserError, match=r"only 20 \(40 with duplicates\)"):
        Batches(doubled[:40], size=32)


def test_a_singular_batch_is_drawn_again(zoo, images):
    """Images 0 and 1 differ in one bit that the network does not see."""
    twin = images.clone()
    twin[1] = twin[0]
    twin[1, 0, 0, 0] ^= 1
    net = assemble(Recipe.whole("cnn", len(zoo["cnn"].graph)), zoo, "random", num_classes=2)
    net.transform = None
    with torch.no_grad():
        x = Batches(twin, size=2).for_net(net, np.array([0, 1]))
        if log_det(code_kernel(net, x)) > -math.inf:
            pytest.skip("this network tells them apart")
    batches = Batches(twin, number=3, size=40, seed=0)
    assert math.isfinite(score(net, "naswot", batches))
    with pytest.raises(ValueError, match="singular"):
        score(net, "naswot", Batches(twin[:2], number=1, size=2))


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


def test_every_proxy_gives_a_finite_score(zoo, images):
    net = assemble(MIXED, zoo, images=images, num_classes=4)
    labels = torch.arange(len(images)) % 4
    state = {name: value.clone() for name, value in net.state_dict().items()}
    batches = Batches(images, labels, number=1, size=8)
    scores = {name: score(net, name, batches) for name in PROXIES}
    assert (scores["params"], scores["macs"]) == count(net, net.input_size)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_grad_norm_against_backward(zoo, images):
    net = assemble(Recipe.whole("cnn", 11), zoo, "random", num_classes=4)
    labels = torch.arange(len(images)) % 4
    batches = Batches(images, labels, number=1, size=8)
    chosen = batches.indices(0)
    F.cross_entropy(net(batches.for_net(net, chosen)), labels[chosen]).backward()
    by_hand = sum(float((p.grad**2).sum().sqrt()) for p in net.parameters() if p.grad is not None)
    assert score(net, "grad_norm", batches) == pytest.approx(by_hand, rel=1e-4)


def test_probe_tells_separable_from_random_labels(zoo, images):
    net = assemble(Recipe.whole("cnn", 11), zoo, "random", num_classes=2)
    labels = torch.arange(len(images)) % 2
    shifted = images // 2 + (labels * 127).to(torch.uint8)[:, None, None, None]
    assert score(net, "probe", Batches(shifted, labels)) > 0.5
    assert score(net, "probe", Batches(images, labels)) < 0.3


def test_nan_and_errors_are_reasons_never_scores(zoo, images):
    task = Task(scoring_zoo(zoo), images, None, 3, ("naswot", "grad_norm", "params"), batches=1)
    outcome = Scorer(task)(MIXED)
    assert set(outcome.scores) == {"naswot", "params"}
    assert outcome.reason.startswith("grad_norm: this proxy needs labels")
    net = assemble(MIXED, zoo, "random", num_classes=3)
    with torch.no_grad():
        net.head.weight.fill_(float("nan"))
    for name in ("naswot", "synflow"):
        with pytest.raises(ValueError, match=r"not finite|nan"):
            score(net, name, Batches(images, number=1))


def test_unknown_proxy():
    with pytest.raises(UserError, match="Did you mean 'naswot'"):
        check_proxies(["nasswot"])
