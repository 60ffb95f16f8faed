"""Gradient flow through time in a language model, on real text: the notes' explanation of vanishing, measured.

Shapes: P positions, T time steps, L lags, E embedding size, H hidden size, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nextword.config import GradientParams
from nextword.models.language_model import LanguageModel
from nextword.models.recurrent import RecurrentLM
from nextword.models.stack import RecurrentStack
from nextword.probes.decay import summarize
from nextword.probes.jacobians import Norms, Quantity, Unrolled, chain_norms, iterated_norms, spectral_norms, unroll
from nextword.probes.tangents import fields_of
from nextword.stage import Progress
from nextword.text.ids import Split

WARM_UP = 64
"""Tokens read before the first state that is measured."""
BOUNDED = ("rnn", "rnn_relu")
"""Kinds to which the notes' bound applies: ``h_t = sigma(W_hh h_{t-1} + a_t)``."""
ROUNDING = 1e-9
"""Relative; a norm this little above its bound does not violate it."""


def gradient_flow(
    model: LanguageModel, split: Split, params: GradientParams, seed: int, progress: Progress | None = None
) -> dict[str, Any]:
    """Norms of the derivatives of a model's state, and of its loss, by what it read some tokens before.

    With ``s^l_t`` the state of layer l after token t (h; LSTMs: h and c), ``S_t`` the states of all layers, E_t the
    nats of the token after t, and the lag t - k:

    - ``h``: spectral norm of ``d h^l_t / d h^l_k`` through the layer's own recurrence, what it reads from below held
      fixed, c_k too;
    - ``c``: of ``d c^l_t / d c^l_k``, the same way, h_k held fixed; ``c_direct``: of the path through c alone, every h
      held fixed: the largest product of forget gates (and peepholes) over the units;
    - ``stack``: of ``d h^L_t / d S_k``, h of the top layer by everything that is remembered;
    - ``loss_by_weights``: Frobenius norm of the part of ``d E_t / d W`` that goes through step k, W all recurrent
      matrices of the layer: one term of the notes' sum over k;
    - ``bound``: ``(beta_W beta_h)^(t-k)`` of the notes (Pascanu et al. 2013, section 2.2) for a vanilla RNN,
      ``beta_W = ||W_hh||_2``, ``beta_h`` the largest ``|sigma'|`` over all steps, positions and units of the layer.

    At lag 0 all norms but the loss's are 1. The text is read as one stream, as in training, from zero states
    ``WARM_UP`` tokens before the window; no dropout, float64.

    Args:
        model: left-to-right and recurrent.
        split: real text.
        params: lags, positions, exactness.
        seed: of the positions.
        progress: told (done, of).

    Returns:
        ``method`` (``exact`` or ``power iteration``), ``max_lag``, ``positions`` (places of token t in the split),
        ``state_size``, ``layers`` (a list of the above by layer: ``c`` and ``c_direct`` None where there is no c,
        ``bound`` None where it does not apply) and ``stack``. A norm is as :func:`nextword.probes.decay.summarize`
        gives it. ``bound`` has ``beta_W``, ``beta_h``, ``lags``, ``values`` by lag, ``holds`` (at every one of these
        lags and positions), ``violations``, ``checked`` (how many) and ``largest_share`` of the bound that a norm takes
        up at a lag above 0.

    Raises:
        ValueError: the model has no recurrent state read from left to right, or the split is too short.
    """
    if not isinstance(model, RecurrentLM):
        raise ValueError(f"{type(model).__name__} carries no state from left to right; give a recurrent model")
    model = copy.deepcopy(model).cpu().double().eval().requires_grad_(False)
    places, tokens = _windows(split, params, seed)
    x_TPE = model.embed(tokens[:-1])
    with torch.no_grad():
        warm = unroll(model.stack, x_TPE[:WARM_UP], model.stack.zero_state(len(places)))
    run = unroll(model.stack, x_TPE[WARM_UP:], warm.states[-1])
    loss = -model.output.log_prob(model.projection(run.y_PW)).gather(1, tokens[-1][:, None]).sum()
    report = stack_flow(model.stack, run, params, progress or (lambda done, of: None))
    for layer, norms in zip(report["layers"], weight_norms(loss, run), strict=True):
        layer["loss_by_weights"] = summarize(norms, range(len(norms)))
    return report | {"max_lag": params.max_lag, "positions": places.tolist()}


