"""Small models of a zoo for the tests of the step."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest
import timm
import torch
from torch import Tensor

from zoo_search.cluster.hosts import Hosts
from zoo_search.config import DatasetConfig, ZooEntry
from zoo_search.data import open_dataset
from zoo_search.data.base import Subset
from zoo_search.data.preprocess import Preprocess
from zoo_search.similarities.estimators.products import PairSums
from zoo_search.similarities.estimators.registry import get_metric
from zoo_search.zoo.models import ZooModel


def pairwise_of(batches: list[list[Tensor]], metric: str = "cka") -> npt.NDArray[np.float32]:
    """The similarity of every two feature sets, given for each batch, by our own sums."""
    sums = PairSums(get_metric(metric), len(batches[0]))
    for batch in batches:
        features = [x.flatten(1) for x in batch]
        sums.add_features(features, len(features[0]), [x.shape[1] for x in features])
    return sums.values()


@pytest.fixture(scope="session")
def pairwise() -> Callable[..., npt.NDArray[np.float32]]:
    return pairwise_of


MakeModel = Callable[..., ZooModel]


@pytest.fixture(scope="session")
def hosts(ray_cluster: None) -> Iterator[Hosts]:
    """The processes of a run, which all steps of these tests share: they import torch once."""
    with Hosts() as shared:
        yield shared


@pytest.fixture(scope="session")
def make_model() -> MakeModel:
    """A model of 32 x 32 images with random weights of a seed."""

    def make(arch: str, seed: int, **preprocess: object) -> ZooModel:
        torch.manual_seed(seed)
        kwargs = {"img_size": 32, "patch_size": 8, "depth": 2} if "vit" in arch else {}
        return ZooModel(
            name=arch,
            spec=ZooEntry(arch=arch),
            module=timm.create_model(arch, **kwargs).eval(),
            transform=Preprocess((32, 32), **preprocess),  # type: ignore[arg-type]
            family=arch,
            license=None,
            weights_hash=f"{arch}-{seed}",
            source="",
        )

    return make


@pytest.fixture(scope="session")
def zoo(make_model: MakeModel) -> dict[str, ZooModel]:
    """Two models that want their images differently."""
    return {
        "mobile": make_model("mobilenetv3_small_050", 0),
        "vit": make_model(
            "vit_tiny_patch16_224", 1, mean=(0.5, 0.5, 0.5), interpolation="bilinear"
        ),
    }


@pytest.fixture(scope="session")
def subset() -> Subset:
    """Fifty digits."""
    return open_dataset(DatasetConfig(name="digits", per_class=5)).select(limit=50)
