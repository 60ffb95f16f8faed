"""Reports of the probes as their stages write them, with made-up but likely figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nextword.config import ModelParams, Params

LAGS = (0, 1, 2, 4, 8, 16, 32, 48)
LENGTHS = (1, 2, 4, 8, 16, 32, 64)
HALF_LIVES = {"rnn": 1.3, "rnn_relu": 2.1, "gru": 6.4, "gru_reset_after": 7.2}
"""Of the trained model, in tokens, by kind; others have 9.5. At the start a third of it."""
VARIANTS = {
    "tanh": ("tanh", 5), "relu": ("ReLU", 10), "identity": ("ReLU, identity", 20),
    "residual_time": ("residual in time", 40), "tanh_2": ("tanh, 2 layers", 5), "residual": ("residual, 2 layers", 5),
    "highway": ("highway, 2 layers", 10), "lstm": ("LSTM", 40), "lstm_matched": ("LSTM, GRU's parameters", 40),
    "gru": ("GRU", 80), "gru_reset_after": ("GRU, resets after", 80),
}  # fmt: skip
"""Label, and the longest lag solved by all seeds, by variant."""
MEMORY_LAGS = (5, 10, 20, 40, 80)
WORDS = ("war", "peace", "congress", "tax", "children", "year")


def half_life(tokens: float | None) -> dict[str, Any]:
    """A half-life with its interval; None: it lasts beyond the longest lag."""
    falls = tokens is not None
    low, high = (0.9 * tokens, 1.2 * tokens) if falls else (None, None)
    return {
        "status": "falls" if falls else "lasts", "tokens": tokens, "low": low, "high": high, "doubling_tokens": None,
        "halving_tokens": tokens, "halving_low": low, "halving_high": high,
    }  # fmt: skip


def norm(tokens: float, scale: float = 1.0) -> dict[str, Any]:
    """A norm that halves every ``tokens``."""
    values = [scale * 0.5 ** (lag / tokens) for lag in LAGS]
    spread = {"0.1": 0.6, "0.25": 0.8, "0.5": 1.0, "0.75": 1.2, "0.9": 1.5}
    return {
        "lags": LAGS, "positions": 16, "mean": values, "sd": values, "low": values, "high": values,
        "quantiles": {q: [v * f**min(lag, 4) for v, lag in zip(values, LAGS, strict=True)] for q, f in spread.items()},
        "half_life": half_life(tokens if tokens < LAGS[-1] else None), "growth": 0.5 ** (1.0 / tokens),
    }  # fmt: skip


def flow(model: ModelParams, tokens: float) -> dict[str, Any]:
    """Gradients of a model at one set of weights."""
    has_c = "lstm" in model.kind
    bound = {
        "beta_W": 1.75, "beta_h": 0.96, "lags": LAGS, "values": [1.68**lag for lag in LAGS], "holds": True,
        "violations": 0, "checked": 16 * len(LAGS), "largest_share": 0.61,
    }  # fmt: skip
    layer = {
        "h": norm(0.7 * tokens), "c": norm(3 * tokens) if has_c else None, "c_direct": norm(60.0) if has_c else None,
        "bound": bound if model.kind in ("rnn", "rnn_relu") else None, "loss_by_weights": norm(tokens, 0.02),
    }  # fmt: skip
    return {
        "method": "exact", "max_lag": LAGS[-1], "positions": list(range(16)), "state_size": 128,
        "layers": [{"layer": number + 1, **layer} for number in range(model.num_layers)], "stack": norm(tokens),
    }  # fmt: skip


def interval(mean: float, half: float = 0.04) -> dict[str, float]:
    """A mean with an interval around it."""
    return {"mean": mean, "low": mean - half, "high": mean + half}


def context(tokens: float) -> dict[str, Any]:
    """Use of context of a model whose loss falls with the logarithm of the context up to ``tokens``."""

    def row(length: int, share: float) -> dict[str, Any]:
        price = share * max(0.0, math.log2(4 * tokens / length))
        return {"length": length, "nats": interval(4.2 + price), "increase": interval(price)}

    shares = {"shuffled": 0.02, "dropped_frequent": 0.03, "dropped_rare": 0.05}
    return {
        "num_targets": 400, "lengths": LENGTHS, "lengths_left_out": [128], "document": {"nats": interval(4.2)},
        "truncated": [row(length, 0.12) for length in LENGTHS],
        **{name: [row(length, share) for length in LENGTHS[:-1]] for name, share in shares.items()},
        "effective_length": {"tokens": tokens, "low": 0.8 * tokens, "high": None, "tolerance": 0.01},
    }  # fmt: skip


def embeddings(analogies: bool) -> dict[str, Any]:
    """Neighbours, a map, and analogies with a similarity where asked for."""

    def part(name: str, covered: int) -> dict[str, Any]:
        right = {"correct": covered // 4, "accuracy": 0.25, "low": 0.21, "high": 0.29}
        return {
            "name": name, "questions": 4 * covered + 10, "covered": covered, "add": right if covered else None,
            "mul": right if covered else None,
        }  # fmt: skip

    asked = {
        "file": "questions.txt", "candidates": 4_995, "sections": [part("capitals", 0), part("gram1", 320)],
        "total": part("total", 320), "semantic": part("semantic", 0), "syntactic": part("syntactic", 320),
    }  # fmt: skip
    similar = {"file": "pairs.tsv", "pairs": 353, "covered": 120, "spearman": 0.31, "low": 0.14, "high": 0.46}
    words = [*WORDS, *(f"word{number}" for number in range(34))]
    return {
        "vocab_size": 5_000, "embedding_size": 128, "missing": ["russia"],
        "neighbours": [
            {"word": word, "neighbours": [{"word": other, "cosine": 0.71} for other in WORDS if other != word][:5]}
            for word in WORDS
        ],
        "analogies": asked if analogies else None, "similarity": similar if analogies else None,
        "map": {
            "method": "tsne", "explained_share": 0.18, "trustworthiness": 0.87,
            "words": [
                {"word": word, "x": math.sin(3 * i) * i, "y": math.cos(5 * i) * i, "count": 4_000 // (i + 1)}
                for i, word in enumerate(words)
            ],
        },
    }  # fmt: skip


def probe_report(name: str, model: ModelParams, seeds: Sequence[int], analogies: bool = False) -> dict[str, Any]:
    """``reports/probe/NAME.json``; each seed remembers 3% longer than the one before."""
    left_out = {}
    if model.bidirectional or model.kind == "nnlm":
        left_out["gradients"] = "it carries no state from left to right"
    if model.bidirectional:
        left_out["context"] = "it sees both sides of a word"
    tokens = HALF_LIVES.get(model.kind, 9.5)

    def measured(seed: int, tokens: float) -> dict[str, Any]:
        flows = {"initial": flow(model, tokens / 3), "trained": flow(model, tokens)}
        return {
            "seed": seed, "gradients": None if "gradients" in left_out else flows,
            "context": None if "context" in left_out else context(4 * tokens),
        }  # fmt: skip

    return {
        "model": name, "kind": model.kind, "split": "test",
        "seeds": [measured(seed, tokens * 1.03**place) for place, seed in enumerate(seeds)],
        "embeddings": embeddings(analogies), "left_out": left_out,
    }  # fmt: skip


def wilson(count: int, of: int) -> dict[str, Any]:
    """A share of runs with Wilson's interval, by its formula."""
    z, rate = 1.959964, count / of
    middle, half = rate + z * z / (2 * of), z * math.sqrt(rate * (1 - rate) / of + z * z / (4 * of * of))
    low, high = ((middle + side * half) / (1 + z * z / of) for side in (-1, 1))
    return {"count": count, "of": of, "rate": rate, "low": max(low, 0.0), "high": min(high, 1.0)}


