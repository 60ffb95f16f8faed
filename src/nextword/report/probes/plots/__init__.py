"""The plots of the probes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain

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
    of_stages: dict[str, Iterable[Plot]] = {
        "capacity": capacity_plots(probes.capacity, confidence),
        "throughput": throughput_plots(probes.throughput, confidence),
        "sparsity": sparsity_plots(probes.sparsity),
        "window": window_plots(probes.window),
        "probe@*": gradient_plots(reports),
        "exploding": exploding_plots(probes.exploding),
        "memory": memory_plots(probes.memory),
    }
    for stage, plots in of_stages.items():
        for plot in plots:
            yield replace(plot, sources=plot.sources or (stage,))
    for plot in chain(context_plots(reports), embedding_plots(reports)):
        yield replace(plot, sources=("probe@*",))
