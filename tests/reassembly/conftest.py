from collections.abc import Iterator

import pytest
from small_zoo import free_partition, images, partition, relu_net, target, zoo

from zoo_search.cluster.hosts import Hosts

__all__ = ["free_partition", "images", "partition", "relu_net", "target", "zoo"]


@pytest.fixture(scope="session")
def hosts(ray_cluster: None) -> Iterator[Hosts]:
    """Processes that one test after the other gives a role."""
    with Hosts() as shared:
        yield shared
