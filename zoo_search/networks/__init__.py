"""Reassembled networks: recipes, stitches, and how they start (DeRy section 3.3)."""

from zoo_search.networks.assemble import assemble
from zoo_search.networks.network import ReassembledNet
from zoo_search.networks.recipe import BlockRef, Recipe
from zoo_search.networks.stitch import Stitch

__all__ = ["BlockRef", "ReassembledNet", "Recipe", "Stitch", "assemble"]
