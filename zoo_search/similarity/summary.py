"""Which models of a similarity table are most alike, as rows for a terminal."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from zoo_search.similarity.table import SimilarityTable

__all__ = ["COLUMNS", "pairs"]

COLUMNS = {
    "model_a": "model",
    "model_b": "and model",
    "mean_best": "mean best match #",
    "best": "best #",
    "at": "between cuts",
}


def pairs(table: SimilarityTable) -> list[dict[str, Any]]:
    """Return one row a pair of models, most alike first.

    ``mean_best`` is the mean over both models' cuts of the highest similarity that each cut has in
    the other model; ``best`` the highest value over all cuts but the image, ``at`` where it stands.
    """
    rows = []
    for a, b in combinations(table.models, 2):
        block = table.block(a, b)
        inner = block[1:, 1:]
        i, j = divmod(int(inner.argmax()), inner.shape[1])
        best = [*block.max(axis=1), *block.max(axis=0)]
        rows.append(
            {
                "model_a": a,
                "model_b": b,
                "mean_best": float(sum(best) / len(best)),
                "best": float(inner[i, j]),
                "at": f"{table.models[a].cuts[i + 1]} | {table.models[b].cuts[j + 1]}",
            }
        )
    return sorted(rows, key=lambda row: row["mean_best"], reverse=True)
