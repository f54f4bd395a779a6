"""What a line graph is made of: node counts, plain modules, refusals, ordinary modules."""

from __future__ import annotations

import copy
import pickle

import pytest
import timm
import torch
from linegraph_coverage import NODE_COUNTS
from torch import Tensor, nn

from zoo_search.core.errors import UserError
from zoo_search.linegraph import trace


@pytest.mark.parametrize(("name", "count"), NODE_COUNTS.items())
def test_node_counts(name: str, count: int) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    graph = trace(model, (3, 224, 224), name)
    assert len(graph) == count
    assert len(graph.cuts) == count + 1
    assert len({node.name for node in graph.nodes}) == count


class Residual(nn.Module):
    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.short = nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv2(torch.relu(self.conv1(x))) + self.short(x))


class HandWritten(nn.Module):
    """A residual CNN with functions between its modules and an in-place one at a block's start."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.body = nn.ModuleList(Residual(8 * 2**i, 16 * 2**i) for i in range(3))
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.body:
            x.mul_(0.5)
            x = block(x)
            x = nn.functional.avg_pool2d(x, 2)
        return self.fc(x.mean((2, 3)).view(x.size(0), -1))


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_hand_written(batch: int) -> None:
    torch.manual_seed(0)
    model = HandWritten().eval()
    graph = trace(model, (3, 32, 32))
    assert [node.name for node in graph.nodes] == ["body.0", "body.1", "body.2"]
    x = torch.randn(batch, 3, 32, 32)
    tensors = dict(graph.activations(x))
    kept = {cut: tensor.clone() for cut, tensor in tensors.items()}
    assert torch.equal(graph.logits(x), model(x))
    for cut, tensor in graph.activations(x):
        assert torch.equal(tensor, kept[cut])
        assert torch.equal(tensors[cut], kept[cut])


def test_torchvision() -> None:
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    model = torchvision.models.resnet18().eval()
    graph = trace(model, (3, 64, 64))
    assert len(graph) == 8
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(graph.logits(x), model(x))


@pytest.mark.parametrize("name", ["crossvit_9_240", "efficientvim_m1"])
def test_streams_that_do_not_fit_together_are_refused(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    with pytest.raises(UserError, match=r"2 tensors stay alive: .* from .* to "):
        trace(model, model.pretrained_cfg["input_size"], name)


def test_wrong_input_size_is_refused() -> None:
    model = timm.create_model("vit_tiny_patch16_224", depth=4)
    with pytest.raises(UserError, match=r"does not run .* \(3, 64, 64\)"):
        trace(model, (3, 64, 64), "vit")


def test_places_that_are_no_cut_are_named() -> None:
    with torch.device("meta"):
        graph = trace(timm.create_model("densenet121"), (3, 64, 64))
    place = next(p for p in graph.refused if p.after == "features.denseblock1.denselayer1")
    assert place.reason.startswith("2 tensors stay alive: 64×16×16 from features.pool0 to")


@pytest.mark.parametrize(
    ("name", "kwargs", "size"),
    [
        ("levit_128s", {}, 224),
        ("regnety_002", {}, 64),
        ("vit_tiny_patch16_224", {"img_size": 64, "depth": 4}, 64),
    ],
)
def test_the_model_is_left_untouched(name: str, kwargs: dict[str, int], size: int) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, **kwargs).train()
    twin = copy.deepcopy(model)
    trace(model, (3, size, size))
    assert [path for path, _ in model.named_modules()] == [path for path, _ in twin.named_modules()]
    for part, other in zip(model.modules(), twin.modules(), strict=True):
        assert type(part) is type(other)
        assert part.training
        assert not part._forward_hooks
        assert vars(part).keys() == vars(other).keys()
        assert plain(part) == plain(other)
    before, after = twin.state_dict(), model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        assert torch.equal(model.eval()(x), twin.eval()(x))


def plain(module: nn.Module) -> dict[str, object]:
    """The attributes of a module that are numbers, words, or containers of these."""
    kinds = (bool, int, float, str, tuple, list, dict, type(None))
    return {
        key: repr(value)
        for key, value in vars(module).items()
        if isinstance(value, kinds) and key not in ("_modules", "_parameters", "_buffers")
    }


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = timm.create_model("vit_tiny_patch16_224", img_size=64, depth=4)
    return model.eval()


def test_blocks_are_ordinary_modules(vit: nn.Module) -> None:
    graph = trace(vit, (3, 64, 64))
    x = torch.randn(2, 3, 64, 64)
    block = graph.block(0, 3)
    with torch.no_grad():
        expected = block(x)
        for twin in (copy.deepcopy(block), pickle.loads(pickle.dumps(block))):
            assert torch.equal(twin(x), expected)
            assert not {id(p) for p in twin.parameters()} & {id(p) for p in block.parameters()}
        other = trace(timm.create_model("vit_tiny_patch16_224", img_size=64, depth=4), (3, 64, 64))
        fresh = other.block(0, 3)
        fresh.load_state_dict(block.state_dict())
        assert torch.equal(fresh(x), expected)
        for dtype in (torch.bfloat16, torch.float16, torch.float64):
            out = copy.deepcopy(block).to(dtype)(x.to(dtype))
            assert out.dtype == dtype
            assert torch.allclose(out.float(), expected, atol=0.2)
    assert {k.partition(".")[2] for k in block.state_dict()} >= {"cls_token", "pos_embed"}


def test_blocks_share_nothing_with_the_model(vit: nn.Module) -> None:
    graph = trace(vit, (3, 64, 64))
    own = {p.data_ptr() for p in vit.parameters()}
    assert not own & {p.data_ptr() for node in graph.nodes for p in node.module.parameters()}


def test_an_author_s_block_is_taken_over_whole(vit: nn.Module) -> None:
    graph = trace(vit, (3, 64, 64))
    block = vit.get_submodule("blocks.1")
    assert type(graph.nodes[1].module) is type(block)
    assert graph.nodes[1].module.state_dict().keys() == block.state_dict().keys()


@pytest.mark.parametrize(
    ("name", "kwargs", "size"),
    [
        ("vit_tiny_patch16_224", {"img_size": 64, "depth": 4}, 64),
        ("regnety_002", {}, 64),
        ("pvt_v2_b0", {}, 64),
        ("pit_ti_224", {}, 224),
        ("hrnet_w18_small", {}, 64),
        ("tnt_s_patch16_224", {"img_size": 32, "depth": 3}, 32),
    ],
)
def test_gradients_equal_the_model_s(name: str, kwargs: dict[str, int], size: int) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, **kwargs).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # so that no two hold the same values
            parameter.add_(1e-3 * torch.randn_like(parameter))
    author = {values(parameter): path for path, parameter in model.named_parameters()}
    graph = trace(model, (3, size, size))
    x = torch.randn(2, 3, size, size)
    model(x).square().sum().backward()
    graph.head(graph.features(x)).square().sum().backward()
    parts = nn.ModuleList([*(node.module for node in graph.nodes), graph.head])
    found = {author[values(p)]: (path, p.grad) for path, p in parts.named_parameters()}
    assert found.keys() == dict(model.named_parameters()).keys()
    for path, parameter in model.named_parameters():
        mine, gradient = found[path]
        assert mine.rpartition(".")[2] == path.rpartition(".")[2]
        assert parameter.grad is not None
        assert gradient is not None
        assert torch.equal(gradient, parameter.grad), path
        assert gradient.any(), path


def values(tensor: Tensor) -> bytes:
    """What tells one parameter from all others."""
    return tensor.detach().numpy().tobytes()


def test_dropout_and_drop_path_work_in_train_mode() -> None:
    torch.manual_seed(0)
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=64, depth=4, drop_path_rate=0.3, attn_drop_rate=0.2,
        proj_drop_rate=0.1, pos_drop_rate=0.1, drop_rate=0.5,
    )  # fmt: skip
    graph = trace(model, (3, 64, 64))
    net = nn.Sequential(graph.block(0, 4), copy.deepcopy(graph.head))
    x = torch.randn(4, 3, 64, 64)
    for mode in (True, False):
        net.train(mode)
        model.train(mode)
        torch.manual_seed(1)
        expected = model(x)
        torch.manual_seed(1)
        assert torch.equal(net(x), expected)  # the same random numbers in the same places
        assert torch.equal(net(x), expected) is not mode