def stack_flow(stack: RecurrentStack, run: Unrolled, params: GradientParams, progress: Progress) -> dict[str, Any]:
    """What :func:`gradient_flow` says of the state alone.

    Args:
        stack: what ran.
        run: its run over ``max_lag`` + 1 steps.
        params: lags, exactness.
        progress: told (done, of).
    """
    fields, depth, kind = fields_of(stack), len(stack.cells), stack.params.kind
    size = sum(stack.cells[layer].hidden_size for layer, _ in fields)
    exact, bounded = size <= params.exact_size, kind in BOUNDED
    lags = _lags(params.max_lag, exact, every=bounded)
    wanted: dict[tuple[int, str], Quantity] = {
        (depth - 1, "stack"): Quantity((depth - 1, "h"), tuple(fields), tuple(fields))
    }
    direct: dict[tuple[int, str], Quantity] = {}
    for layer, name in fields:
        one = (layer, name)
        if name in ("h", "c"):
            # No other layer is on the way from a layer to itself: the top one's h shares its product with the stack's.
            shared = one == (depth - 1, "h")
            wanted[one] = Quantity(one, (one,), tuple(f for f in fields if shared or f[0] == layer))
        if name == "c":
            direct[layer, "c_direct"] = Quantity(one, (one,), (one,))
    if exact:
        found = chain_norms(stack, run, [*wanted.values(), *direct.values()], lags, progress)
    else:
        found = iterated_norms(stack, run, [*wanted.values()], lags, params.power_iterations, progress)
        found += chain_norms(stack, run, [*direct.values()], lags, lambda done, of: None) if direct else []
    norms = dict(zip([*wanted, *direct], found, strict=True))
    layers = []
    for layer in range(depth):
        own = {name: norms.get((layer, name)) for name in ("h", "c", "c_direct")}
        series = {name: value if value is None else summarize(value, lags) for name, value in own.items()}
        bound = _bound(stack, run, layer, norms[layer, "h"], lags) if bounded else None
        layers.append({"layer": layer + 1, **series, "bound": bound})
    return {
        "method": "exact" if exact else "power iteration",
        "state_size": size,
        "layers": layers,
        "stack": summarize(norms[depth - 1, "stack"], lags),
    }


def weight_norms(loss: Tensor, run: Unrolled) -> list[Norms]:
    """Frobenius norm of the part of ``d loss / d W`` that goes through each step, W all recurrent matrices of a layer.

    A product ``u = W v`` of one position gives ``(d loss / d u) v^T``; its norm is that of two vectors.

    Args:
        loss: sum over the positions, of the last step's output.
        run: where it comes from.

    Returns:
        by layer (T, P), the last step first; inf where not finite.
    """
    products = [one for step in run.products for layer in step for one in layer]
    grads = torch.autograd.grad(
        loss, [u for _, _, u in products], retain_graph=True, allow_unused=True, materialize_grads=True
    )
    left = iter(grads)
    by_step = []
    for step in run.products:
        squares = []
        for layer in step:
            terms = [(name, next(left), v.detach()) for name, v, _ in layer]
            pairs = [(a, b) for a in terms for b in terms if a[0] == b[0]]
            squares.append(
                sum(((g * g2).sum(1) * (v * v2).sum(1) for (_, g, v), (_, g2, v2) in pairs), torch.zeros(()))
            )
        by_step.append(torch.stack(squares))
    steps_TLP = torch.stack(by_step[::-1]).clamp(min=0.0).sqrt().nan_to_num(nan=np.inf).numpy()
    return [steps_TLP[:, layer] for layer in range(steps_TLP.shape[1])]


def _bound(stack: RecurrentStack, run: Unrolled, layer: int, norms_LP: Norms, lags: Sequence[int]) -> dict[str, Any]:
    beta_w = float(spectral_norms([stack.cells[layer].weight_hh.detach()[None]])[0])
    slopes = [
        torch.autograd.grad(run.field(step, (layer, "h")).sum(), run.products[step][layer][0][2], retain_graph=True)[0]
        for step in range(1, len(run.products))
    ]
    beta_h = max(float(slope.nan_to_num(nan=np.inf).abs().max()) for slope in slopes)
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.power(beta_w * beta_h, np.asarray(lags, np.float64))
        above = norms_LP > values[:, None] * (1.0 + ROUNDING)
        share = np.divide(norms_LP, values[:, None], out=np.zeros_like(norms_LP), where=values[:, None] > 0.0)
    return {
        "beta_W": beta_w,
        "beta_h": beta_h,
        "lags": list(lags),
        "values": values.tolist(),
        "holds": not bool(above.any()),
        "violations": int(above.sum()),
        "checked": above.size,
        "largest_share": float(share[1:].max()),
    }


def _windows(split: Split, params: GradientParams, seed: int) -> tuple[NDArray[np.int64], Tensor]:
    """Places of the last token read, (P,), and the tokens up to the one after it, (WARM_UP + max_lag + 2, P)."""
    length = WARM_UP + params.max_lag + 2
    starts = split.num_tokens - length + 1
    if starts < 1:
        raise ValueError(
            f"{split.name} has {split.num_tokens} tokens, and a gradient over {params.max_lag} needs {length}; "
            f"set probe.gradients.max_lag lower, or take a longer split"
        )
    rng = np.random.default_rng(seed)
    first = np.sort(rng.choice(starts, min(params.positions, starts), replace=False))
    window = np.asarray(split.ids[first[None, :] + np.arange(length)[:, None]], np.int64)
    return first + length - 2, torch.from_numpy(window)


def _lags(longest: int, exact: bool, every: bool) -> list[int]:
    """Lags at which norms are taken: all of them, or closer together where they are short."""
    if exact and every:
        return list(range(longest + 1))
    ratio = 2 ** (0.25 if exact else 1.0)
    grid = {round(ratio**i) for i in range(200) if ratio**i < longest}
    return sorted({0, *grid, longest})
