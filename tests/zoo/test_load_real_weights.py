"""The weights are real: photographs land in their ImageNet classes."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from zoo_search.zoo import Zoo, inspect_model, list_zoo

CATS = set(range(281, 286))
CUPS = {504, 967, 968}  # coffee mug, espresso, cup


@pytest.fixture(scope="module")
def photographs() -> dict[str, Image.Image]:
    return {n: Image.fromarray(getattr(skimage.data, n)()) for n in ("chelsea", "coffee")}


def _top(zoo: Zoo, image: Image.Image) -> tuple[torch.Tensor, torch.Tensor]:
    model = zoo["lite0"]
    with torch.no_grad():
        logits = model.module(model.transform.image(image).unsqueeze(0))
    return logits, logits.softmax(1)[0].topk(3).indices


@pytest.mark.parametrize(("name", "classes"), [("chelsea", CATS), ("coffee", CUPS)])
def test_photographs_land_in_their_class(
    lite0: Zoo, photographs: dict[str, Image.Image], name: str, classes: set[int]
) -> None:
    _, top = _top(lite0, photographs[name])
    assert int(top[0]) in classes
    assert set(top.tolist()) <= classes


def test_line_graph_gives_the_same_logits(lite0: Zoo, photographs: dict[str, Image.Image]) -> None:
    model = lite0["lite0"]
    batch = torch.stack([model.transform.image(p) for p in photographs.values()])
    with torch.no_grad():
        assert torch.equal(model.graph.logits(batch), model.module(batch))


def test_facts_of_the_model(lite0: Zoo) -> None:
    (row,) = list_zoo(lite0)
    assert (row.name, row.family, row.nodes, row.size) == ("lite0", "efficientnet", 16, (224, 224))
    assert row.params == 4_652_008  # the paper of the weights' package says 4.7 M
    assert row.gmacs == pytest.approx(0.385, abs=0.02)
    assert row.license is None  # the package's metadata says UNKNOWN, which is no licence
    detail = inspect_model(lite0["lite0"])
    assert len(detail.cuts) == len(detail.nodes) + 1
    assert detail.cuts[0].grid == (224, 224)
    assert detail.cuts[-1].grid == (7, 7)
    assert detail.head is not None
    assert sum(n.params for n in detail.nodes) + detail.head.params == row.params


def test_hash_is_of_the_tensors(lite0: Zoo) -> None:
    from zoo_search.zoo.checkpoint import state_sha256

    state = lite0["lite0"].module.state_dict()
    again = {key: state[key].clone() for key in reversed(list(state))}
    assert state_sha256(again) == lite0["lite0"].weights_hash
    again["classifier.bias"][3] += np.float32(1e-3)
    assert state_sha256(again) != lite0["lite0"].weights_hash
