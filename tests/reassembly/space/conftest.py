"""Every cost of the small zoo."""

import pytest

from zoo_search.costs import CostTable
from zoo_search.costs.latency import LatencyTable, Timer
from zoo_search.networks.parents import Parent

LICENSES = {"cnn": "Apache-2.0", "vit": "mit", "mlp": None, "swin": "apache-2.0"}

PARTS = ("params", "macs", "latency", "memory")


@pytest.fixture(scope="session")
def costs(zoo) -> CostTable:
    """Every cost of the zoo, latency measured once, and licences."""
    models = {name: Parent(model.graph, license=LICENSES[name]) for name, model in zoo.items()}
    graphs = {name: model.graph for name, model in zoo.items()}
    timer = Timer(warmup=1, repeats=1, device="cpu")
    return CostTable(models, 5, PARTS[2:], LatencyTable(graphs, 5, timer))
