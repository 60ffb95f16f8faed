"""Everything that is measured on a trained model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import mean
from threading import Lock
from typing import Any

import torch

from nextword.config import ProbeParams
from nextword.models import build_model
from nextword.models.language_model import LanguageModel
from nextword.pool import torch_threads
from nextword.probes.context import context_use
from nextword.probes.embeddings import embeddings
from nextword.probes.gradients import gradient_flow
from nextword.stage import Progress
from nextword.text.ids import load_ids
from nextword.training.artifacts import ModelDescription, load_description, load_model

SHARE = 100
"""Units of progress for each part."""
Part = tuple[int, str]
"""Place of a seed, and what is measured on it."""
Measure = Callable[[Progress], dict[str, Any]]
Build = Callable[[], LanguageModel]


def probe_model(
    folders: Sequence[Path],
    ids: Path,
    params: ProbeParams,
    progress: Progress | None = None,
    split: str = "test",
    workers: int = 2,
) -> dict[str, Any]:
    """Gradient flow and context use of every seed of a trained model, embeddings of its first.

    All seeds are measured at the same positions of the text.

    Args:
        folders: of its seeds, e.g. models/lstm/seed-0; at least one.
        ids: folder that ``encode`` wrote.
        params: what is measured.
        progress: told (done, of).
        split: text on which gradients and context are measured.
        workers: parts measured at a time.

    Returns:
        ``model``, ``kind``, ``split``; ``seeds``, a list over ``folders``: ``seed`` (of its training), ``gradients``:
        ``initial``, with the weights that its training began with, and ``trained``, each as
        :func:`nextword.probes.gradients.gradient_flow` gives it, ``context``: as
        :func:`nextword.probes.context.context_use`; ``embeddings`` of the first seed: as
        :func:`nextword.probes.embeddings.embeddings`; ``left_out``: why ``gradients`` or ``context`` is None, by name.

    Raises:
        ValueError: a folder or a file named in ``params`` is missing, or the model was trained with another tokenizer.
    """
    abouts, corpus = [load_description(folder) for folder in folders], load_ids(ids)
    for folder, about in zip(folders, abouts, strict=True):
        if about.tokenizer_sha256 != corpus.tokenizer_sha256:
            raise ValueError(
                f"{folder} was trained with another tokenizer than {ids} has; name the ids it was trained on"
            )
    text = corpus[split]
    left_out: dict[str, str] = {}
    done: dict[Part, float] = {}
    lock, building = Lock(), Lock()

    def part(one: Part) -> Progress:
        def report(count: int, of: int) -> None:
            with lock:  # parts run side by side
                done[one] = count / of
                if progress is not None:
                    progress(round(SHARE * sum(done.values())), SHARE * len(measures))

        return report

    def attempt(one: Part) -> dict[str, Any] | None:
        report = part(one)
        try:
            return measures[one](report)
        except ValueError as reason:  # the model, or this text, has nothing to measure it on
            if one[1] == "embeddings":
                raise
            left_out["context" if one[1] == "context" else "gradients"] = str(reason)
            return None
        finally:
            report(1, 1)

    def built(build: Build) -> LanguageModel:
        with building, torch.random.fork_rng(devices=[]):  # one at a time: they draw from the one global generator
            return build()

    def gradients(build: Build) -> Measure:
        return lambda report: gradient_flow(built(build), text, params.gradients, params.seed, report)

    def context(build: Build) -> Measure:
        return lambda report: context_use(built(build), corpus, text, params.context, params.seed, report)

    begun: list[Build] = [partial(_begun, about) for about in abouts]
    trained: list[Build] = [partial(load_model, folder) for folder in folders]
    measures: dict[Part, Measure] = {
        (0, "embeddings"): lambda _: embeddings(built(trained[0]), corpus, params.embeddings)
    }
    for place in range(len(folders)):
        measures |= {
            (place, "initial"): gradients(begun[place]),
            (place, "trained"): gradients(trained[place]),
            (place, "context"): context(trained[place]),
        }
    # What computes does so outside Python's lock; parts share the cores, as more threads than cores hinder each other.
    with torch_threads(max(1, torch.get_num_threads() // workers)), ThreadPoolExecutor(workers) as pool:
        found = dict(zip(measures, pool.map(attempt, measures), strict=True))
    return {
        "model": abouts[0].name,
        "kind": abouts[0].params.kind,
        "split": split,
        "seeds": [
            {
                "seed": about.seed,
                "gradients": None
                if "gradients" in left_out
                else {weights: found[place, weights] for weights in ("initial", "trained")},
                "context": found[place, "context"],
            }
            for place, about in enumerate(abouts)
        ],
        "embeddings": found[0, "embeddings"],
        "left_out": left_out,
    }


def _begun(about: ModelDescription) -> LanguageModel:
    """The model with the weights that its training began with; seeds the global generator."""
    torch.manual_seed(about.seed)
    return build_model(about.params, about.vocab_size, about.eos_id)


def figures(report: dict[str, Any]) -> dict[str, float]:
    """Numbers of :func:`probe_model` that stand for the rest, means over seeds.

    A number that a seed lacks, as it was not measured or is infinite, is absent.
    """
    by_seed = [_figures(seed) for seed in report["seeds"]]
    found = {key: [values[key] for values in by_seed] for key in by_seed[0]}
    return {key: mean(v for v in of if v is not None) for key, of in found.items() if None not in of}


def _figures(seed: dict[str, Any]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for weights, flow in (seed["gradients"] or {}).items():
        half_life = flow["stack"]["half_life"]
        found |= {f"gradient_{key}_{weights}": half_life[key] for key in ("tokens", "halving_tokens")}
        found[f"gradient_growth_{weights}"] = flow["stack"]["growth"]
    if (context := seed["context"]) is not None:
        tokens = context["effective_length"]["tokens"]
        found["effective_context_tokens"] = tokens if math.isfinite(tokens) else None
    return found


def describe_probe(report: dict[str, Any]) -> str:
    """What :func:`probe_model` found, in a few lines a seed."""
    lines: list[str] = []
    for seed in report["seeds"]:
        lines.append(f"{report['model']} (kind {report['kind']}, seed {seed['seed']}) on {report['split']}")
        if (gradients := seed["gradients"]) is not None:
            lines += _describe_gradients(gradients["initial"], gradients["trained"])
        if (context := seed["context"]) is not None:
            lines += _describe_context(context)
    lines.append(f"embeddings of seed {report['seeds'][0]['seed']}, nearest by cosine")
    for row in report["embeddings"]["neighbours"]:
        near = (f"{other['word']} {other['cosine']:.2f}" for other in row["neighbours"])
        lines.append(f"  {row['word']}: {', '.join(near)}")
    if missing := report["embeddings"]["missing"]:
        lines.append(f"  not in the vocabulary: {', '.join(missing)}")
    return "\n".join([*lines, *(f"no {name}: {reason}" for name, reason in report["left_out"].items())])


def _describe_context(context: dict[str, Any]) -> Iterator[str]:
    yield "context"
    yield f"  nats with the whole document  {context['document']['nats']['mean']:.3f}"
    for row in context["truncated"]:
        yield f"  {row['length']:5} tokens alone           {row['increase']['mean']:+.3f}"
    effective = context["effective_length"]
    yield (
        f"  effective length in tokens    {_number(effective['tokens'])} [{_number(effective['low'])}, "
        f"{_number(effective['high'])}], within {effective['tolerance']:.1%} of the loss"
    )


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
