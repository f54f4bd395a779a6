import pytest
import torch

from zoo_search.reassembly.proxies import Batches


@pytest.fixture
def batches() -> Batches:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(12, 3, 6, 6, dtype=torch.float64, generator=generator)
    return Batches(x, torch.arange(12) % 3, number=2, size=4, seed=2)
