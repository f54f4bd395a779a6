"""The batches that proxies look at."""

import pytest
import torch

from zoo_search.core.errors import UserError
from zoo_search.reassembly.proxies import Batches


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
