"""DPIAT: weights for any architecture from any other, without training.

Source: Czyzewski, Nowak, Piechowiak, "Breaking the Architecture Barrier: A Method for Efficient
Knowledge Transfer Across Networks".
"""

from zoo_search.dpiat.ranking import rank_sources, similarity
from zoo_search.dpiat.report import LayerTransfer, TransferReport, Untouched
from zoo_search.dpiat.transfer import transfer

__all__ = ["LayerTransfer", "TransferReport", "Untouched", "rank_sources", "similarity", "transfer"]
