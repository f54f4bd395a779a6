"""The zoo: an immutable mapping from names to models with their line graphs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from torch import nn

from zoo_search.config import ZooEntry
from zoo_search.core.errors import require
from zoo_search.core.identity import fingerprint
from zoo_search.data.preprocess import Preprocess
from zoo_search.hooks.report import HookReport
from zoo_search.linegraph.graph import LineGraph


@dataclass(frozen=True, eq=False)
class ZooModel:
    """One model of the zoo.

    Attributes:
        module: The model with its weights, in eval mode, on the CPU.
        transform: Preprocessing; its size is the size that the model is traced at.
        family: timm's module of the architecture (``efficientnet``, ``vision_transformer``, ...).
        license: Licence of the weights, where it is known.
        weights_hash: SHA-256 over names and values of all tensors of the module.
        source: Where the weights came from, in words.
        file: The local file of the weights, where there is one that stays.
        init: Reports of the init hooks that filled it; empty with weights.
    """

    name: str
    spec: ZooEntry
    module: nn.Module = field(repr=False)
    transform: Preprocess
    family: str
    license: str | None
    weights_hash: str
    source: str
    file: Path | None = None
    init: tuple[HookReport, ...] = ()

    @cached_property
    def identity(self) -> str:
        """A hash of what the model computes from images: architecture, arguments, weights, pixels.

        The weights alone do not say it: the number of attention heads changes no tensor's shape.
        """
        return fingerprint(
            [self.spec.arch, self.spec.kwargs, self.weights_hash, self.transform.to_dict()]
        )

    @cached_property
    def graph(self) -> LineGraph:
        """The line graph at the size of :attr:`transform`; traced on first use.

        Raises:
            UserError: If the model does not become a line graph; says what stays alive where.
        """
        from zoo_search.linegraph import trace

        return trace(self.module, input_size=(3, *self.transform.size), name=self.name)


class Zoo(Mapping[str, ZooModel]):
    """Models by name, in the order of the run file."""

    def __init__(self, models: Mapping[str, ZooModel]) -> None:
        self._models = dict(models)

    def __getitem__(self, name: str) -> ZooModel:
        return self._models[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def __repr__(self) -> str:
        return f"Zoo({', '.join(self._models)})"

    def model(self, name: str) -> ZooModel:
        """Return the model of that name, or raise a :class:`UserError` that names the nearest."""
        require(name, self, f"The zoo has no model '{name}'.", "It has")
        return self._models[name]
