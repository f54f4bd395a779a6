"""The zoo: models with their weights, their preprocessing and their line graphs.

The names are loaded on first use: what is kept of an unchanged zoo is shown without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo_search.core.imports import lazy

if TYPE_CHECKING:
    from zoo_search.data.preprocess import Preprocess
    from zoo_search.zoo.listing import ModelDetail, ModelRow, inspect_model, list_zoo
    from zoo_search.zoo.load import load_zoo
    from zoo_search.zoo.models import Zoo, ZooModel
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

_OURS = {
    "listing": ("ModelDetail", "ModelRow", "inspect_model", "list_zoo"),
    "load": ("load_zoo",),
    "models": ("Zoo", "ZooModel"),
    "pretrain": ("PretrainReport", "pretrain", "untrained"),
}
_HOMES = {name: f"{__name__}.{home}" for home, names in _OURS.items() for name in names}
__getattr__ = lazy(__name__, _HOMES | {"Preprocess": "zoo_search.data.preprocess"})
