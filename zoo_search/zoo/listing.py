"""What ``zoo list`` and ``zoo inspect`` show, as plain facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from zoo_search.core.errors import UserError

if TYPE_CHECKING:
    from zoo_search.linegraph.graph import LineGraph
    from zoo_search.zoo.models import ZooModel


@dataclass(frozen=True)
class ModelRow:
    """One model of the zoo.

    Attributes:
        family: timm's module of the architecture.
        params: Parameters, the head's included.
        gmacs: Multiply-adds for one image / 1e9; None if the model gives no line graph.
        nodes: Nodes of the line graph; None if there is none.
        size: Height and width of the input, in pixels.
        weights: Where the weights came from.
        license: Licence of the weights, where it is known.
        problem: Why there is no line graph, or ``""``.
        init: Reports of the init hooks that filled it, as plain values; empty with weights.
    """

    name: str
    arch: str
    family: str
    params: int
    gmacs: float | None
    nodes: int | None
    size: tuple[int, int]
    weights: str
    license: str | None
    problem: str = ""
    init: tuple[Mapping[str, object], ...] = ()


@dataclass(frozen=True)
class NodeRow:
    """One node: name, parameters, multiply-adds for one image."""

    index: int
    name: str
    params: int
    macs: int


@dataclass(frozen=True)
class CutRow:
    """One cut: where it lies and the tensor that crosses it."""

    index: int
    name: str
    layout: str
    channels: int
    grid: tuple[int, int]
    prefix_tokens: int
    streams: int


@dataclass(frozen=True)
class RefusedRow:
    """A place that is no cut, and why."""

    after: str
    reason: str


@dataclass(frozen=True)
class ModelDetail:
    """One model with its nodes, its cuts, and the places that are no cuts.

    Attributes:
        cuts: In order, cut 0 (the image) first; empty without a line graph.
        head: Parameters and multiply-adds of the head, as a node.
    """

    row: ModelRow
    nodes: tuple[NodeRow, ...]
    cuts: tuple[CutRow, ...]
    head: NodeRow | None
    refused: tuple[RefusedRow, ...]


def detail_rows(detail: ModelDetail) -> list[dict[str, object]]:
    """Return a model's nodes with the cut behind each, its head, and what is no cut, JSON-ready.

    Row 0 is the image; the rows of places that are no cuts have only ``name`` and ``why``.
    """
    nodes = [None, *detail.nodes]
    rows: list[dict[str, object]] = [
        {**(asdict(node) if node is not None else {}), **asdict(cut)}
        for node, cut in zip(nodes, detail.cuts, strict=bool(detail.cuts))
    ]
    if detail.head is not None:
        rows.append(asdict(detail.head))
    rows += [{"name": f"after {place.after}", "why": place.reason} for place in detail.refused]
    return rows


def list_zoo(zoo: Mapping[str, ZooModel]) -> list[ModelRow]:
    """Return one row a model; a model that gives no line graph says why in ``problem``."""
    return [_row(model)[0] for model in zoo.values()]


def inspect_model(model: ZooModel) -> ModelDetail:
    """Return the nodes and cuts of one model, and why each other place is no cut."""
    row, graph = _row(model)
    if graph is None:
        return ModelDetail(row, (), (), None, ())
    return ModelDetail(
        row=row,
        nodes=tuple(NodeRow(n.index, n.name, n.params, n.macs) for n in graph.nodes),
        cuts=tuple(
            CutRow(c.index, c.name, c.layout, c.channels, c.grid, c.prefix_tokens, c.streams)
            for c in graph.cuts
        ),
        head=NodeRow(len(graph), "head", graph.head_params, graph.head_macs),
        refused=tuple(RefusedRow(r.after, r.reason) for r in graph.refused),
    )


def _row(model: ZooModel) -> tuple[ModelRow, LineGraph | None]:
    graph, problem = None, ""
    try:
        graph = model.graph
    except UserError as error:
        problem = str(error)
    row = ModelRow(
        name=model.name,
        arch=model.spec.arch,
        family=model.family,
        params=sum(p.numel() for p in model.module.parameters()),
        gmacs=None if graph is None else graph.macs / 1e9,
        nodes=None if graph is None else len(graph),
        size=model.transform.size,
        weights=model.source,
        license=model.license,
        problem=problem,
        init=tuple(report.to_dict() for report in model.init),
    )
    return row, graph
