"""Plots of the probes: what is drawn, and axes that can be read."""

from __future__ import annotations

from typing import Any

import pytest
from probe_report_fixtures import memory_report
from report_fixtures import make_params

from nextword.config.probes import MemoryParams
from nextword.report.probes.experiments import MemoryFile
from nextword.report.probes.memory import TASKS
from nextword.report.probes.plots.embeddings import draw_map
from nextword.report.probes.plots.memory import memory_plots
from nextword.report.probes.plots.norms import visible
from nextword.report.probes.schema import WordMap
from nextword.report.style import log_axis, new_figure, settings


@pytest.mark.parametrize(
    ("lowest", "highest", "texts"),
    [
        (1e-24, 2.0, ["1e-24", "1e-20", "1e-16", "1e-12", "1e-8", "1e-4", "1"]),
        (0.5, 2e6, ["1", "10", "100", "1,000", "10,000", "100,000", "1e6"]),
        (60.0, 150.0, ["60", "70", "80", "90", "100", "150"]),
    ],
)
def test_a_logarithmic_axis_has_few_short_ticks(lowest: float, highest: float, texts: list[str]) -> None:
    with settings():
        _, axes = new_figure()
        axes.plot([1, 2], [lowest, highest])
        axes.set_ylim(lowest, highest)
        log_axis(axes)
        places = axes.yaxis.get_majorticklocs()
        assert [axes.yaxis.get_major_formatter()(place) for place in places] == texts


@pytest.mark.parametrize("tasks", [("copy",), ("copy", "adding", "brackets")])
def test_any_number_of_tasks_is_drawn(tasks: tuple[Any, ...]) -> None:
    params = make_params(("lstm",), memory=MemoryParams(tasks=tasks))
    lags, cures = memory_plots(MemoryFile.model_validate(memory_report(params)))
    assert [axes.get_title(loc="left") for axes in lags.figure.axes] == [TASKS[task] for task in tasks]
    assert all(axes.get_xlabel() for axes in lags.figure.axes[-2:]) and len(cures.figure.axes) == 2


def test_labels_of_a_map_do_not_overlap_and_the_frequent_win() -> None:
    words = [{"word": "often", "x": 0.0, "y": 0.0, "count": 9}, {"word": "rarely", "x": 0.01, "y": 0.0, "count": 1}]
    words += [{"word": "there", "x": -0.001, "y": 0.001, "count": 5}, {"word": "far", "x": 1.0, "y": 1.0, "count": 2}]
    found = WordMap.model_validate({"method": "pca", "words": words, "explained_share": 0.4, "trustworthiness": None})
    figure = draw_map(found)
    assert {text.get_text() for text in figure.axes[0].texts} == {"often", "there", "far"}  # one on either side
    assert len(figure.axes[0].collections[0].get_offsets()) == 4  # a dot each


def test_norms_that_are_infinite_or_lost_in_rounding_are_not_drawn() -> None:
    assert [value == value for value in visible([2.0, None, 1e-15, 1e-17, 0.0])] == [True, False, True, False, False]
