"""Commands about a cluster of machines."""

from zoo_search.cli.cluster.launch import app

__all__ = ["app"]
