"""Tables of the embeddings: nearest neighbours, analogies, similarities."""

from __future__ import annotations

from typing import Any

from nextword.report.probes.cells import missing_cell, section
from nextword.report.probes.schema import Accuracy, Analogies, Embeddings, ProbeFile, Questions
from nextword.report.section import Section
from nextword.report.tables import DASH, Cell, Table, count, interval, number, percent

SHOWN_KINDS = ("nnlm", "rnn", "lstm", "gru", "gru_reset_after")
"""Kinds whose first model is shown on the page; all models are in the data files."""
MOST_SHOWN = 4


def shown_models(models: dict[str, ProbeFile]) -> dict[str, ProbeFile]:
    """The first model of each of :data:`SHOWN_KINDS`, at most four; without any of these kinds the first models.

    Those that are read from left to right go before the others.
    """
    first: dict[str, str] = {}
    for name, probe in sorted(models.items(), key=lambda item: item[1].context is None):
        first.setdefault(probe.kind, name)
    names = [first[kind] for kind in SHOWN_KINDS if kind in first] or list(models)
    return {name: models[name] for name in names[:MOST_SHOWN]}


def embedding_sections(models: dict[str, ProbeFile]) -> list[Section]:
    """Nearest neighbours; analogies and similarities where a file was given."""
    sections = [section("embeddings", "neighbours", _neighbour_table(models), _neighbour_records(models))]
    if any(probe.embeddings.analogies for probe in models.values()):
        sections.append(section("embeddings", "analogies", _analogy_table(models), _analogy_records(models)))
    if any(probe.embeddings.similarity for probe in models.values()):
        sections.append(section("embeddings", "similarity", _similarity_table(models), _similarity_records(models)))
    return sections


def _neighbour_table(models: dict[str, ProbeFile]) -> Table:
    shown = shown_models(models)
    by_word = {name: _nearest(probe.embeddings) for name, probe in shown.items()}
    words = list(dict.fromkeys(word for found in by_word.values() for word in found))
    rows = tuple((Cell(word, bold=True), *(Cell(by_word[name].get(word, DASH)) for name in shown)) for word in words)
    first = next(iter(shown.values()))
    missing = list(dict.fromkeys(word for probe in shown.values() for word in probe.embeddings.missing))
    notes = [
        f"The types with the largest cosine to the word's input embedding, of {count(first.embeddings.vocab_size)} "
        "types; first seed. All models are in the data files.",
    ]
    if missing:
        notes.append(f"No single type of the vocabulary: {', '.join(missing)}.")
    return Table("Nearest neighbours", ("word", *shown), rows, tuple(notes))


def _nearest(found: Embeddings) -> dict[str, str]:
    return {
        row.word: ", ".join(f"{neighbour.word} {neighbour.cosine:.2f}" for neighbour in row.neighbours)
        for row in found.neighbours
    }


def _neighbour_records(models: dict[str, ProbeFile]) -> list[dict[str, Any]]:
    return [
        {"name": name, "kind": probe.kind, "seed": probe.seeds[0].seed, "word": row.word}
        | {"rank": rank, "neighbour": neighbour.word, "cosine": neighbour.cosine}
        for name, probe in models.items()
        for row in probe.embeddings.neighbours
        for rank, neighbour in enumerate(row.neighbours, start=1)
    ]


def _analogy_table(models: dict[str, ProbeFile]) -> Table:
    found = {name: probe.embeddings.analogies for name, probe in models.items()}
    asked = {name: analogies for name, analogies in found.items() if analogies is not None}
    rows = tuple(
        (Cell(name), _coverage(analogies.total.covered, analogies.total.questions), *_parts(analogies))
        for name, analogies in asked.items()
    )
    parts = [f"{rule}, {part}" for part in ("all", "semantic", "syntactic") for rule in ("3CosAdd", "3CosMul")]
    first = next(iter(asked.values()))
    notes = (
        f"Questions a : b = c : ? of {first.file}; covered are those whose four words are all in the vocabulary, and "
        f"only they are answered, from {count(first.candidates)} candidates (the three words of the question are "
        "none). Right answers of the covered ones with Wilson's 95% interval; syntactic are the sections called gram.",
        "3CosAdd: Mikolov, Chen, Corrado & Dean (2013); 3CosMul: Levy & Goldberg (2014), equation 4.",
    )
    return Table("Analogies", ("model", "covered", *parts), rows, notes)


def _parts(analogies: Analogies) -> list[Cell]:
    parts = (analogies.total, analogies.semantic, analogies.syntactic)
    return [_accuracy(found) for part in parts for found in (part.add, part.mul)]


def _accuracy(found: Accuracy | None) -> Cell:
    if found is None:
        return missing_cell()
    return Cell(percent(found.accuracy), interval(found.low, found.high, percent), number=True)


def _coverage(covered: int, of: int) -> Cell:
    share = f"({percent(covered / of)})" if of else ""
    return Cell(f"{count(covered)} of {count(of)}", share, number=True)


def _analogy_records(models: dict[str, ProbeFile]) -> list[dict[str, Any]]:
    records = []
    for name, probe in models.items():
        if (analogies := probe.embeddings.analogies) is None:
            continue
        parts = (analogies.total, analogies.semantic, analogies.syntactic, *analogies.sections)
        records += [{"name": name, "kind": probe.kind, "file": analogies.file} | _flat(part) for part in parts]
    return records


def _flat(part: Questions) -> dict[str, Any]:
    record: dict[str, Any] = {"section": part.name, "questions": part.questions, "covered": part.covered}
    for rule, found in (("add", part.add), ("mul", part.mul)):
        for key in ("correct", "accuracy", "low", "high"):
            record[f"{rule}_{key}"] = None if found is None else getattr(found, key)
    return record


def _similarity_table(models: dict[str, ProbeFile]) -> Table:
    rows, files = [], []
    for name, probe in models.items():
        if (found := probe.embeddings.similarity) is not None:
            files.append(found.file)
            rho = Cell(number(found.spearman, 3), interval(found.low, found.high, lambda x: number(x, 3)), number=True)
            rows.append((Cell(name), rho, _coverage(found.covered, found.pairs)))
    notes = (
        "Spearman's rho between the cosine of two words and what people said of them "
        f"({', '.join(dict.fromkeys(files))}), over the pairs whose words are both in the vocabulary; 95% interval of "
        "Bonett & Wright (2000).",
    )
    return Table("Similarity of words", ("model", "Spearman's rho", "covered pairs"), tuple(rows), notes)


def _similarity_records(models: dict[str, ProbeFile]) -> list[dict[str, Any]]:
    return [
        {"name": name, "kind": probe.kind} | found.model_dump()
        for name, probe in models.items()
        if (found := probe.embeddings.similarity) is not None
    ]