def exploding_report(params: Params) -> dict[str, Any]:
    """``reports/experiments/exploding.json``: without clipping a tanh network diverges from a scale of 2 on."""
    config = params.exploding
    settings = []
    for kind in ("rnn", "rnn_relu"):
        for scale in config.scales:
            for clipped in (False, True):
                lost = scale > (3.0 if kind == "rnn_relu" else 9.0) or (scale >= 2.0 and not clipped)
                run = {
                    "diverged": lost, "first_non_finite": 12 if lost else None, "non_finite": "loss" if lost else None,
                    "grad_norm_before": 3.1e8 if lost else None, "largest_grad_norm": 4e8 if lost else 2.5 * scale,
                    "final_loss": None if lost else 6.1, "losses": [8.5 - 0.2 * step for step in range(12)],
                    "grad_norms": [(4e8 if lost else 2.5 * scale) * 2.0 ** (step - 11) for step in range(12)],
                }  # fmt: skip
                count = len(config.seeds)
                settings.append({
                    "kind": kind, "scale": scale, "clipped": clipped, "diverged": wilson(count * lost, count),
                    "non_finite": wilson(count * lost, count), "final_loss": None if lost else interval(6.1),
                    "runs": [{"seed": seed, **run} for seed in config.seeds],
                })  # fmt: skip
    return {
        "uniform_loss": math.log(5000), "batch_size": 8, "bptt": 35, "settings": settings,
        **config.model_dump(mode="json", exclude={"scales"}),
    }  # fmt: skip


