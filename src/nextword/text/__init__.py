"""Text to ids: sources, cleaning, splitting, tokenizers, id files and their statistics.

``prepare_corpus`` writes clean lines, ``encode_corpus`` ids, ``load_ids`` opens them. Importing this package is cheap:
`datasets` and `matplotlib` are imported by the functions that need them.
"""

from nextword.text.encode import describe_ids, encode_corpus
from nextword.text.ids import EncodedCorpus, Split, load_ids
from nextword.text.prepare import describe_corpus, prepare_corpus
from nextword.text.statistics import coverage_figure

__all__ = [
    "EncodedCorpus",
    "Split",
    "coverage_figure",
    "describe_corpus",
    "describe_ids",
    "encode_corpus",
    "load_ids",
    "prepare_corpus",
]
