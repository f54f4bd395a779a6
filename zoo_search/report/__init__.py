"""The report of a run: one self-contained HTML page, its pictures, and an honest verdict."""

from zoo_search.report.build import build
from zoo_search.report.ranking import Ranking, ranking
from zoo_search.report.summary import Summary, summary
from zoo_search.report.verdict import Verdict, verdict

__all__ = ["Ranking", "Summary", "Verdict", "build", "ranking", "summary", "verdict"]
