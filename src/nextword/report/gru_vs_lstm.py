"""LSTM against GRU: the notes' table, what was measured for each row, and verdicts by a rule stated beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from nextword.report.claims import CONCLUSION, ROWS
from nextword.report.collect import Neural, Reports
from nextword.report.crossed import SAMPLE_BLOCKS
from nextword.report.finding import (
    Finding,
    Verdict,
    counts_text,
    difference_parts,
    effect_text,
    findings_records,
    verdict_cell,
    verdict_counts,
)
from nextword.report.pairwise import MEASURES, Pair, make_pairs
from nextword.report.section import Section
from nextword.report.tables import DASH, TIMES, Cell, Table, estimate_cell, estimate_text, number


@dataclass(frozen=True)
class Comparison:
    """The whole table."""

    pairs: tuple[Pair, ...]
    """Each LSTM with each GRU: first those of equal size, then those of equal parameters."""
    found: tuple[tuple[Pair, Finding], ...]
    """In the order of the notes' table, then of the measurements, then of the pairs."""
    summary: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings alone."""
        return tuple(finding for _, finding in self.found)

    @property
    def models(self) -> tuple[Neural, ...]:
        """All that are compared, LSTMs first."""
        return self.pairs[0].compared if self.pairs else ()


def compare_gru_lstm(reports: Reports) -> Comparison:
    """Measure every row of the notes' table on each pair of LSTM and GRU that ``params.compare`` names."""
    pairs, why = make_pairs(reports)
    if not pairs:
        named = reports.params.compare
        wanted = f"an LSTM ({named.lstm}) and at least one GRU ({', '.join(named.gru) or 'none named'})"
        empty = f"The comparison of LSTM and GRU is empty: it needs {wanted}; see compare in params.yaml."
        return Comparison((), (), (empty,), why)
    found = [(pair, finding) for pair in pairs for measure in MEASURES for finding in measure(pair)]
    keys = list(dict.fromkeys(finding.key for _, finding in found))
    found.sort(key=lambda one: (ROWS.index(one[1].claim), keys.index(one[1].key)))
    summary = _summary(pairs, [finding for _, finding in found])
    return Comparison(pairs, tuple(found), summary, (*_rule(reports), *_conditions(reports, pairs), *why))


def comparison_section(reports: Reports, comparison: Comparison | None = None) -> Section:
    """The comparison as table, records and tree; made from ``reports`` where it is not given."""
    found = comparison or compare_gru_lstm(reports)
    table, records, tree = comparison_table(found), comparison_records(found), comparison_tree(found)
    return Section("gru_vs_lstm", table, records, tree, "comparison", comparison_sources(found))


def comparison_sources(comparison: Comparison) -> tuple[str, ...]:
    """Stages from whose reports the findings came."""
    return tuple(dict.fromkeys(stage for finding in comparison.findings for stage in finding.sources))


# --------------------------------------------------------------------------------------------- summary


def conclude(findings: Sequence[Finding]) -> Verdict | str:
    """One verdict of several: that of at least half of those tested, where none is the other; both: mixed."""
    counts = verdict_counts(findings)
    supported, contradicted = counts["supported"], counts["contradicted"]
    if supported and contradicted:
        return "mixed"
    if findings and counts["not tested"] == len(findings):
        return "not tested"
    if supported + contradicted < counts["undecided"]:
        return "undecided"
    return "supported" if supported else "contradicted" if contradicted else "undecided"


def _summary(pairs: Sequence[Pair], findings: Sequence[Finding]) -> tuple[str, ...]:
    """The notes' concluding sentence, clause by clause, once for each condition."""
    sentences = []
    for condition in dict.fromkeys(pair.condition for pair in pairs):
        own = [finding for finding in findings if finding.condition == condition]
        clauses = []
        for text, claim in CONCLUSION:
            of_claim = [finding for finding in own if finding.claim == claim]
            if of_claim:
                clauses.append(f"{text}: {conclude(of_claim)} ({counts_text(of_claim)})")
        sentences.append(
            f"LSTM against GRU, {condition}, by the clauses of the notes' conclusion: {'; '.join(clauses)}."
        )
        tests = [finding for finding in own if finding.key == "test_perplexity_stateful"]
        sentences.extend(map(_leader, tests))
    return tuple(sentences)


