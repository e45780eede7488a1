"""Exact nearest neighbours under a weighted-L1 head, and under any other, by one contract."""

from mnemoscope.search.blocks import Blocking
from mnemoscope.search.heads import L1, L2, Correlation, Cosine, Head, PairScorer, WeightedL1
from mnemoscope.search.neighbours import Neighbours, matrix, nearest, pair_scores

__all__ = [
    "L1",
    "L2",
    "Blocking",
    "Correlation",
    "Cosine",
    "Head",
    "Neighbours",
    "PairScorer",
    "WeightedL1",
    "matrix",
    "nearest",
    "pair_scores",
]
