"""Everything that is measured on one trained model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

import torch

from nextword.config import ProbeParams
from nextword.models import build_model
from nextword.models.language_model import LanguageModel
from nextword.probes.context import context_use
from nextword.probes.embeddings import embeddings
from nextword.probes.gradients import gradient_flow
from nextword.stage import Progress
from nextword.text.ids import load_ids
from nextword.training.artifacts import load_description, load_model

SHARE = 100
"""Units of progress for each part."""


def probe_model(
    folder: Path,
    ids: Path,
    params: ProbeParams,
    progress: Progress | None = None,
    split: str = "test",
    workers: int = 2,
) -> dict[str, Any]:
    """Gradient flow, context use and embeddings of a trained model.

    Args:
        folder: of one seed, e.g. models/lstm/seed-0.
        ids: folder that ``encode`` wrote.
        params: what is measured.
        progress: told (done, of).
        split: text on which gradients and context are measured.
        workers: parts measured at a time.

    Returns:
        ``model``, ``kind``, ``seed`` (of its training), ``split``; ``gradients``: ``initial``, with the weights that
        its training began with, and ``trained``, each as :func:`nextword.probes.gradients.gradient_flow` gives it;
        ``context``: as :func:`nextword.probes.context.context_use`; ``embeddings``: as
        :func:`nextword.probes.embeddings.embeddings`; ``left_out``: why ``gradients`` or ``context`` is None, by name.

    Raises:
        ValueError: a folder or a file named in ``params`` is missing, or the model was trained with another tokenizer.
    """
    about, corpus = load_description(folder), load_ids(ids)
    if about.tokenizer_sha256 != corpus.tokenizer_sha256:
        raise ValueError(f"{folder} was trained with another tokenizer than {ids} has; name the ids it was trained on")
    text = corpus[split]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(about.seed)
        initial = build_model(about.params, about.vocab_size, about.eos_id)
        trained = load_model(folder)
    left_out: dict[str, str] = {}
    done: dict[str, float] = {}
    lock = Lock()

    def part(name: str) -> Progress:
        def report(count: int, of: int) -> None:
            with lock:  # parts run side by side
                done[name] = count / of
                if progress is not None:
                    progress(round(SHARE * sum(done.values())), SHARE * len(measures))

        return report

    def attempt(name: str) -> dict[str, Any] | None:
        report = part(name)
        try:
            return measures[name](report)
        except ValueError as reason:  # the model, or this text, has nothing to measure it on
            if name == "embeddings":
                raise
            left_out[name] = str(reason)
            return None
        finally:
            report(1, 1)

    def gradients(model: LanguageModel) -> Callable[[Progress], dict[str, Any]]:
        return lambda report: gradient_flow(model, text, params.gradients, params.seed, report)

    measures: dict[str, Callable[[Progress], dict[str, Any]]] = {
        "initial": gradients(initial),
        "trained": gradients(trained),
        "context": lambda report: context_use(trained, corpus, text, params.context, params.seed, report),
        "embeddings": lambda _: embeddings(trained, corpus, params.embeddings),
    }
    with ThreadPoolExecutor(workers) as pool:  # what computes here does so outside Python's lock
        found = dict(zip(measures, pool.map(attempt, measures), strict=True))
    flow = {weights: found.pop(weights) for weights in ("initial", "trained")}
    reasons = [left_out.pop(weights) for weights in flow if weights in left_out]
    return {
        "model": about.name,
        "kind": about.params.kind,
        "seed": about.seed,
        "split": split,
        "gradients": None if reasons else flow,
        **found,
        "left_out": left_out | ({"gradients": reasons[0]} if reasons else {}),
    }


def figures(report: dict[str, Any]) -> dict[str, float]:
    """The numbers of :func:`probe_model` that stand for the rest; what is infinite or was not measured is absent."""
    found: dict[str, float | None] = {}
    for weights, flow in (report["gradients"] or {}).items():
        half_life = flow["stack"]["half_life"]
        found |= {f"gradient_{key}_{weights}": half_life[key] for key in ("tokens", "halving_tokens")}
    if (context := report["context"]) is not None:
        found["effective_context_tokens"] = context["effective_length"]["tokens"]
    return {key: value for key, value in found.items() if value is not None and math.isfinite(value)}


def describe_probe(report: dict[str, Any]) -> str:
    """What :func:`probe_model` found, in a few lines."""
    lines = [f"{report['model']} (kind {report['kind']}, seed {report['seed']}) on {report['split']}"]
    if (gradients := report["gradients"]) is not None:
        lines += _describe_gradients(gradients["initial"], gradients["trained"])
    if (context := report["context"]) is not None:
        effective = context["effective_length"]
        lines += [
            "context",
            f"  nats with the whole document  {context['document']['nats']['mean']:.3f}",
            *(
                f"  {row['length']:5} tokens alone           {row['increase']['mean']:+.3f}"
                for row in context["truncated"]
            ),
            f"  effective length in tokens    {_number(effective['tokens'])} [{_number(effective['low'])}, "
            f"{_number(effective['high'])}], within {effective['tolerance']:.1%} of the loss",
        ]
    lines.append("embeddings, nearest by cosine")
    for row in report["embeddings"]["neighbours"]:
        near = (f"{other['word']} {other['cosine']:.2f}" for other in row["neighbours"])
        lines.append(f"  {row['word']}: {', '.join(near)}")
    if missing := report["embeddings"]["missing"]:
        lines.append(f"  not in the vocabulary: {', '.join(missing)}")
    return "\n".join([*lines, *(f"no {name}: {reason}" for name, reason in report["left_out"].items())])


def _describe_gradients(initial: dict[str, Any], trained: dict[str, Any]) -> Iterator[str]:
    yield (
        "gradient half-life in tokens [95%], and tokens a halving takes beyond the first: at the start -> trained "
        f"({trained['method']})"
    )
    names = {"h": "dh/dh", "c": "dc/dc", "c_direct": "dc/dc, through c alone", "loss_by_weights": "dE/dW"}
    for before, after in zip(initial["layers"], trained["layers"], strict=True):
        for key, name in names.items():
            if after[key] is not None:
                halves = " -> ".join(_half_life(one[key]["half_life"]) for one in (before, after))
                yield f"  layer {after['layer']}  {name:24} {halves}"
    halves = " -> ".join(_half_life(one["stack"]["half_life"]) for one in (initial, trained))
    yield f"  dh/d(everything remembered)       {halves}"
    for weights, flow in (("at the start", initial), ("trained", trained)):
        for layer in flow["layers"]:
            if (bound := layer["bound"]) is not None:
                verdict = "holds" if bound["holds"] else f"is violated {bound['violations']} times"
                yield (
                    f"  layer {layer['layer']}  bound (beta_W beta_h)^lag {weights}: {verdict} in {bound['checked']} "
                    f"checks; beta_W {bound['beta_W']:.3f}, beta_h {bound['beta_h']:.3f}"
                )


def _half_life(found: dict[str, Any]) -> str:
    if found["status"] == "falls":
        halving = "" if found["halving_tokens"] is None else f", {found['halving_tokens']:.1f}"
        return f"{found['tokens']:.1f} [{_number(found['low'])}, {_number(found['high'])}]{halving}"
    return "grows" if found["status"] == "grows" else "lasts"


def _number(value: float | None) -> str:
    return "beyond" if value is None or value == float("inf") else f"{value:.1f}"
