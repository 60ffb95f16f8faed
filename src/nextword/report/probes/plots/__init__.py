"""The plots of the probes."""

from __future__ import annotations

from collections.abc import Iterator

from nextword.report.collect import Reports
from nextword.report.plots import Plot
from nextword.report.probes.plots.context import context_plots
from nextword.report.probes.plots.corpus import sparsity_plots, window_plots
from nextword.report.probes.plots.embeddings import embedding_plots
from nextword.report.probes.plots.gradients import gradient_plots
from nextword.report.probes.plots.memory import exploding_plots, memory_plots
from nextword.report.probes.plots.networks import capacity_plots, throughput_plots


def probe_plots(reports: Reports) -> Iterator[Plot]:
    """Draw all that the probes have data for. Save them inside :func:`nextword.report.style.settings`."""
    probes, confidence = reports.probes, reports.params.compare.confidence
    yield from capacity_plots(probes.capacity, confidence)
    yield from throughput_plots(probes.throughput, confidence)
    yield from sparsity_plots(probes.sparsity)
    yield from window_plots(probes.window)
    yield from gradient_plots(reports)
    yield from exploding_plots(probes.exploding)
    yield from memory_plots(probes.memory)
    yield from context_plots(reports)
    yield from embedding_plots(reports)
