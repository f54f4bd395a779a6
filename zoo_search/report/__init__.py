"""The report of a run: one self-contained HTML page, its pictures, and an honest verdict."""

from zoo_search.report.build import build, measured_columns, ranking
from zoo_search.report.summary import Summary, summary
from zoo_search.report.verdict import Verdict, verdict

__all__ = ["Summary", "Verdict", "build", "measured_columns", "ranking", "summary", "verdict"]
