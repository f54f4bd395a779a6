"""Reassembly: recipes within a budget, stitches, proxies and the search (DeRy section 3.3)."""

from __future__ import annotations

from zoo_search.reassembly.assemble import assemble
from zoo_search.reassembly.candidates import Candidate, best_first
from zoo_search.reassembly.cost import Budget, Cost, CostTable
from zoo_search.reassembly.network import ReassembledNet
from zoo_search.reassembly.ranking import rank
from zoo_search.reassembly.recipe import BlockRef, Recipe
from zoo_search.reassembly.search import search
from zoo_search.reassembly.space import Space
from zoo_search.reassembly.stitch import Stitch

__all__ = [
    "BlockRef",
    "Budget",
    "Candidate",
    "Cost",
    "CostTable",
    "ReassembledNet",
    "Recipe",
    "Space",
    "Stitch",
    "assemble",
    "best_first",
    "rank",
    "search",
]
