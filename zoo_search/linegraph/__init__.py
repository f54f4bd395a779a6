"""Line graphs: any model as a path of nodes, exactly."""

from zoo_search.linegraph.cost import count
from zoo_search.linegraph.graph import Cut, Layout, LineGraph, Node, NotACut
from zoo_search.linegraph.layout import from_nchw, to_nchw
from zoo_search.linegraph.trace import trace

__all__ = [
    "Cut",
    "Layout",
    "LineGraph",
    "Node",
    "NotACut",
    "count",
    "from_nchw",
    "to_nchw",
    "trace",
]
