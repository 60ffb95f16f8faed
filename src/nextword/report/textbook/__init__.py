"""What the lecture notes claim outside their table of GRU against LSTM, line by line, as tested findings.

The notes' words are translated from ``reference/lecture-notes-zh.md``; topics stand in its order.
"""

from nextword.report.textbook.section import textbook_findings, textbook_section, textbook_summary

__all__ = ["textbook_findings", "textbook_section", "textbook_summary"]