def _leader(finding: Finding) -> str:
    """Test perplexity of one pair in words."""
    lstm, gru, gap = finding.a.name, finding.b.name, finding.difference
    values = ", ".join(f"{side.name} {estimate_text(side.value, finding.form)}" for side in (finding.a, finding.b))
    if finding.basis in ("a beyond chance", "b beyond chance"):
        who = f"{gru if finding.basis == 'a beyond chance' else lstm} is better, the other worse than a uniform guess"
    elif gap is None or gap.low is None or gap.high is None:
        who = "no interval, so neither is shown to be better"
    elif gap.low > 0:
        who = f"{gru} is better"
    else:
        who = f"{lstm} is better" if gap.high < 0 else "neither is shown to be better"
    ratio = " ".join(difference_parts(finding)).rstrip()
    return f"Test perplexity, stateful, {finding.condition}: {values}; {lstm} / {gru} = {ratio}: {who}."


# ----------------------------------------------------------------------------------------------- notes


def _rule(reports: Reports) -> list[str]:
    rule = reports.params.compare
    level, margin = f"{100 * rule.confidence:g}%", f"{100 * rule.margin:g}%"
    blocks = f"blocks of about {rule.block_tokens:,} tokens" if rule.block_tokens else "whole documents"
    return [
        f"Values are means over seeds with their {level} t-interval. A pair's column holds the verdict and below it "
        f"LSTM / GRU ({TIMES}) or LSTM less GRU (with its sign), with the {level} interval. Perplexities, speeds and "
        "seconds are compared as logarithms (perplexity: mean nats).",
        f"Verdict: supported where the {level} interval of the difference excludes zero on the side that the notes "
        "claim, contradicted where it excludes it on the other, else undecided. Exact counts are compared directly; a "
        "model whose every seed predicts worse than a uniform guess counts as higher without limit. "
        f"Where perplexities are compared the limit is not zero but a margin of {margin}: "
        "\"comparable on most tasks, sometimes better\" is read as: the GRU's is at most that far above the LSTM's. "
        "What was made equal decides nothing.",
        f"Perplexities: paired by document ({blocks}; the few documents of the train sample are cut into "
        f"{SAMPLE_BLOCKS} blocks of lines), crossed with seeds: the interval is over other documents and seeds at "
        "once; d is the mean difference in standard deviations between documents (Cohen, with Hedges' correction). "
        "Everything else: paired t over the common seeds, or the common turns of a measurement of "
        "speed; Welch's t where there are fewer than two; such an interval says nothing of other text. That of a "
        "count of steps (best epoch, longest lag) reaches a step to either side at the least. Nothing is corrected for "
        "the number of rows.",
        "Speeds decide a claim only where both sides ran alike: another engine compares programs, not cells. Where the "
        "last seeds had more threads than the others, a mean over seeds mixes both; the ratio is seed by seed. "
        "Capacity, throughput and memory tasks are of networks of their own (see their tables), named by kind.",
        "A clause of the notes' conclusion (in the summary) is supported or contradicted where at least half of its "
        "measurements that were tested are, and none the other way; mixed where some are either way. Its measurements "
        "are not independent of each other.",
    ]


def _conditions(reports: Reports, pairs: Sequence[Pair]) -> list[str]:
    """What each side was, so that nobody takes the table for more than it is."""
    lines = [_model_note(reports, model) for model in pairs[0].compared]
    tokens = {model.name: _tokens(model) for model in pairs[0].compared if model.finished}
    if len({seen for seen in tokens.values()}) > 1:
        told = ", ".join(f"{name} {'/'.join(map(str, sorted(seen)))}" for name, seen in tokens.items())
        lines.append(f"Not trained on the same number of tokens: {told}.")
    else:
        lines.append(
            "All were trained on the same number of tokens in the same number of steps; a seed gives all the same "
            "order of the data."
        )
    return lines


