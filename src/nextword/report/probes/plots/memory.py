"""Plots of the trainings of their own: memory tasks, cures, exploding gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nextword.report.palette import INK, Looks
from nextword.report.plots import Plot
from nextword.report.probes.experiments import ExplodingFile, ExplodingSetting, MemoryFile
from nextword.report.probes.exploding import KINDS
from nextword.report.probes.memory import TASKS, variant_names
from nextword.report.probes.plots.norms import PANELS, SMALLEST, visible
from nextword.report.probes.schema import floats
from nextword.report.style import figure_legend, log_axis, new_panels, settings

CLIPPING = {False: "no clipping", True: "clipped"}


def exploding_plots(report: ExplodingFile) -> Iterator[Plot]:
    """Share diverged, and the gradients met."""
    kinds = [kind for kind in dict.fromkeys(s.kind for s in report.settings)]
    runs = max((len(setting.runs) for setting in report.settings), default=0)
    about = f"Recurrent matrix: orthogonal times the scale. {runs} seeds a point, {report.steps} updates each. "
    yield Plot(
        "exploding", "Runs that diverge",
        about + f"Bars: Wilson's 95% interval. Clipped: at a norm of {report.clip_norm:g}.",
        _diverged(report, kinds), "gradients",
    )  # fmt: skip
    yield Plot(
        "exploding_norms", "Largest gradient norm",
        f"{about}Before clipping; one point a seed, a line through the medians. Crosses: seeds that met a loss or norm "
        "that is not finite, at the last norm before it.",
        _norms(report, kinds), "gradients",
    )  # fmt: skip


Draw = Callable[[Axes, list[tuple[float, ExplodingSetting]], Looks, str], None]
"""Draws the settings of one kind with or without clipping, each at its x, under a label."""


def _by_scale(report: ExplodingFile, kinds: list[str], draw: Draw) -> tuple[Figure, list[Axes]]:
    """A panel for each kind, scales of the recurrent matrix along x, runs with clipping beside those without."""
    looks = Looks(tuple(CLIPPING.values()))
    scales = sorted({setting.scale for setting in report.settings})
    figure, panels = new_panels([KINDS.get(kind, kind) for kind in kinds], height=4.6)
    for axes, kind in zip(panels, kinds, strict=True):
        for clipped, label in CLIPPING.items():
            chosen = [s for s in report.settings if s.kind == kind and s.clipped == clipped]
            draw(axes, [(scales.index(s.scale) + (0.08 if clipped else -0.08), s) for s in chosen], looks, label)
    panels[-1].set_xticks(range(len(scales)), [f"{scale:g}" for scale in scales])
    panels[-1].set_xlabel("scale of the recurrent matrix at the start")
    figure_legend(figure, panels[-1])
    return figure, panels


def _diverged(report: ExplodingFile, kinds: list[str]) -> Figure:
    def draw(axes: Axes, points: list[tuple[float, ExplodingSetting]], looks: Looks, label: str) -> None:
        shares = [setting.diverged for _, setting in points]
        error = [[100 * (one.rate - one.low) for one in shares], [100 * (one.high - one.rate) for one in shares]]
        axes.errorbar(
            [x for x, _ in points], [100 * one.rate for one in shares], yerr=error, color=looks.colour(label),
            marker=looks.marker(label), capsize=3, label=label, elinewidth=1.0,
        )  # fmt: skip

    with settings():
        figure, panels = _by_scale(report, kinds, draw)
        for axes in panels:
            axes.set_ylabel("diverged, per cent")
            axes.set_ylim(-6, 106)
    return figure


def _norms(report: ExplodingFile, kinds: list[str]) -> Figure:
    def draw(axes: Axes, points: list[tuple[float, ExplodingSetting]], looks: Looks, label: str) -> None:
        colour, middle = looks.colour(label), []
        for x, setting in points:
            runs = [(run, v) for run in setting.runs if (v := run.largest_grad_norm) is not None and v > 0]
            for run, value in runs:
                lost = run.first_non_finite is not None
                marker = "x" if lost else looks.marker(label)
                y = run.grad_norm_before if lost and run.grad_norm_before else value
                axes.plot(x, y, marker, color=colour, markersize=6 if lost else 3.5)
            if runs:
                middle.append((x, sorted(v for _, v in runs)[len(runs) // 2]))
        axes.plot([x for x, _ in middle], [y for _, y in middle], color=colour, label=label, linewidth=1.2)

    with settings():
        figure, panels = _by_scale(report, kinds, draw)
        for axes in panels:
            axes.set_ylabel("gradient norm")
        log_axis(panels[0])
    return figure


def memory_plots(report: MemoryFile) -> Iterator[Plot]:
    """Longest lag of each seed, and the gradients of the variants on one task."""
    seeds = len(report.seeds)
    yield Plot(
        "memory", "Memory tasks: longest lag solved",
        f"One dot a seed ({seeds}), the bar ends at the lag that all of them solved; lags tried: "
        f"{', '.join(map(str, report.lags))}. Equal budget; equal hidden size ({report.hidden_size}) but for one LSTM.",
        _lags(report), "memory",
    )  # fmt: skip
    task = next(iter(report.tasks), None)
    if task is not None:
        sequences = max((v.flow.initial.num_sequences for v in report.tasks[task].variants.values()), default=0)
        yield Plot(
            "cures", f"Cures: gradient against lag ({TASKS.get(task, task)})",
            f"Median norm of d y_T / d S_k over {sequences} sequences of {seeds} seeds, T the last step, as a share of "
            "that at T itself; dotted: half of it. Other tasks are in the table. Trained: the network of the longest "
            f"lag solved. No line below {SMALLEST:g}.",
            _cures(report, task), "memory",
        )  # fmt: skip


def _lags(report: MemoryFile) -> Figure:
    names = variant_names(report)
    looks = Looks(tuple(names))
    places = [0, *report.lags]
    with settings():
        figure, panels = new_panels([TASKS.get(name, name) for name in report.tasks], 5.6, columns=2)
        for axes, task in zip(panels, report.tasks.values(), strict=True):
            for row, name in enumerate(reversed(names)):
                if name not in task.variants:
                    continue
                lag, colour = task.variants[name].longest_lag, looks.colour(name)
                axes.barh(row, places.index(lag.all_seeds), height=0.55, color=colour, alpha=0.35)
                count = len(lag.by_seed)
                for seed, reached in enumerate(lag.by_seed):
                    offset = 0.5 * (seed - (count - 1) / 2) / max(count, 1)
                    axes.plot(places.index(reached), row + offset, "o", color=colour, markersize=4)
            axes.set_yticks(range(len(names)), list(names.values())[::-1])
            axes.set_xticks(range(len(places)), ["none", *map(str, report.lags)])
            axes.grid(visible=False, axis="y")
        for axes in panels[-2:]:  # below the second to last there may be nothing
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("lag in steps")
    return figure


def _cures(report: MemoryFile, task: str) -> Figure:
    variants = report.tasks[task].variants
    looks = Looks(tuple(variants))
    with settings():
        figure, panels = new_panels(PANELS)
        for axes, weights in zip(panels, ("initial", "trained"), strict=True):
            for name, variant in variants.items():
                median = floats(getattr(variant.flow, weights).median)
                drawn = visible(norm / median[0] for norm in median)
                axes.plot(drawn, looks.dash(name), color=looks.colour(name), label=variant.label, linewidth=1.6)
            axes.axhline(0.5, color=INK[0], linewidth=0.8, linestyle=(0, (1, 3)))
            axes.set_ylabel("norm, share of that at T")
        log_axis(panels[0])
        panels[-1].set_xlabel("lag T-k in steps")
        panels[-1].set_xlim(left=0)
        figure_legend(figure, panels[-1])
    return figure
