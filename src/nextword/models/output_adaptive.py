"""Output layer for large vocabularies: frequent types one by one, rare ones as members of clusters.

Shapes: N positions, E embedding size, V vocabulary size, S types of the head (its clusters not counted).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from nextword.models import output as plain
from nextword.models.output import SoftmaxOutput

DIVISOR = 4
"""Each cluster's vectors are so many times narrower than those before."""


class _Cluster(nn.Module):
    """Types ``first`` to ``end`` - 1, given that the word is one of them: ``softmax(W P h + b)``."""

    def __init__(self, first: int, end: int, embedding_size: int, width: int) -> None:
        super().__init__()
        self.first, self.end = first, end
        self.project = nn.Linear(embedding_size, width, bias=False)
        self.words = SoftmaxOutput(end - first, width)

    def log_prob(self, hidden_NE: Tensor) -> Tensor:
        """(N, end - first)."""
        return self.words.log_prob(self.project(hidden_NE))

    def split(self, places_N: Tensor) -> tuple[Tensor, ...]:
        """Parts of positions whose logits may be held at a time."""
        return torch.split(places_N, max(1, plain.CHUNK_LOGITS // (self.end - self.first)))


class AdaptiveSoftmaxOutput(nn.Module):
    """``p(w) = p_0(w)`` for the first c_1 types, ``p(w) = p_0(C_i) p_i(w)`` for those of cluster C_i.

    ``p_0 = softmax(W_0 h + b_0)`` is over the first c_1 types and the clusters, ``p_i = softmax(W_i P_i h + b_i)`` over
    the types c_i to c_{i+1} - 1, with ``P_i h`` of size E / 4^i. Probabilities are exact and sum to one whatever the
    order of the types; it is fast where the frequent ones come first, as those of tokenizers word and char do. Training
    and :meth:`target_log_prob` compute the clusters of their targets alone.

    Args:
        vocab_size: V.
        embedding_size: E, the size of what comes in.
        cutoffs: c_1 < c_2 < ... < V.

    Source: Grave, Joulin, Cissé, Grangier & Jégou, Efficient softmax approximation for GPUs (2017), section 4.
    """

    def __init__(self, vocab_size: int, embedding_size: int, cutoffs: Sequence[int]) -> None:
        super().__init__()
        self.vocab_size, self.num_short = vocab_size, cutoffs[0]
        """V and S."""
        self.head = SoftmaxOutput(cutoffs[0] + len(cutoffs), embedding_size)
        edges = zip(cutoffs, [*cutoffs[1:], vocab_size], strict=True)
        self.tails = nn.ModuleList(
            _Cluster(first, end, embedding_size, max(1, embedding_size // DIVISOR**number))
            for number, (first, end) in enumerate(edges, start=1)
        )

    @property
    def weight(self) -> nn.Parameter:
        """W_0; it lies where the whole layer does."""
        return self.head.weight

    def initialize(self, scale: float | None) -> None:
        """Draw all weights: of the head, then of each cluster; see :meth:`SoftmaxOutput.initialize`."""
        self.head.initialize(scale)
        for cluster in self._clusters():
            bound = scale or cluster.project.in_features**-0.5
            nn.init.uniform_(cluster.project.weight, -bound, bound)
            cluster.words.initialize(scale)

    def sum_nats(self, hidden_NE: Tensor, targets_N: Tensor) -> Tensor:
        """Sum of ``-log p(target)`` in nats, differentiable; a scalar."""
        entries_N, members = self._route(targets_N)
        total = self.head.sum_nats(hidden_NE, entries_N)
        for cluster, places in members:
            inside = targets_N[places] - cluster.first
            # also without targets: the gradients are zero then, where DDP would wait for missing ones
            total = total + cluster.words.sum_nats(cluster.project(hidden_NE[places]), inside)
        return total

    def log_prob(self, hidden_NE: Tensor) -> Tensor:
        """Log-probability of every type, (N, V)."""
        head = self.head.log_prob(hidden_NE)
        short, clusters = head[..., : self.num_short], head[..., self.num_short :]
        tails = [clusters[..., i, None] + cluster.log_prob(hidden_NE) for i, cluster in enumerate(self._clusters())]
        return torch.cat([short, *tails], dim=-1)

    def target_log_prob(self, hidden_NE: Tensor, targets_N: Tensor) -> Tensor:
        """Log-probability of each target in nats, (N,)."""
        entries_N, members = self._route(targets_N)
        log_prob = self.head.target_log_prob(hidden_NE, entries_N)
        for cluster, places in members:
            inside = targets_N[places] - cluster.first
            own = cluster.words.target_log_prob(cluster.project(hidden_NE[places]), inside)
            log_prob = log_prob.index_add(0, places, own)
        return log_prob

    def score(self, hidden_NE: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability of each target in nats, (N,), and how many types are more probable than it, (N,)."""
        size = max(1, plain.CHUNK_LOGITS // len(self.head.bias))
        parts = zip(torch.split(hidden_NE, size), torch.split(targets_N, size), strict=True)
        scores, ranks = zip(*(self._score(h, y) for h, y in parts), strict=True)
        return torch.cat(scores), torch.cat(ranks)

    def _score(self, hidden_NE: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
        entries_N, members = self._route(targets_N)
        head = self.head.log_prob(hidden_NE)
        score = head.gather(1, entries_N[:, None])[:, 0]
        rank = torch.zeros_like(targets_N)
        for cluster, places in members:
            for part in cluster.split(places):
                words = cluster.log_prob(hidden_NE[part])
                own = words.gather(1, (targets_N[part] - cluster.first)[:, None])
                score = score.index_add(0, part, own[:, 0])
                rank[part] = (words > own).sum(1)
        rank += (head[:, : self.num_short] > score[:, None]).sum(1)
        for entry, (cluster, places) in enumerate(members, start=self.num_short):
            bound = score - head[:, entry]
            above = bound < 0  # no type is more probable than its cluster: the others need not be looked at
            above[places] = False
            for part in cluster.split(above.nonzero()[:, 0]):
                rank[part] += (cluster.log_prob(hidden_NE[part]) > bound[part, None]).sum(1)
        return score, rank.masked_fill_(score.isnan(), self.vocab_size)

    def _route(self, targets_N: Tensor) -> tuple[Tensor, list[tuple[_Cluster, Tensor]]]:
        """The target of the head at each position, and each cluster with the positions whose targets are in it."""
        entries_N, members = targets_N, []
        for entry, cluster in enumerate(self._clusters(), start=self.num_short):
            inside = (targets_N >= cluster.first) & (targets_N < cluster.end)
            entries_N = torch.where(inside, entry, entries_N)
            members.append((cluster, inside.nonzero()[:, 0]))
        return entries_N, members

    def _clusters(self) -> list[_Cluster]:
        return [cast(_Cluster, cluster) for cluster in self.tails]
