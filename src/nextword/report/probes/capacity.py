"""Tables of what LSTM and GRU can hold of random and of real text."""

from __future__ import annotations

import math
from statistics import mean
from typing import Any

from nextword.evaluation.statistics import Estimate, mean_interval
from nextword.report.probes.cells import missing_cell, section, short
from nextword.report.probes.networks import CapacityFile, RealRun
from nextword.report.section import Section
from nextword.report.tables import DASH, Cell, Table, count, estimate_cell, flat_estimate, number

LABELS = {
    "lstm": "LSTM", "gru": "GRU", "gru_reset_after": "GRU, reset after", "lstm_matched": "LSTM, parameters of the GRU",
}  # fmt: skip
"""What the networks are called, by name."""
LOSSES = ("train_nats", "valid_nats", "best_valid_nats", "best_pass", "gap")
"""Fields of a run on real text that are shown."""


def capacity_sections(report: CapacityFile, confidence: float = 0.95) -> list[Section]:
    """Random text learned by heart, and real text without regularisation."""
    return [_random_section(report, confidence), _real_section(report, confidence)]


def most_bits(report: CapacityFile, network: str) -> dict[int, float]:
    """Bits that a network memorised of the random text of which it memorised most, by seed."""
    found: dict[int, float] = {}
    for run in report.random.runs:
        if run.network == network:
            found[run.seed] = max(found.get(run.seed, 0.0), run.bits)
    return found


def bits_of(report: CapacityFile, network: str, tokens: int) -> dict[int, float]:
    """Bits memorised of random text of one length, by seed."""
    return {run.seed: run.bits for run in report.random.runs if (run.network, run.tokens) == (network, tokens)}


def real_runs(report: CapacityFile, network: str, tokens: int) -> dict[int, RealRun]:
    """Runs on a part of train, by seed."""
    return {run.seed: run for run in report.real.runs if (run.network, run.tokens) == (network, tokens)}


def over_seeds(runs: dict[int, RealRun], field: str, confidence: float = 0.95) -> Estimate | None:
    """Mean and t-interval of a field over the seeds that did not diverge; None where all did."""
    values = [value for run in runs.values() if (value := getattr(run, field)) is not None]
    return mean_interval(values, confidence) if values else None


def _random_section(report: CapacityFile, confidence: float) -> Section:
    text, rows, records = report.random, [], []
    for name, network in report.networks.items():
        most = most_bits(report, name)
        by_length = {tokens: mean_interval(list(bits_of(report, name, tokens).values())) for tokens in text.lengths}
        shares = [
            mean_interval([bits / size for bits in most.values()], confidence)
            for size in (network.num_parameters, network.hidden_parameters)
        ]
        rate = next(run.learning_rate for run in text.runs if run.network == name)
        rows.append((
            Cell(LABELS.get(name, name), bold=True),
            Cell(count(network.hidden_size), number=True),
            Cell(count(network.num_parameters), number=True),
            Cell(f"{rate:g}", number=True),
            *(estimate_cell(mean_interval(list(bits_of(report, name, n).values()), confidence), count)
              for n in text.lengths),
            *(estimate_cell(share, short) for share in shares),
        ))  # fmt: skip
        records.append(
            {"network": name, "kind": network.kind, "hidden_size": network.hidden_size,
             "num_parameters": network.num_parameters, "hidden_parameters": network.hidden_parameters,
             "learning_rate": rate}
            | {f"bits_{tokens}": bits.mean for tokens, bits in by_length.items()}
            | flat_estimate("bits_per_parameter", shares[0])
            | flat_estimate("bits_per_hidden_parameter", shares[1])
        )  # fmt: skip
    lengths = (f"bits of {count(n * math.log2(text.vocabulary))}" for n in text.lengths)
    headings = ("network", "H", "parameters", "learning rate", *lengths, "bits a parameter", "bits a hidden parameter")
    seeds = len({run.seed for run in text.runs})
    notes = (
        f"Words drawn independently and evenly from {text.vocabulary} types, {text.epochs} epochs without "
        f"regularisation, {seeds} seed(s), the learning rate that is best on the shortest. Memorised: N log2 "
        "V bits less the code length of the text under the trained network (Collins, Sohl-Dickstein & Sussillo 2017). "
        f"[low, high]: {100 * confidence:g}% t-interval over seeds.",
        "Bits a parameter: of the length of which most was memorised. What this training got to; a longer one gets "
        "further. All parameters count, embeddings (tied) and output layer too; hidden: without these.",
    )
    return section("training", "capacity", Table("Random text by heart", headings, tuple(rows), notes), records)


def _passes(runs: dict[int, RealRun]) -> Cell:
    """The mean over seeds, and each."""
    passes = [run.best_pass for run in runs.values() if run.best_pass is not None]
    if not passes:
        return missing_cell()
    return Cell(short(mean(passes)), f"({', '.join(map(str, passes))})" if len(passes) > 1 else "", number=True)


def _real_section(report: CapacityFile, confidence: float) -> Section:
    rows: list[tuple[Cell | None, ...]] = []
    records: list[dict[str, Any]] = []
    names, sizes = list(report.networks), report.real.sizes
    for tokens in sizes:
        for name in names:
            runs = real_runs(report, name, tokens)
            figures = {field: over_seeds(runs, field, confidence) for field in LOSSES}
            size = Cell(count(tokens), bold=True, number=True, rows=len(names)) if name == names[0] else None
            rates = sorted({run.learning_rate for run in runs.values()})
            diverged = sum(run.train_nats is None for run in runs.values())
            rows.append((
                size,
                Cell(LABELS.get(name, name), f"({diverged} diverged)" if diverged else ""),
                Cell(" ".join(f"{rate:g}" for rate in rates) or DASH, number=True),
                *(estimate_cell(figures[field], number) for field in ("train_nats", "valid_nats", "best_valid_nats")),
                _passes(runs),
                estimate_cell(figures["gap"], number),
            ))  # fmt: skip
            record: dict[str, Any] = {"network": name, "tokens": tokens, "learning_rate": rates[0] if rates else None}
            for field, figure in figures.items():
                record |= flat_estimate(field, figure)
            records.append(record)
    headings = (
        "tokens of train", "network", "learning rate", "train, nats", "valid, nats", "best valid, nats", "best pass",
        "gap, nats",
    )  # fmt: skip
    notes = (
        f"Parts of train, read over and over without regularisation until {count(report.real.seen_tokens)} "
        "tokens were trained on, so that all trainings are as long. Constant learning rate: the one with "
        "the lowest loss on the smallest part. Nats a target; [low, high]: "
        f"{100 * confidence:g}% t-interval over seeds.",
        "Train: the part itself at the end, the expressive power that training got to. Valid: its beginning, at the "
        "end and after the best pass through the part. Gap: valid less train at the end, the overfitting.",
    )
    caption = "Train text without regularisation: fit and overfitting"
    return section("training", "overfitting", Table(caption, headings, tuple(rows), notes), records)
