"""Samplers, by name: which recipe to score next.

A sampler learns from what it is told and from nothing else, and its random numbers depend on the
seed and on how many recipes were taken before. So a search that is gone on with, told again of
what was scored, proposes what it would have proposed without the interruption.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from zoo_search.core.registry import Registry
from zoo_search.reassembly.samplers.base import LearningSampler, Sampler
from zoo_search.reassembly.space.space import Space

__all__ = ["SAMPLERS", "LearningSampler", "Sampler", "register_sampler"]

Maker = Callable[[Space, int, int], Sampler]
"""A sampler's class: it is made from a space, how many recipes are wanted at most, and a seed."""

M = TypeVar("M", bound=Maker)

_HERE = "zoo_search.reassembly.samplers"

SAMPLERS = Registry[Maker](
    "sampler",
    {
        "random": f"{_HERE}.base:UniformSampler",
        "tpe": f"{_HERE}.tpe:TpeSampler",
        "nsga2": f"{_HERE}.nsga2:Nsga2Sampler",
        "cpsat": f"{_HERE}.cpsat:CpSatSampler",
    },
    group="zoo_search.samplers",
)


def register_sampler(name: str) -> Callable[[M], M]:
    """Register a sampler's class under a name that run files can use; a decorator.

    It is made from ``(space, wanted, seed)`` and has the two methods of :class:`Sampler`;
    :class:`LearningSampler` holds what samplers that learn from scores have in common. Whoever
    starts ``zoo-search`` from the command line names the class in the run file instead
    (``module:package.mod:Class``), or declares it in the package's entry points, group
    ``zoo_search.samplers``.

    Args:
        name: The name; registering the same sampler again replaces it.

    Raises:
        UserError: If the name is one of ours, looks like a path, or is another sampler's.
    """
    return SAMPLERS.register(name)
