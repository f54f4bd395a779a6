"""The recipes that a partition and a budget allow (DeRy Eqs. 8-11)."""

from zoo_search.reassembly.space.space import Space, SpaceUnion, make_space

__all__ = ["Space", "SpaceUnion", "make_space"]
