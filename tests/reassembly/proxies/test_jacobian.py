"""Jacobian covariance against the derivatives of each image."""

import numpy as np
import pytest
import torch

from zoo_search.reassembly.proxies import score
from zoo_search.reassembly.proxies.jacobian import correlation_score


def test_jacov_against_a_jacobian_of_each_image(relu_net, batches):
    by_hand = []
    for batch in range(2):
        x = batches.images[batches.indices(batch)]
        jacobians = torch.func.vmap(torch.func.jacrev(lambda image: relu_net(image[None])[0]))(x)
        rows = jacobians.sum(dim=1).flatten(1).detach().numpy()
        values = np.linalg.eigvals(np.corrcoef(rows)).real
        by_hand.append(-np.sum(np.log(values + 1e-5) + 1 / (values + 1e-5)))
    assert score(relu_net, "jacov", batches) == pytest.approx(np.mean(by_hand), rel=1e-8)


def test_jacov_is_low_where_images_look_alike_and_refuses_flat_rows():
    rows = torch.randn(6, 300, generator=torch.Generator().manual_seed(0))
    twins = rows.clone()
    twins[1] = twins[0] * 2
    assert correlation_score(twins) < correlation_score(rows) - 1e4
    rows[2] = 0.5
    with pytest.raises(ValueError, match="constant"):
        correlation_score(rows)
