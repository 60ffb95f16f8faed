"""What the input embeddings of a trained model hold: neighbours, analogies, similarities, a map.

Shapes: V vocabulary size, E embedding size, Q questions.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nextword.config.probes import EmbeddingParams
from nextword.models.language_model import LanguageModel
from nextword.probes.proportion import proportion
from nextword.text.ids import EncodedCorpus

Vectors = NDArray[np.float32]

QUESTIONS_AT_ONCE = 1 << 24
"""Cosines held at a time when analogies are answered."""
CONFIDENCE = 0.95


def embeddings(model: LanguageModel, corpus: EncodedCorpus, params: EmbeddingParams) -> dict[str, Any]:
    """Nearest neighbours, analogies, similarities and a 2-D map of the embeddings E(w).

    Types that stand for no word (``<eos>``, ``<unk>``) are never an answer.

    Args:
        model: any neural model.
        corpus: its vocabulary and tokenizer, and the train counts by which the words of the map are chosen.
        params: words, sizes, and files to ask from.

    Returns:
        ``vocab_size`` and ``embedding_size``; ``neighbours``: ``[{"word", "neighbours": [{"word", "cosine"}]}]``;
        ``missing``: words asked for that are no single type; ``analogies`` (:func:`answer_analogies`) and
        ``similarity`` (:func:`correlate_similarities`), None where no file is given; ``map`` (:func:`word_map`).

    Raises:
        ValueError: a file is missing or has a line that is not in its format.
    """
    table_VE = model.embedding.weight.detach().float().cpu().numpy()
    space = WordSpace(table_VE, corpus)
    found = space.find(params.words)
    return {
        "vocab_size": corpus.vocab_size,
        "embedding_size": table_VE.shape[1],
        "neighbours": [
            {"word": word, "neighbours": space.neighbours(index, params.neighbours)}
            for word, index in found.items()
            if index is not None
        ],
        "missing": [word for word, index in found.items() if index is None],
        "analogies": None if params.analogies is None else answer_analogies(space, Path(params.analogies)),
        "similarity": None if params.similarity is None else correlate_similarities(space, Path(params.similarity)),
        "map": word_map(space, params.map_words, params.map_method),
    }


class WordSpace:
    """Embeddings of length one, and the words they belong to.

    Args:
        table_VE: embeddings, one row a type.
        corpus: vocabulary and tokenizer.
    """

    def __init__(self, table_VE: Vectors, corpus: EncodedCorpus) -> None:
        norms = np.linalg.norm(table_VE, axis=1, keepdims=True)
        self.unit_VE = table_VE / np.maximum(norms, np.finfo(np.float32).tiny)
        self.corpus = corpus
        self.nameless = [i for i in (corpus.eos_id, corpus.unk_id) if i is not None]
        """Types that stand for no word."""

    def find(self, words: tuple[str, ...] | list[str]) -> dict[str, int | None]:
        """The type of each word, written as the tokenizer writes it; None where it is unknown or several types."""
        encoded = self.corpus.tokenizer.encode_batch(list(words), add_special_tokens=False)
        single = (one.ids[0] if len(one.ids) == 1 else None for one in encoded)
        return {w: None if i in self.nameless else i for w, i in zip(words, single, strict=True)}

    def neighbours(self, index: int, count: int) -> list[dict[str, Any]]:
        """The types with the largest cosine to one, largest first."""
        cosine_V = self.unit_VE @ self.unit_VE[index]
        cosine_V[[index, *self.nameless]] = -np.inf
        best = np.argsort(-cosine_V, kind="stable")[: min(count, len(cosine_V) - 1 - len(self.nameless))]
        return [{"word": self.corpus.vocabulary[i], "cosine": float(cosine_V[i])} for i in best]


def answer_analogies(space: WordSpace, path: Path) -> dict[str, Any]:
    """Questions ``a : b = c : ?`` by 3CosAdd and 3CosMul (Levy & Goldberg 2014, equations 3 and 4).

    ``add``: argmax of cos(d, b) - cos(d, a) + cos(d, c); ``mul``: argmax of cos(d, b) cos(d, c) / (cos(d, a) + 0.001)
    with cosines moved to [0, 1]; never a, b or c. A question is covered where all four words are types.

    Args:
        space: embeddings.
        path: in the format of questions-words.txt: sections ``: name``, lines ``a b c d``.

    Returns:
        ``file``; ``sections``: a list of ``{"name", "questions", "covered", "add", "mul"}``, where ``add`` and ``mul``
        are ``{"correct", "accuracy", "low", "high"}`` (Wilson) or None with nothing covered; ``total``: the same over
        all, ``semantic`` and ``syntactic`` (sections called ``gram...``) over their sections; ``candidates``, the
        number of answers to choose from.

    Raises:
        ValueError: the file is missing or a line has not four words.
    """
    sections = read_analogies(path)
    words = sorted({word for questions in sections.values() for question in questions for word in question})
    found = space.find(words)
    rows: list[dict[str, Any]] = []
    for name, questions in sections.items():
        types = [[found[word] for word in question] for question in questions]
        covered = np.array([q for q in types if None not in q], dtype=np.int64).reshape(-1, 4)
        answers = answer(space, covered[:, :3])
        right = {rule: int((answers[rule] == covered[:, 3]).sum()) for rule in answers}
        rows.append({"name": name, "questions": len(questions), "covered": len(covered), **right})

    def summarize(part: list[dict[str, Any]], name: str) -> dict[str, Any]:
        asked, covered = (sum(row[key] for row in part) for key in ("questions", "covered"))
        correct = {rule: sum(row[rule] for row in part) for rule in ("add", "mul")}
        shares = {rule: _accuracy(count, covered) if covered else None for rule, count in correct.items()}
        return {"name": name, "questions": asked, "covered": covered, **shares}

    return {
        "file": path.name,
        "candidates": len(space.unit_VE) - len(space.nameless) - 3,
        "sections": [summarize([row], row["name"]) for row in rows],
        "total": summarize(rows, "total"),
        "semantic": summarize([row for row in rows if not row["name"].startswith("gram")], "semantic"),
        "syntactic": summarize([row for row in rows if row["name"].startswith("gram")], "syntactic"),
    }


def read_analogies(path: Path) -> dict[str, list[list[str]]]:
    """Questions by section.

    Raises:
        ValueError: the file is missing or a line has not four words.
    """
    sections: dict[str, list[list[str]]] = {}
    name = ""
    for number, line in _lines(path, "probe.embeddings.analogies"):
        if line.startswith(":"):
            name = line[1:].strip()
            continue
        words = line.split()
        if len(words) != 4:
            raise ValueError(f"{path}, line {number}: {line!r} has {len(words)} words; a question has four: a b c d")
        sections.setdefault(name, []).append(words)
    return sections


def answer(space: WordSpace, questions_Q3: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """The answers (Q,) to ``a : b = c : ?`` under each rule, ``add`` and ``mul``."""
    answers: dict[str, list[NDArray[np.int64]]] = {"add": [], "mul": []}
    size = max(1, QUESTIONS_AT_ONCE // len(space.unit_VE))
    for start in range(0, len(questions_Q3), size):
        part = questions_Q3[start : start + size]
        a, b, c = (space.unit_VE[part[:, i]] @ space.unit_VE.T for i in range(3))
        add = b - a + c
        mul = (1 + b) * (1 + c) / ((1 + a) / 2 + 0.001)  # a constant factor apart from the definition
        for rule, score_QV in (("add", add), ("mul", mul)):
            np.put_along_axis(score_QV, part, -np.inf, axis=1)
            score_QV[:, space.nameless] = -np.inf
            answers[rule].append(score_QV.argmax(1))
    return {rule: np.concatenate([np.empty(0, np.int64), *found]) for rule, found in answers.items()}


def correlate_similarities(space: WordSpace, path: Path) -> dict[str, Any]:
    """Spearman's rho between the cosines of word pairs and what people said of them.

    Args:
        space: embeddings.
        path: lines ``word word score``, separated by spaces, tabs, commas or semicolons; a first line without a number
            is a heading, and lines from ``#`` on are left out.

    Returns:
        ``file``, ``pairs``, ``covered`` and ``spearman`` with ``low`` and ``high`` (Bonett & Wright 2000: Fisher's z
        with variance ``(1 + rho^2 / 2) / (n - 3)``); None where too few pairs are covered.

    Raises:
        ValueError: the file is missing or a line is not in its format.
    """
    pairs = read_similarities(path)
    found = space.find(sorted({word for first, second, _ in pairs for word in (first, second)}))
    covered = [(found[a], found[b], score) for a, b, score in pairs if found[a] is not None and found[b] is not None]
    rho = low = high = None
    if len({score for *_, score in covered}) > 1:
        from scipy.special import ndtri
        from scipy.stats import spearmanr

        first, second = (np.array([row[i] for row in covered], dtype=np.int64) for i in range(2))
        cosines = (space.unit_VE[first] * space.unit_VE[second]).sum(1)
        if np.ptp(cosines) > 0:
            rho = float(spearmanr(cosines, [row[2] for row in covered]).statistic)
            if len(covered) > 3 and abs(rho) < 1:
                half = ndtri((1 + CONFIDENCE) / 2) * math.sqrt((1 + rho**2 / 2) / (len(covered) - 3))
                low, high = (math.tanh(math.atanh(rho) + side * half) for side in (-1, 1))
    return {
        "file": path.name,
        "pairs": len(pairs),
        "covered": len(covered),
        "spearman": rho,
        "low": low,
        "high": high,
    }


def read_similarities(path: Path) -> list[tuple[str, str, float]]:
    """Word, word and score.

    Raises:
        ValueError: the file is missing or a line is not in its format.
    """
    pairs: list[tuple[str, str, float]] = []
    for number, line in _lines(path, "probe.embeddings.similarity"):
        parts = line.replace(",", " ").replace(";", " ").split()
        try:
            first, second, score = parts[0], parts[1], float(parts[2])
        except (IndexError, ValueError):
            if pairs or number > 1:
                raise ValueError(f"{path}, line {number}: {line!r} is not `word word score`") from None
            continue
        pairs.append((first, second, score))
    return pairs


def word_map(space: WordSpace, count: int, method: Literal["tsne", "pca"]) -> dict[str, Any]:
    """The most frequent words in two dimensions.

    ``pca``: the first two principal components of the embeddings of length one. ``tsne``: started from those, t-SNE of
    cosine distances (van der Maaten & Hinton 2008), so that the same embeddings give the same map.

    Returns:
        ``method``; ``words``: ``[{"word", "x", "y", "count"}]``; ``explained_share``, the variance in the first two
        components; ``trustworthiness`` of t-SNE, the share of neighbourhoods that are kept (Venna & Kaski 2001; 1 is
        all, about 0.5 chance), else None. Fewer than four words have no map: ``words`` is empty.
    """
    counts = space.corpus.train_counts
    named = [i for i in np.argsort(-counts, kind="stable") if i not in space.nameless and counts[i] > 0]
    chosen = [i for i in named if any(map(str.isalpha, space.corpus.vocabulary[i]))][:count]
    if len(chosen) < 4:
        return {"method": method, "words": [], "explained_share": None, "trustworthiness": None}
    unit = space.unit_VE[chosen].astype(np.float64)
    left, scale, _ = np.linalg.svd(unit - unit.mean(0), full_matrices=False)
    flat, kept = left[:, :2] * scale[:2], None
    if method == "tsne":
        from sklearn.manifold import TSNE, trustworthiness  # slow to load

        neighbourhood = min(15.0, (len(chosen) - 1) / 3)
        flat = TSNE(perplexity=neighbourhood, metric="cosine", init="pca", random_state=0).fit_transform(unit)
        kept = float(trustworthiness(unit, flat, n_neighbors=min(5, (len(chosen) - 1) // 2), metric="cosine"))
    return {
        "method": method,
        "words": [
            {"word": space.corpus.vocabulary[i], "x": float(x), "y": float(y), "count": int(counts[i])}
            for i, (x, y) in zip(chosen, flat, strict=True)
        ],
        "explained_share": float(np.square(scale[:2]).sum() / np.square(scale).sum()),
        "trustworthiness": kept,
    }


def _accuracy(correct: int, covered: int) -> dict[str, float]:
    share = proportion(correct, covered)
    return {"correct": correct, "accuracy": share["rate"], "low": share["low"], "high": share["high"]}


def _lines(path: Path, key: str) -> list[tuple[int, str]]:
    """Numbered lines that hold something."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist; give {key} an existing file, or null to leave it out") from None
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), start=1))
    return [(number, line) for number, line in lines if line and not line.startswith("#")]
