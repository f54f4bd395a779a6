"""zoo-search: networks reassembled from the blocks of a zoo of pre-trained vision models.

The public names are loaded on first use, so that ``import zoo_search`` imports neither torch nor
Ray, timm or Optuna.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo_search.core.imports import lazy
from zoo_search.core.version import __version__

_PUBLIC = {
    "Budget": "zoo_search.costs",
    "LineGraph": "zoo_search.linegraph",
    "Recipe": "zoo_search.networks",
    "UserError": "zoo_search.core.errors",
    "assemble": "zoo_search.networks",
    "evaluate": "zoo_search.inference.evaluate",
    "load": "zoo_search.export",
    "load_zoo": "zoo_search.zoo",
    "partition": "zoo_search.partitions.api",
    "predict": "zoo_search.inference.predict",
    "register_hook": "zoo_search.hooks",
    "register_metric": "zoo_search.similarities.estimators.registry",
    "register_proxy": "zoo_search.reassembly.proxies",
    "register_sampler": "zoo_search.reassembly.samplers",
    "register_source": "zoo_search.data.sources",
    "search": "zoo_search.reassembly",
    "similarity": "zoo_search.similarities.api",
    "trace": "zoo_search.linegraph",
}

__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:
    from zoo_search.core.errors import UserError as UserError
    from zoo_search.costs import Budget as Budget
    from zoo_search.data.sources import register_source as register_source
    from zoo_search.export import load as load
    from zoo_search.hooks import register_hook as register_hook
    from zoo_search.inference.evaluate import evaluate as evaluate
    from zoo_search.inference.predict import predict as predict
    from zoo_search.linegraph import LineGraph as LineGraph
    from zoo_search.linegraph import trace as trace
    from zoo_search.networks import Recipe as Recipe
    from zoo_search.networks.assemble import assemble as assemble
    from zoo_search.partitions.api import partition as partition
    from zoo_search.reassembly.api import search as search
    from zoo_search.reassembly.proxies import register_proxy as register_proxy
    from zoo_search.reassembly.samplers import register_sampler as register_sampler
    from zoo_search.similarities.api import similarity as similarity
    from zoo_search.similarities.estimators.registry import register_metric as register_metric
    from zoo_search.zoo import load_zoo as load_zoo


__getattr__ = lazy(__name__, _PUBLIC)


def __dir__() -> list[str]:
    return sorted(__all__)
