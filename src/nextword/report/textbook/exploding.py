"""The notes on exploding gradients: what too large a step does, and clipping."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from nextword.report.finding import Claim, Finding, not_tested, over_seeds
from nextword.report.probes.experiments import ExplodingRun, ExplodingSetting
from nextword.report.probes.exploding import KINDS
from nextword.report.textbook.evidence import Evidence

NAN = Claim(
    "Exploding gradients", "the loss suddenly becomes NaN or very large; the worst case is Inf or NaN in the network"
)
LARGE_STEPS = Claim(
    "Exploding gradients", "with too large a gradient the step is too large: a bad update, a large loss"
)
RESTART = Claim("Exploding gradients", "training must then start again from an earlier checkpoint")
CLIPPING = Claim("Gradient clipping", "it keeps exploding gradients from making training unstable (NaN)")
COMMON = Claim("Gradient clipping", "it is very common in the training of RNNs and LSTMs")
BY_SEED = "a seed's share is over scales, seeds paired"


def exploding_findings(evidence: Evidence) -> Iterator[Finding]:
    """What happens without clipping."""
    report = evidence.reports.probes.exploding
    for kind, label in KINDS.items():
        free = [s for s in report.settings if s.kind == kind and not s.clipped]
        low, high = ([s for s in free if (s.scale > 1.0) == above] for above in (False, True))
        if not low or not high:
            why = f"{label} networks without clipping were not trained with scales on both sides of 1"
            yield not_tested(f"nan_{kind}", NAN, why)
        else:
            sides = ("scale above 1", _diverged(high)), ("scale up to 1", _diverged(low))
            found = over_seeds(
                f"nan_{kind}", NAN, f"share of {label} runs that diverge, without clipping", *sides, "higher",
                "difference", step=1.0 / min(len(low), len(high)), confidence=evidence.confidence,
            )  # fmt: skip
            note = "scale: of the recurrent matrix; diverged: not finite, or a loss above 1.5 times ln V"
            note = "; ".join(filter(None, (note, found.note)))
            yield replace(found, condition=BY_SEED, note=note, sources=("exploding",))
        yield _large_steps(evidence, kind, free)
    yield not_tested("restart", RESTART, "a rule of conduct: here a diverged run ends and is reported as such")


def _diverged(settings: Sequence[ExplodingSetting]) -> dict[int, float]:
    """Share of the settings in which a seed's run diverged: scales are chosen, seeds are drawn."""
    by_seed: dict[int, list[bool]] = {}
    for setting in settings:
        for run in setting.runs:
            by_seed.setdefault(run.seed, []).append(run.diverged)
    return {seed: sum(of) / len(of) for seed, of in by_seed.items()}


def _large_steps(evidence: Evidence, kind: str, free: Sequence[ExplodingSetting]) -> Finding:
    """Whether the loss rises after the update with the largest gradient rather than after that with the smallest.

    Both are updates of one run: scale and seed are the same. A seed's figure is the mean over scales.
    """
    key, label = f"large_steps_{kind}", KINDS[kind]
    by_seed: dict[int, list[tuple[bool, bool]]] = {}
    for setting in free:
        for run in setting.runs:
            if (found := rises(run)) is not None:
                by_seed.setdefault(run.seed, []).append(found)
    if not by_seed:
        return not_tested(key, LARGE_STEPS, f"no {label} run without clipping made an update before its end")
    sides = [{seed: sum(one[end] for one in of) / len(of) for seed, of in by_seed.items()} for end in (0, 1)]
    finding = over_seeds(
        key, LARGE_STEPS, f"share of {label} runs whose loss rises with that update",
        ("of the largest gradient", sides[0]), ("of the smallest", sides[1]), "higher", "difference",
        step=1.0 / min(map(len, by_seed.values())), confidence=evidence.confidence,
    )  # fmt: skip
    return replace(
        finding, condition=f"without clipping, {len(free)} scales, seeds paired", sources=("exploding",),
        note="; ".join(filter(None, ("a value that is not finite counts as a rise", finding.note))),
    )  # fmt: skip


def rises(run: ExplodingRun) -> tuple[bool, bool] | None:
    """Whether the next window's loss is higher, for the updates with the largest and with the smallest gradient.

    Args:
        run: without clipping, so that the step is as large as the gradient.

    Returns:
        None where no update is followed by a loss.
    """
    losses = [*run.losses, *([math.inf] if run.first_non_finite is not None else [])]
    norms = run.grad_norms[: len(losses) - 1]
    if not norms:
        return None
    largest, smallest = norms.index(max(norms)), norms.index(min(norms))
    return losses[largest + 1] > losses[largest], losses[smallest + 1] > losses[smallest]


def clipping_findings(evidence: Evidence) -> Iterator[Finding]:
    """What clipping keeps off."""
    report = evidence.reports.probes.exploding
    for kind, label in KINDS.items():
        ways = [[s for s in report.settings if s.kind == kind and s.clipped == clipped] for clipped in (True, False)]
        if not all(ways):
            yield not_tested(f"clipping_{kind}", CLIPPING, f"no {label} network was trained with clipping and without")
            continue
        found = over_seeds(
            f"clipping_{kind}", CLIPPING, f"share of {label} runs that diverge, over all scales",
            ("clipped", _diverged(ways[0])), ("not clipped", _diverged(ways[1])), "lower", "difference",
            step=1.0 / len(ways[0]), confidence=evidence.confidence,
        )  # fmt: skip
        condition = f"clipped at {report.clip_norm:g}; {BY_SEED}"
        yield replace(found, condition=condition, sources=("exploding",))
    yield not_tested(
        "clipping_common", COMMON,
        "of what others do; here it is the default of every training (train.clip_norm), and how many steps it touches "
        "is logged",
    )  # fmt: skip
