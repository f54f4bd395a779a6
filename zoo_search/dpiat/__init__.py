"""DPIAT: weights for any architecture from any other, without training.

Source: Czyzewski, Nowak, Piechowiak, "Breaking the Architecture Barrier: A Method for Efficient
Knowledge Transfer Across Networks".
"""

from zoo_search.dpiat.ranking import rank_sources, similarity
from zoo_search.dpiat.report import LayerTransfer, TransferReport, Untouched
from zoo_search.dpiat.transfer import MatchedNetworks, copy_matched, match_layers, transfer

__all__ = [
    "LayerTransfer",
    "MatchedNetworks",
    "TransferReport",
    "Untouched",
    "copy_matched",
    "match_layers",
    "rank_sources",
    "similarity",
    "transfer",
]
