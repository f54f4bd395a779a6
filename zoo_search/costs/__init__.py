"""What a recipe costs, and the limits on it (DeRy Eq. 9)."""

from zoo_search.costs.budget import Budget, Cost
from zoo_search.costs.table import CostTable

__all__ = ["Budget", "Cost", "CostTable"]
