"""The interface of every neural language model: state in, log-probabilities and state out.

A state is everything the model remembers of the text so far, the last token included; so a window of text is simply
its tokens, each of them scored once, and windows of any size give the same numbers as the whole.

Shapes: T time steps, B batch, N = T*B positions (time major), E size of what enters the output layer, V vocabulary.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from nextword.config import ModelParams
from nextword.models.output import SoftmaxOutput


class LanguageModel(nn.Module):
    """Base of all neural models. Subclasses give ``initial_state`` and ``hidden``."""

    embedding: nn.Embedding
    projection: nn.Linear | None
    """From the hidden size to the embedding size, where a tied output layer needs it."""
    output: SoftmaxOutput
    engine: str = "feed-forward"
    """What computes the hidden layer."""

    def _build_output(self, params: ModelParams, vocab_size: int, width: int) -> None:
        """Make ``projection`` and ``output`` and draw the weights of ``embedding`` and ``output``, in this order.

        Args:
            params: sizes, tying, ``init_scale``.
            vocab_size: V.
            width: of what the hidden part hands to an untied output layer.
        """
        project = params.tie_weights and params.hidden_size != params.embedding_size
        self.projection = nn.Linear(params.hidden_size, params.embedding_size, bias=False) if project else None
        embedding = cast(nn.Parameter, self.embedding.weight)
        self.output = SoftmaxOutput(
            vocab_size,
            params.embedding_size if params.tie_weights else width,
            tied=embedding if params.tie_weights else None,
        )
        for weight in [embedding] if params.tie_weights else [embedding, self.output.weight]:
            nn.init.uniform_(weight, -(params.init_scale or 0.1), params.init_scale or 0.1)

    def initial_state(self, batch: int) -> Any:
        """State at the start of a text: nothing read but one ``<eos>``."""
        raise NotImplementedError

    def hidden(self, tokens_TB: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Input of the output layer for the prediction of each token, (N, E), and the state after the last one."""
        raise NotImplementedError

    def operations_per_token(self) -> dict[str, int]:
        """Floating-point operations of the matrix products for one token forward (a multiply-add counts two)."""
        last = [self.output.weight, *(self.projection.parameters() if self.projection is not None else [])]
        apart = {id(weight) for weight in [self.embedding.weight, *last]}
        hidden = 2 * sum(p.numel() for p in self.parameters() if p.dim() == 2 and id(p) not in apart)
        output = 2 * sum(weight.numel() for weight in last)
        return {"recurrent": hidden, "output": output, "total": hidden + output}

    def sum_nats(self, tokens_TB: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Sum of ``-log p`` over a window in nats, differentiable, and the state after it."""
        hidden_NE, state = self.hidden(tokens_TB, state)
        return self.output.sum_nats(hidden_NE, tokens_TB.reshape(-1)), state

    def score(self, tokens_TB: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Log-probability in nats of each token given all before it, (T, B), and the state after the last one."""
        log_prob, _, state = self.score_and_rank(tokens_TB, state)
        return log_prob, state

    def score_and_rank(self, tokens_TB: Tensor, state: Any) -> tuple[Tensor, Tensor, Any]:
        """As :meth:`score`, with the number of types that the model holds more probable than each token, (T, B)."""
        hidden_NE, state = self.hidden(tokens_TB, state)
        log_prob, rank = self.output.score(hidden_NE, tokens_TB.reshape(-1))
        return log_prob.view(tokens_TB.shape), rank.view(tokens_TB.shape), state

    def next_log_prob(self, state: Any) -> Tensor:
        """Log-probability of every type as the next token, (B, V)."""
        batch = state.last.shape[0]
        probe = torch.zeros(1, batch, dtype=torch.long, device=self.output.weight.device)
        return self.output.log_prob(self.hidden(probe, state)[0])

    def num_parameters(self) -> dict[str, int]:
        """Numbers of trainable parameters: embedding, recurrent (or hidden) layers, output with projection, total.

        A tied embedding counts once, as embedding.
        """
        total = sum(p.numel() for p in self.parameters() if p.requires_grad)
        embedding = self.embedding.weight.numel()
        last = [*self.output.parameters(), *(self.projection.parameters() if self.projection is not None else [])]
        output = sum(p.numel() for p in last if p is not self.embedding.weight)
        return {"embedding": embedding, "recurrent": total - embedding - output, "output": output, "total": total}


def detach(state: Any) -> Any:
    """The same state without its history, so that back-propagation stops here."""
    if isinstance(state, Tensor):
        return state.detach()
    parts = [detach(part) for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
