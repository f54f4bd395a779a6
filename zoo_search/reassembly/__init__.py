"""Reassembly: recipes within a budget, proxies and the search (DeRy section 3.3).

The names are loaded on first use: Ray Tune's processes, which only pass recipes on, need no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo_search.core.imports import lazy

__all__ = ["Candidate", "Space", "best_first", "rank", "search"]

if TYPE_CHECKING:
    from zoo_search.reassembly.api import search as search
    from zoo_search.reassembly.candidates import Candidate as Candidate
    from zoo_search.reassembly.candidates import best_first as best_first
    from zoo_search.reassembly.ranking import rank as rank
    from zoo_search.reassembly.space import Space as Space

_HERE = {
    "Candidate": f"{__name__}.candidates",
    "Space": f"{__name__}.space",
    "best_first": f"{__name__}.candidates",
    "rank": f"{__name__}.ranking",
    "search": f"{__name__}.api",
}
_MOVED = {
    **dict.fromkeys(("BlockRef", "ReassembledNet", "Recipe", "Stitch"), "zoo_search.networks"),
    "assemble": "zoo_search.networks",
    **dict.fromkeys(("Budget", "Cost", "CostTable"), "zoo_search.costs"),
}
__getattr__ = lazy(__name__, _HERE, _MOVED)
