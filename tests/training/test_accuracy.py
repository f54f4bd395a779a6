"""What a network says of images, against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_search.data.preprocess import Preprocess
from zoo_search.training.accuracy import accuracy, predict
from zoo_search.training.images import InMemory

TRANSFORM = Preprocess((4, 4))


class Net(nn.Module):
    """A linear map of the pixels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(48, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1))  # type: ignore[no-any-return]


@pytest.fixture
def images() -> InMemory:
    draw = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (23, 3, 4, 4), dtype=torch.uint8, generator=draw)
    labels = torch.randint(0, 3, (23,), generator=draw)
    labels[[4, 17]] = -1  # could not be decoded
    return InMemory(pixels, labels)


@pytest.mark.parametrize("batch_size", [1, 5, 128])
def test_classes_losses_and_accuracy(images: InMemory, batch_size: int) -> None:
    net = Net().train()
    found = predict(net, images, TRANSFORM, batch_size)
    assert not net.training
    with torch.no_grad():
        logits = net(TRANSFORM.normalize(images.images)).double()
    there = images.labels >= 0
    classes = logits.argmax(dim=1)
    expected = torch.where(there, classes, -1)
    assert np.array_equal(found.labels, images.labels.numpy())
    assert np.array_equal(found.predicted, expected.numpy())
    right = (classes == images.labels)[there]
    assert np.array_equal(found.right, right.numpy())
    assert found.accuracy == pytest.approx(right.double().mean().item(), rel=1e-12)
    assert accuracy(net, images, TRANSFORM) == found.accuracy
    loss = F.cross_entropy(logits[there], images.labels[there]).item()
    assert found.loss == pytest.approx(loss, rel=1e-5)


def test_no_image_at_all_is_no_accuracy() -> None:
    none = InMemory(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([-1, -1]))
    found = predict(Net(), none, TRANSFORM)
    assert (found.accuracy, found.loss, len(found.right)) == (0.0, 0.0, 0)


def test_images_at_some_positions_of_a_larger_set(images: InMemory) -> None:
    at = torch.tensor([3, 3, 20, 4])
    part = InMemory(images.images, images.labels, at=at)
    found = predict(Net(), part, TRANSFORM)
    whole = predict(Net(), images, TRANSFORM)
    assert len(part) == 4
    assert np.array_equal(found.predicted, whole.predicted[at.numpy()])
    assert np.array_equal(found.labels, whole.labels[at.numpy()])


def test_a_loss_that_is_not_finite_is_a_large_number(images: InMemory) -> None:
    """Files hold finite numbers only, and such weights must not be the best."""
    net = Net()
    with torch.no_grad():
        net.head.bias[0] = float("inf")
    found = predict(net, images, TRANSFORM)
    assert np.isfinite(found.losses).all()
    assert np.isfinite(found.loss)
    assert found.loss > 1e30
