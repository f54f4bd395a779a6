"""The candidates of a run in the order of their scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo_search.core.tables import Column, number

if TYPE_CHECKING:
    from zoo_search.core.store import RunStore
    from zoo_search.reassembly.candidates import Candidate

_MEASURED = {
    "latency": number("latency_ms", "latency (ms)"),
    "memory": number("memory", "memory (bytes)"),
}


@dataclass(frozen=True)
class Ranking:
    """Candidates by the first proxy of their run."""

    proxy: str
    candidates: list[Candidate]
    """Best first; those that failed come last, with their reason."""

    @property
    def scored(self) -> list[Candidate]:
        """Those that have a score."""
        return [candidate for candidate in self.candidates if self.proxy in candidate.scores]

    @property
    def failed(self) -> list[Candidate]:
        """Those that any proxy failed on."""
        return [candidate for candidate in self.candidates if candidate.state != "complete"]

    @property
    def measured(self) -> dict[str, Column]:
        """The measured costs that any of them has: attribute and column."""
        return {
            name: column
            for name, column in _MEASURED.items()
            if any(getattr(candidate, name) is not None for candidate in self.candidates)
        }

    def rows(self) -> list[dict[str, object]]:
        """Return them as JSON-ready rows.

        ``recipe`` is for people, ``blocks`` what :meth:`zoo_search.networks.Recipe.from_any` reads.
        Each proxy's score stands under its name.
        """
        from zoo_search.reassembly.candidates import encode, proxy_column

        rows = []
        for rank, candidate in enumerate(self.candidates, start=1):
            plain = encode(candidate)
            rows.append(
                {
                    "rank": rank,
                    **{name: value for name, value in plain.items() if name != "scores"},
                    "recipe": str(candidate.recipe),
                    "blocks": plain["recipe"]["blocks"],
                    "key": candidate.recipe.key,
                    "score": candidate.scores.get(self.proxy),
                    **{proxy_column(name): score for name, score in candidate.scores.items()},
                }
            )
        return rows


def ranking(store: RunStore) -> Ranking:
    """Rank the candidates of a run directory."""
    from zoo_search.config import read_job
    from zoo_search.reassembly import best_first, step

    candidates, proxy = step.read(store), read_job(store).search.proxies[0]
    scored = best_first(candidates, proxy)
    known = {candidate.id for candidate in scored}
    return Ranking(proxy, [*scored, *(c for c in candidates if c.id not in known)])
