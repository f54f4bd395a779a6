"""More architectures than the small zoo has."""

import pytest
import timm
from small_zoo import zoo

from zoo_search.linegraph import LineGraph, trace

__all__ = ["mixed", "zoo"]


@pytest.fixture(scope="session")
def mixed(zoo) -> dict[str, LineGraph]:
    """CNNs, a ViT, an MLP net and a windowed transformer, with NCHW, NHWC and token cuts."""
    graphs = {name: model.graph for name, model in zoo.items()}
    for name, arch in (("resnet", "resnet10t"), ("convnext", "convnext_atto")):
        module = timm.create_model(arch, num_classes=7).eval()
        graphs[name] = trace(module, (3, 64, 64), name)
    return graphs
