"""What is measured of an LSTM and a GRU for each row of the notes' table."""

from nextword.report.pairwise.pair import Pair, make_pairs
from nextword.report.pairwise.power import capacity_findings, memory_findings, overfitting_findings
from nextword.report.pairwise.quality import performance_findings
from nextword.report.pairwise.size import size_findings
from nextword.report.pairwise.speed import parallel_findings, speed_findings

__all__ = ["MEASURES", "Pair", "make_pairs"]

MEASURES = (
    size_findings,
    capacity_findings,
    speed_findings,
    parallel_findings,
    memory_findings,
    performance_findings,
    overfitting_findings,
)
"""Each takes a pair and yields findings; together they are in the order of the notes' table."""
