"""All claims of the notes outside their table of GRU against LSTM, as a table with its summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nextword.report.collect import Reports
from nextword.report.finding import Finding, Reading, counts_text, findings_records, findings_table
from nextword.report.section import Section
from nextword.report.textbook.evidence import Evidence
from nextword.report.textbook.gradients import gradient_findings
from nextword.report.textbook.lstm import lstm_findings
from nextword.report.textbook.ngram import ngram_findings
from nextword.report.textbook.nnlm import nnlm_findings
from nextword.report.textbook.rnn import rnn_findings

_READINGS: dict[Reading, str] = {
    "higher": "first higher",
    "lower": "first lower",
    "equal": "equal",
    "not higher": "first not higher",
    "not lower": "first not lower",
    "much higher": "first higher by more than the margin",
    "slightly higher": "first higher, by at most the margin",
}


def textbook_findings(reports: Reports) -> list[Finding]:
    """Every claim outside the table of GRU against LSTM, in the order of the notes.

    Raises:
        ValueError: nats that the reports speak of are not there.
    """
    evidence = Evidence(reports)
    return [
        finding
        for topic in (ngram_findings, nnlm_findings, rnn_findings, gradient_findings, lstm_findings)
        for finding in topic(evidence)
    ]


def textbook_section(reports: Reports, findings: Sequence[Finding]) -> Section:
    """The claims with what was measured, and the verdicts; the tree has the summary."""
    shown = [replace(finding, condition=_condition(finding)) for finding in findings]
    table = findings_table("Claims of the notes", shown, _notes(reports))
    records = findings_records(findings)
    tree = {"summary": textbook_summary(findings), "notes": list(table.notes), "rows": records}
    sources = tuple(dict.fromkeys(source for finding in findings for source in finding.sources))
    return Section("claims", table, records, tree, "claims", sources)


def textbook_summary(findings: Sequence[Finding]) -> str:
    """How many verdicts of each kind, and which claims are contradicted."""
    titles = dict.fromkeys(f.claim.title for f in findings if f.verdict == "contradicted")
    text = f"Claims of the notes outside their table of GRU against LSTM: {counts_text(findings)}."
    return text + (f" Contradicted at least once: {', '.join(titles)}." if titles else "")


def _condition(finding: Finding) -> str:
    if finding.verdict == "not tested":
        return finding.condition
    return "; ".join(filter(None, (f"claimed: {_READINGS[finding.reading]}", finding.condition)))


def _notes(reports: Reports) -> tuple[str, ...]:
    compare = reports.params.compare
    level = f"{100 * compare.confidence:g}%"
    return (
        "The rule: a claim is read as first higher, lower, or equal to the second. Supported where the whole "
        f"{level} interval of the difference lies on the claimed side, beyond the practical margin of "
        f"{100 * compare.margin:g}% where perplexities are compared; contradicted where it lies wholly on the other "
        "side, beyond the margin too; else undecided, as with one seed. What is claimed equal, not higher, not lower, "
        "higher by more than the margin or higher by at most the margin is a range: supported where the interval lies "
        "within it, contradicted where it lies wholly outside. Exact counts have no interval; a model whose every seed "
        "predicts worse than a uniform guess counts as higher without limit. Claims of one table are not corrected for "
        "their number, but for those of LSTM ablations and connections of RNNs: of those that are true of nothing, "
        "some will seem decided.",
        "Test perplexities of two models: crossed bootstrap over documents and seeds, on the saved nats of each "
        "target. Figures that a stage reported with an interval: that of their difference from the two intervals "
        "(MOVER, Newcombe 1998, Zou & Donner 2008), which is too wide where both rest on the same text. Memory tasks: "
        "crossed over tasks and seeds. Shares of runs that diverge: paired t over seeds. What is counted in steps "
        "(lags, scales, epochs) has an interval of a step at least. LSTM ablations and connections of RNNs: the "
        "crossed bootstrap with simultaneous intervals of their own tables.",
        "Not tested: a definition, a matter of construction or advice, or it needs what is not here; the reason stands "
        "beside it. Gradient flow and use of context of trained models: t-intervals over seeds, paired where both have "
        "them; a factor a token below 1 falls, one above 1 grows.",
    )
