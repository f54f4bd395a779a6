"""LEEP against its formula, written out."""

import math

import pytest
import torch

from zoo_search.networks import BlockRef, Recipe, assemble
from zoo_search.networks.parents import Parents
from zoo_search.reassembly.proxies import Batches, score

MIXED = Recipe((BlockRef("cnn", 0, 4), BlockRef("vit", 1, 3), BlockRef("mlp", 8, 10)))

WHOLE = Recipe.whole("cnn", 12)

LABELS = torch.arange(64) % 4


def leep_by_hand(probabilities: list[list[float]], labels: list[int]) -> float:
    n, sources, classes = len(labels), len(probabilities[0]), max(labels) + 1
    joint = [[0.0] * sources for _ in range(classes)]
    for p, y in zip(probabilities, labels, strict=True):
        for z in range(sources):
            joint[y][z] += p[z] / n
    marginal = [sum(joint[y][z] for y in range(classes)) for z in range(sources)]
    total = 0.0
    for p, y in zip(probabilities, labels, strict=True):
        total += math.log(sum(joint[y][z] / marginal[z] * p[z] for z in range(sources)))
    return total / n


@pytest.mark.parametrize("head", ["source", "target"])
def test_leep_with_the_source_head(zoo, images, head):
    cnn = zoo["cnn"]
    recipe = Recipe((BlockRef("vit", 0, 2), BlockRef("cnn", 6, 12)), head)
    net = assemble(recipe, zoo, "random", num_classes=4)
    batches = Batches(images, LABELS, zoo=Parents(zoo))
    with torch.no_grad():
        features = net.forward_features(batches.for_net(net))
        probabilities = cnn.graph.head(features).double().softmax(1).tolist()
    by_hand = leep_by_hand(probabilities, LABELS.tolist())
    assert score(net, "leep", batches) == pytest.approx(by_hand, rel=1e-9)
    assert by_hand < 0


def test_leep_of_certain_sources():
    """Sources that name the classes are certain, those that say the same of all are at chance."""
    from zoo_search.reassembly.proxies.leep import log_expected_prediction

    labels = torch.arange(20) % 4
    perfect = torch.eye(6, dtype=torch.float64)[labels]  # two source classes never occur
    assert log_expected_prediction(perfect, labels) == 0
    blind = torch.full((20, 6), 1 / 6, dtype=torch.float64)
    assert log_expected_prediction(blind, labels) == pytest.approx(math.log(1 / 4))


def test_leep_says_why_there_is_no_source_head(zoo, images):
    short = Recipe((BlockRef("vit", 0, 2), BlockRef("cnn", 4, 11)))
    net = assemble(short, zoo, "random", num_classes=4)
    with pytest.raises(ValueError, match=r"cnn\[4,11\), ends before node 12"):
        score(net, "leep", Batches(images, LABELS, zoo=Parents(zoo)))
    net = assemble(WHOLE, zoo, "random", num_classes=4)
    with pytest.raises(ValueError, match="zoo is not at hand"):
        score(net, "leep", Batches(images, LABELS))