def memory_report(params: Params) -> dict[str, Any]:
    """``reports/experiments/memory.json``; an adding problem that only the gated networks solve."""

    def norms(step: float) -> dict[str, Any]:
        curve = [step**lag for lag in range(81)]
        falls = -math.log(2) / math.log(step) if step < 1 else None
        growth = {"by_seed": [step] * 3, **interval(step, 0.01)}
        return {
            "median": curve, "low": curve, "high": curve, "num_sequences": 12, "half_life": half_life(falls),
            "growth": growth,
        }  # fmt: skip

    def variant(name: str, task: str) -> dict[str, Any]:
        label, longest = VARIANTS[name]
        longest = longest if task != "adding" or name.startswith(("lstm", "gru")) else 0
        reached = [longest, longest, {0: 5, 80: 80}.get(longest, 2 * longest)]
        count = {lag: sum(lag <= r for r in reached) for lag in MEMORY_LAGS}
        return {
            "label": label, "num_parameters": 1_300, "learning_rate": 4e-3,
            "longest_lag": {"by_seed": reached, "all_seeds": min(reached), "any_seed": max(reached)},
            "success": [{"lag": lag, **wilson(count[lag], 3)} for lag in MEMORY_LAGS],
            "flow": {"initial": norms(0.6), "trained": norms(0.97 if longest > 20 else 0.8)},
        }  # fmt: skip

    config = params.memory
    metrics = {name: ("accuracy", 0.99, 0.25) for name in config.tasks} | {
        "adding": ("mean_squared_error", 0.01, 1 / 6)
    }
    return {
        "lags": MEMORY_LAGS, "hidden_size": 32, "batch_size": 32, "steps": 500, "learning_rates": [4e-3, 1.5e-2],
        "seeds": [0, 1, 2],
        "tasks": {
            task: {
                "metric": metrics[task][0], "criterion": metrics[task][1],
                "chance": {"loss": 1.4, "metric": metrics[task][2]},
                "variants": {name: variant(name, task) for name in VARIANTS},
            }
            for task in config.tasks
        },
    }  # fmt: skip


def window_report(params: Params) -> dict[str, Any]:
    """``reports/experiments/window.json``, with an RNN beside the windows."""
    one = len(params.window.seeds) < 2
    over_seeds = {"mean": 5.4, "low": None, "high": None} if one else interval(5.4, 0.03)
    models: list[dict[str, Any]] = [
        {
            "name": f"window {window}", "kind": "nnlm", "window": window,
            "perplexity": interval(240.0 - 20 * place, 9.0),
            "change": interval(-0.08) | {"count": 9} if place else None, "over_seeds": over_seeds,
            "parameters": {"total": 1_300_000 + 16_384 * window},
            "operations_per_token": {"total": 1_310_000 + 32_768 * window},
        }
        for place, window in enumerate(params.window.windows)
    ]  # fmt: skip
    models.append(models[0] | {"name": "rnn", "kind": "rnn", "window": None, "perplexity": interval(171.0, 8.0)})
    return {"train_tokens": params.window.train_tokens, "num_targets": 71_533, "num_documents": 9, "models": models}