def _tokens(model: Neural) -> frozenset[int]:
    return frozenset(rows[-1].tokens for seed in model.finished if (rows := model.runs[seed].history))


def _model_note(reports: Reports, model: Neural) -> str:
    params = reports.params.models[model.name]
    engines = "/".join(sorted({run.engine for run in model.runs.values() if run.engine})) or "engine not stated"
    searched = reports.tuning.get(model.name)
    tuned = "settings by hand" if searched is None or not searched.searched else "settings by the search of stage tune"
    lost = f", diverged: {', '.join(map(str, model.diverged))} (left out of all means)" if model.diverged else ""
    return (
        f"{model.name}: kind {params.kind}, {params.num_layers} layer(s) of {params.hidden_size}, embedding "
        f"{params.embedding_size}, dropout {number(params.dropout, 3)}, learning rate "
        f"{number(params.learning_rate, 3)} ({tuned}), engine {engines}; {len(model.finished)} of {len(model.seeds)} "
        f"seeds finished{lost}."
    )


# ---------------------------------------------------------------------------------------------- output


def comparison_table(comparison: Comparison) -> Table:
    """The table as people read it: a line a measurement, a column a model, and a column a pair with its verdict."""
    models, pairs = comparison.models, comparison.pairs
    headings = (
        "property, and what the notes say",
        "measured",
        *(model.name for model in models),
        *(f"{pair.lstm.name} against {pair.gru.name}, {pair.condition}" for pair in pairs),
    )
    body: list[tuple[Cell | None, ...]] = []
    for claim, of_claim in groupby(comparison.found, key=lambda one: one[1].claim):
        lines = [dict(line) for _, line in groupby(of_claim, key=lambda one: one[1].key)]
        for index, line in enumerate(lines):
            first = Cell(claim.title, claim.text, bold=True, rows=len(lines)) if index == 0 else None
            what, _, how = next(iter(line.values())).measured.partition(", ")
            measured = Cell(what, how)
            values = [_value_cell(model, line) for model in models]
            body.append((first, measured, *values, *(_pair_cell(line.get(pair)) for pair in pairs)))
    return Table("GRU vs LSTM", headings, tuple(body), comparison.notes)


def _value_cell(model: Neural, line: Mapping[Pair, Finding]) -> Cell:
    """What was measured of a model: the same in all its pairs."""
    for pair, finding in line.items():
        if model is pair.lstm or model is pair.gru:
            return estimate_cell((finding.a if model is pair.lstm else finding.b).value, finding.form)
    return Cell(DASH, number=True)


def _pair_cell(finding: Finding | None) -> Cell:
    if finding is None:
        return Cell(DASH)
    parts = (*difference_parts(finding), effect_text(finding), f"({finding.note})" if finding.note else "")
    return replace(verdict_cell(finding), under=" ".join(filter(None, parts)))


def comparison_records(comparison: Comparison) -> list[dict[str, Any]]:
    """Flat records, one a measurement and pair, for CSV and JSON."""
    records = findings_records(comparison.findings)
    pairs = (pair for pair, _ in comparison.found)
    return [{"lstm_model": p.lstm.name, "gru_model": p.gru.name, **one} for p, one in zip(pairs, records, strict=True)]


def comparison_tree(comparison: Comparison) -> dict[str, Any]:
    """The comparison as written to JSON."""
    return {
        "lstm": list(dict.fromkeys(pair.lstm.name for pair in comparison.pairs)),
        "grus": list(dict.fromkeys(pair.gru.name for pair in comparison.pairs)),
        "conditions": list(dict.fromkeys(pair.condition for pair in comparison.pairs)),
        "verdicts": verdict_counts(comparison.findings),
        "summary": list(comparison.summary),
        "notes": list(comparison.notes),
        "rows": comparison_records(comparison),
    }
