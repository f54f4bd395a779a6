"""Similarity of features between all cuts of all models of a zoo (DeRy section 3.2)."""

from zoo_search.similarities.table import ModelCuts, SimilarityTable

__all__ = ["ModelCuts", "SimilarityTable"]
