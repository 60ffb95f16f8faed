"""All tables of the probes, and what they say in a few sentences."""

from __future__ import annotations

from dataclasses import replace

from nextword.report.collect import Reports
from nextword.report.probes.capacity import capacity_sections
from nextword.report.probes.context import context_section, context_sentence
from nextword.report.probes.embeddings import embedding_sections
from nextword.report.probes.exploding import exploding_section, exploding_sentence
from nextword.report.probes.gradients import gradient_section, gradient_sentences
from nextword.report.probes.memory import memory_sections, memory_sentences
from nextword.report.probes.sparsity import sparsity_section
from nextword.report.probes.throughput import throughput_sections
from nextword.report.probes.window import window_section
from nextword.report.section import Section


def probe_sections(reports: Reports) -> list[Section]:
    """Sections in the order of the page."""
    probes, confidence = reports.probes, reports.params.compare.confidence
    of_stages = {
        "throughput": throughput_sections(probes.throughput, confidence),
        "capacity": capacity_sections(probes.capacity, confidence),
        "sparsity": [sparsity_section(probes.sparsity)],
        "window": [window_section(probes.window)],
        "probe@*": [gradient_section(reports)],
        "exploding": [exploding_section(probes.exploding)],
        "memory": memory_sections(probes.memory),
    }
    found = [replace(section, sources=(stage,)) for stage, sections in of_stages.items() for section in sections]
    models = [context_section(probes.models), *embedding_sections(probes.models)]
    return found + [replace(section, sources=("probe@*",)) for section in models]


def probe_summary(reports: Reports) -> list[str]:
    """Sentences for the top of the report, about the models of the group ``main``; of all where it is empty."""
    probes, params = reports.probes, reports.params.models
    names = tuple(name for name in probes.models if params[name].group == "main") or tuple(probes.models)
    context = context_sentence(probes.models, names)
    return [
        *gradient_sentences(probes.models, names),
        exploding_sentence(probes.exploding),
        *memory_sentences(probes.memory),
        *([context] if context else []),
    ]
