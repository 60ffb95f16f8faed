"""N-gram models: counts, seven smoothings, one back-off table for all of them, ARPA files.

    counts = count_ngrams(train_ids, eos_id=0, max_order=5, vocab_size=10_000)     # one pass for all orders
    model = estimate(counts, "modified_kneser_ney", order=5)
    nats = model.score_ids(test_ids)

Needs NumPy alone.
"""

from nextword.ngram.arpa import read_arpa, write_arpa
from nextword.ngram.counting import count_ngrams
from nextword.ngram.counts import NgramCounts, OrderCounts
from nextword.ngram.estimate import SMOOTHINGS, estimate
from nextword.ngram.model import NgramModel, Table
from nextword.ngram.sparsity import sparsity

__all__ = [
    "SMOOTHINGS",
    "NgramCounts",
    "NgramModel",
    "OrderCounts",
    "Table",
    "count_ngrams",
    "estimate",
    "read_arpa",
    "sparsity",
    "write_arpa",
]