def sparsity_report(params: Params) -> dict[str, Any]:
    """``reports/experiments/sparsity.json``."""
    parts = []
    for fraction in params.sparsity.fractions:
        orders = []
        for order in range(1, params.ngram.max_order + 1):
            unseen = 1 - (0.5 + 0.5 * fraction) ** (order - 1)
            models = [
                {
                    "smoothing": name, "infinite_share": unseen if name == "mle" else 0.0,
                    "perplexity": {"mean": None, "low": None, "high": None}
                    if name == "mle" and unseen
                    else interval(400 / order / fraction**0.3, 9.0),
                    "perplexity_of_finite": 14.2,
                }
                for name in params.sparsity.smoothings
            ]  # fmt: skip
            orders.append({
                "order": order, "types": 4_000 * 2**order, "tokens": 500_000, "singletons": 1_500 * 2**order,
                "possible": 5000.0**order, "unseen_share": unseen, "unseen_context_share": unseen / 2,
                "zero_probability": interval(unseen, 0.01) | {"count": 9}, "models": models,
            })  # fmt: skip
        parts.append({"share": fraction, "tokens": int(569_800 * fraction), "types_seen": 4_900, "orders": orders})
    return {"num_targets": 71_533, "num_documents": 9, "vocab_size": 5_000, "parts": parts}


NETWORKS = {
    "lstm": ("lstm", 64, 37_184, 33_024, 1.0), "gru": ("gru", 64, 28_928, 24_768, 0.95),
    "gru_reset_after": ("gru_reset_after", 64, 28_992, 24_832, 0.93), "lstm_matched": ("lstm", 48, 28_864, 24_768, 0.8),
}  # fmt: skip
"""Kind, hidden size, parameters, hidden ones, and a factor for all else, by name."""


def capacity_report(params: Params) -> dict[str, Any]:
    """``reports/experiments/capacity.json``."""
    own, random, real = params.capacity, [], []
    for name, (_, _, total, _, factor) in NETWORKS.items():
        for seed in own.seeds:
            head = {"network": name, "seed": seed, "learning_rate": 0.01}
            for tokens in own.random_tokens:
                bits = factor * min(5.5 * tokens, 24_000 + tokens) * (1 + 0.01 * seed)
                random.append({**head, "tokens": tokens, "bits": bits, "bits_per_parameter": bits / total})
            for place, tokens in enumerate(own.train_tokens):
                train, gap = 4.5 + 0.2 * place, factor * (2.0 - 0.5 * place) + 0.02 * seed
                real.append({
                    **head, "tokens": tokens, "train_nats": train, "valid_nats": train + gap, "gap": gap,
                    "best_valid_nats": 5.9, "best_pass": 2, "passes": own.seen_tokens // tokens,
                })  # fmt: skip
    keys = ("kind", "hidden_size", "num_parameters", "hidden_parameters")
    return {
        "networks": {name: dict(zip(keys, network[:4], strict=True)) for name, network in NETWORKS.items()},
        "random": {"vocabulary": 64, "epochs": 50, "lengths": own.random_tokens, "runs": random},
        "real": {"sizes": own.train_tokens, "seen_tokens": own.seen_tokens, "runs": real},
    }


def throughput_report(params: Params) -> dict[str, Any]:
    """``reports/experiments/throughput.json``, on two threads."""
    points = [
        {
            "network": name, "batch_size": batch, "devices": devices, "share_of_peak": 0.004 * batch / devices,
            "tokens_per_second": [factor * 6_000 * batch**0.4 * devices**0.5 * (1 + turn / 100) for turn in range(3)],
        }
        for devices in (1, 2) for batch in params.throughput.batch_sizes for name, (*_, factor) in NETWORKS.items()
    ]  # fmt: skip
    return {
        "device": "cpu", "precision": "bfloat16", "vocab_size": 5_000, "bptt": 35, "batch_size": 20,
        "peak_operations_per_second": {"1": 2.1e11, "2": 4.0e11}, "points": points,
        "networks": {
            name: {
                "kind": kind, "hidden_size": size, "bytes_per_token": 2.0 * total, "step_memory_bytes": 400 * total,
                "operations_per_token": dict.fromkeys(("counted", "torch"), 2 * hidden + 1_280_000),
            }
            for name, (kind, size, total, hidden, _) in NETWORKS.items()
        },
    }  # fmt: skip
