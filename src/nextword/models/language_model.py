"""The interface of every neural language model: state in, log-probabilities and state out.

A state is everything the model remembers of the text so far, the last token included; so a window of text is simply
its tokens, each of them scored once, and windows of any size give the same numbers as the whole.

Shapes: T time steps, B batch, N = T*B positions (time major), E size of what enters the output layer, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from nextword.config import ModelParams
from nextword.models.cells import CellState
from nextword.models.output import SoftmaxOutput
from nextword.models.output_adaptive import AdaptiveSoftmaxOutput
from nextword.models.regularizers import EmbeddingDropout, build_dropout
from nextword.models.stack import RecurrentStack, StackOutput


class LanguageModel(nn.Module):
    """Base of all neural models. Subclasses give ``initial_state`` and ``hidden``."""

    left_to_right: ClassVar[bool] = True
    """Whether each prediction depends on earlier words alone, so that their product is the probability of a text."""
    eos_id: int
    """The token taken as read before a text begins."""
    embedding: nn.Embedding
    projection: nn.Module
    """From what the hidden part hands over to the embedding size, where a tied output layer needs it; else nothing."""
    output: SoftmaxOutput | AdaptiveSoftmaxOutput

    @property
    def engine(self) -> str:
        """What computes the hidden layers."""
        return "feed-forward"

    def _build_input(self, params: ModelParams, vocab_size: int) -> None:
        """Make ``embedding`` and its dropout."""
        self.embedding = nn.Embedding(vocab_size, params.embedding_size)
        self.dropout_embedding = EmbeddingDropout(params.dropout_embedding)
        rate = params.dropout if params.dropout_input is None else params.dropout_input
        self.dropout_input = build_dropout(rate, params.variational)

    def _build_output(self, params: ModelParams, vocab_size: int, width: int) -> None:
        """Make ``projection`` and ``output``, then draw the weights: embedding, output, projection, recurrent stacks.

        Args:
            params: sizes, tying, ``adaptive_softmax``, ``init_scale``.
            vocab_size: V.
            width: of what the hidden part hands over.
        """
        project = params.tie_weights and width != params.embedding_size
        self.projection = nn.Linear(width, params.embedding_size, bias=False) if project else nn.Identity()
        embedding = cast(nn.Parameter, self.embedding.weight)
        if params.adaptive_softmax is not None:
            self.output = AdaptiveSoftmaxOutput(vocab_size, width, params.adaptive_softmax)
        elif params.tie_weights:
            self.output = SoftmaxOutput(vocab_size, params.embedding_size, tied=embedding)
        else:
            self.output = SoftmaxOutput(vocab_size, width)
        nn.init.uniform_(embedding, -(params.init_scale or 0.1), params.init_scale or 0.1)
        self.output.initialize(params.init_scale)
        for weight in self.projection.parameters():
            nn.init.uniform_(weight, -(params.init_scale or width**-0.5), params.init_scale or width**-0.5)
        for part in self.children():
            if isinstance(part, RecurrentStack):
                part.initialize()

    def embed(self, tokens_TB: Tensor) -> Tensor:
        """Embeddings of the words after dropout, (T, B, embedding size)."""
        x: Tensor = self.dropout_input(self.dropout_embedding(self.embedding, tokens_TB))
        return x

    def _start(self, stack: RecurrentStack, batch: int) -> tuple[Tensor, tuple[CellState, ...]]:
        """The last word read, (B,), and the states of a stack at the start of a text."""
        last = torch.full((batch,), self.eos_id, dtype=torch.long, device=self.embedding.weight.device)
        return last, stack.zero_state(batch)

    def _read(
        self, stack: RecurrentStack, tokens_TB: Tensor, last: Tensor, layers: tuple[CellState, ...]
    ) -> StackOutput:
        """What a stack makes of the words before each token."""
        read: StackOutput = stack(self.embed(torch.cat([last[None], tokens_TB[:-1]])), layers)
        return read

    def initial_state(self, batch: int) -> Any:
        """State at the start of a text: nothing read but one ``<eos>``."""
        raise NotImplementedError

    def emptied(self, state: Any, columns_B: Tensor) -> Any:
        """The state with that of the layers zero in some columns, as at the start of a text; the last word stays.

        Args:
            state: with ``layers`` of fields (B, H).
            columns_B: which, as booleans.
        """
        return state._replace(layers=map_tensors(lambda x_BH: x_BH.masked_fill(columns_B[:, None], 0.0), state.layers))

    def hidden(self, tokens_TB: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Input of the output layer for the prediction of each token, (N, E), and the state after the last one."""
        raise NotImplementedError

    def operations_per_token(self) -> dict[str, int]:
        """Floating-point operations of the matrix products for one token forward (a multiply-add counts two).

        Of an adaptive softmax those of the whole distribution, though training computes no cluster without a target.
        """
        last = [p for part in (self.output, self.projection) for p in part.parameters() if p.dim() == 2]
        apart = {id(weight) for weight in [self.embedding.weight, *last]}
        hidden = 2 * sum(p.numel() for p in self.parameters() if p.dim() == 2 and id(p) not in apart)
        output = 2 * sum(weight.numel() for weight in last)
        return {"recurrent": hidden, "output": output, "total": hidden + output}

    def training_loss(self, tokens_TB: Tensor, state: Any) -> tuple[Tensor, Tensor | None, Any]:
        """What is differentiated.

        Returns:
            the sum of ``-log p`` over a window in nats; a penalty to add to its mean, or None; the state after it.
        """
        hidden_NE, state = self.hidden(tokens_TB, state)
        return self.output.sum_nats(hidden_NE, tokens_TB.reshape(-1)), None, state

    def score(self, tokens_TB: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Log-probability in nats of each token given all before it, (T, B), and the state after the last one."""
        hidden_NE, state = self.hidden(tokens_TB, state)
        return self.output.target_log_prob(hidden_NE, tokens_TB.reshape(-1)).view(tokens_TB.shape), state

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
        last = [*self.output.parameters(), *self.projection.parameters()]
        output = sum(p.numel() for p in last if p is not self.embedding.weight)
        return {"embedding": embedding, "recurrent": total - embedding - output, "output": output, "total": total}


def detach(state: Any) -> Any:
    """The same state without its history, so that back-propagation stops here."""
    return map_tensors(Tensor.detach, state)


def map_tensors(function: Callable[[Tensor], Tensor], state: Any) -> Any:
    """A state of the same shape, of what ``function`` makes of each tensor of ``state``, in order."""
    if isinstance(state, Tensor):
        return function(state)
    parts = [map_tensors(function, part) for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
