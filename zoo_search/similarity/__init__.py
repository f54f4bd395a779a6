"""Similarity of features between all cuts of all models of a zoo (DeRy section 3.2).

Calling the package is calling :func:`zoo_search.similarity.api.similarity`.
"""

from __future__ import annotations

from zoo_search._callable import make_callable
from zoo_search.similarity.table import ModelCuts, SimilarityTable

__all__ = ["ModelCuts", "SimilarityTable"]

make_callable(__name__, "zoo_search.similarity.api", "similarity")
