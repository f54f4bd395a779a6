"""The zoo: models with their weights, their preprocessing and their line graphs."""

from __future__ import annotations

from zoo_search.zoo.listing import ModelDetail, ModelRow, inspect_model, list_zoo
from zoo_search.zoo.load import load_zoo
from zoo_search.zoo.models import Zoo, ZooModel
from zoo_search.zoo.preprocess import Preprocess
from zoo_search.zoo.pretrain import PretrainReport, pretrain, untrained

__all__ = [
    "ModelDetail",
    "ModelRow",
    "Preprocess",
    "PretrainReport",
    "Zoo",
    "ZooModel",
    "inspect_model",
    "list_zoo",
    "load_zoo",
    "pretrain",
    "untrained",
]
