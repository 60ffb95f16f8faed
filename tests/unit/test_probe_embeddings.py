"""Embeddings placed by hand: neighbours, analogies under both rules, correlations, the map."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from probe_fixtures import encode

from nextword.config import ModelParams
from nextword.config.probes import EmbeddingParams
from nextword.models import build_model
from nextword.models.language_model import LanguageModel
from nextword.probes.embeddings import (
    WordSpace,
    answer,
    answer_analogies,
    correlate_similarities,
    embeddings,
    word_map,
)
from nextword.text import EncodedCorpus

VECTORS = {
    "man": [1, 0, 0, 0.1],
    "woman": [1, 1, 0, 0.1],
    "king": [1, 0, 1, 0.1],
    "queen": [1, 1, 1, 0.1],
    "apple": [-1, 0.2, -0.1, 1],
    "pear": [-1, 0.1, -0.2, 1],
    ",": [5, -5, -5, 5],
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> EncodedCorpus:
    text = "man man man man man woman woman woman woman king king king queen queen apple pear , , , ,"
    return encode(tmp_path_factory.mktemp("words"), train=[text], valid=["king"], test=["king"])


@pytest.fixture(scope="module")
def model(corpus: EncodedCorpus) -> LanguageModel:
    torch.manual_seed(0)
    params = ModelParams(kind="gru", embedding_size=4, hidden_size=4)
    model = build_model(params, corpus.vocab_size, corpus.eos_id)
    with torch.no_grad():
        model.embedding.weight.copy_(torch.tensor([VECTORS.get(word, [0, 0, 0, 9]) for word in corpus.vocabulary]))
    return model


@pytest.fixture
def space(model: LanguageModel, corpus: EncodedCorpus) -> WordSpace:
    return WordSpace(model.embedding.weight.detach().numpy(), corpus)


def test_neighbours(model: LanguageModel, corpus: EncodedCorpus) -> None:
    params = EmbeddingParams(words=("Apple", "king", "zebra", "two words", "<unk>"), neighbours=2, map_method="pca")
    report = embeddings(model, corpus, params)
    assert report["missing"] == ["zebra", "two words", "<unk>"]
    apple, king = report["neighbours"]
    assert apple["word"] == "Apple" and apple["neighbours"][0]["word"] == "pear"
    assert apple["neighbours"][0]["cosine"] == pytest.approx(2.04 / 2.05, rel=1e-6)
    assert [n["word"] for n in king["neighbours"]] == ["queen", "man"]
    assert king["neighbours"][0]["cosine"] == pytest.approx(2.01 / math.sqrt(2.01 * 3.01), rel=1e-6)
    assert report["analogies"] is None and report["similarity"] is None
    assert report["embedding_size"] == 4 and report["vocab_size"] == corpus.vocab_size
    json.dumps(report, allow_nan=False)
    everything = embeddings(model, corpus, EmbeddingParams(words=("king",), neighbours=99, map_method="pca"))
    listed = {n["word"] for n in everything["neighbours"][0]["neighbours"]}
    assert listed == set(VECTORS) - {"king"}  # neither itself nor <eos> and <unk>


def test_answers_equal_the_definitions(space: WordSpace) -> None:
    """Both rules by loops over random embeddings."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=space.unit_VE.shape).astype(np.float32)
    other = WordSpace(table, space.corpus)
    words = [i for i in range(len(table)) if i not in other.nameless]
    questions = np.array([rng.choice(words, 3, replace=False) for _ in range(200)])
    found = answer(other, questions)

    def cosine(i: int, j: int) -> float:
        return float(table[i] @ table[j] / np.linalg.norm(table[i]) / np.linalg.norm(table[j]))

    different = 0
    for row, (a, b, c) in enumerate(questions):
        add, mul = {}, {}
        for d in set(words) - {a, b, c}:
            add[d] = cosine(d, b) - cosine(d, a) + cosine(d, c)
            x, y, z = ((1 + cosine(d, i)) / 2 for i in (b, c, a))
            mul[d] = x * y / (z + 0.001)
        assert found["add"][row] == max(add, key=add.__getitem__)
        assert found["mul"][row] == max(mul, key=mul.__getitem__)
        different += found["add"][row] != found["mul"][row]
    assert different > 0  # the rules are two


def test_analogies(space: WordSpace, tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_text(
        ": family\nman woman King queen\nking queen man woman\nman king woman queen\nman woman uncle aunt\n"
        "man king apple pear\n: gram1-opposite\nman pear king apple\n: gram2-empty\nbig bigger small smaller\n"
    )
    report = answer_analogies(space, path)
    family, opposite, empty = report["sections"]
    assert (family["name"], family["questions"], family["covered"]) == ("family", 5, 4)
    assert family["add"]["correct"] == family["mul"]["correct"] == 4
    assert family["add"]["low"] == pytest.approx(4 / (4 + 1.959964**2), rel=1e-5)  # Wilson with all correct
    assert family["add"]["high"] == pytest.approx(1.0)
    assert (opposite["covered"], empty["covered"], empty["add"], empty["mul"]) == (1, 0, None, None)
    assert report["semantic"] == family | {"name": "semantic"}
    assert (report["syntactic"]["questions"], report["syntactic"]["covered"]) == (2, 1)
    assert (report["total"]["questions"], report["total"]["covered"]) == (7, 5)
    assert report["total"]["add"]["correct"] == 4 + opposite["add"]["correct"]
    assert report["candidates"] == len(VECTORS) - 3


def test_similarities(space: WordSpace, tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    heading = "Word 1,Word 2,Human (mean)\n# a remark\n"
    path.write_text(heading + "apple,pear,9.5\nking,queen,8\nman;apple;0.5\nking zebra 3\n")
    report = correlate_similarities(space, path)
    assert (report["pairs"], report["covered"], report["spearman"]) == (4, 3, pytest.approx(1.0))
    assert report["low"] is None
    lines = ["apple\tpear\t1", "king queen 3", "man woman 2", "woman king 4", "woman apple 5", "man apple 6"]
    path.write_text("\n".join(lines))
    report = correlate_similarities(space, path)
    words = [line.split()[:2] for line in lines]
    cosines = [float(np.dot(*(np.array(VECTORS[w]) / np.linalg.norm(VECTORS[w]) for w in pair))) for pair in words]
    scores = [int(line.split()[2]) for line in lines]
    rho = np.corrcoef(np.argsort(np.argsort(cosines)), scores)[0, 1]  # no ties
    assert report["spearman"] == pytest.approx(rho)
    half = 1.959964 * math.sqrt((1 + rho**2 / 2) / 3)
    assert report["low"] == pytest.approx(math.tanh(math.atanh(rho) - half), rel=1e-5)
    assert report["high"] == pytest.approx(math.tanh(math.atanh(rho) + half), rel=1e-5)


def test_wrong_files(space: WordSpace, tmp_path: Path) -> None:
    missing = tmp_path / "none.txt"
    with pytest.raises(ValueError, match=r"none\.txt does not exist; give probe\.embeddings\.analogies"):
        answer_analogies(space, missing)
    path = tmp_path / "wrong.txt"
    path.write_text(": section\na b c\n")
    with pytest.raises(ValueError, match=r"line 2: 'a b c' has 3 words"):
        answer_analogies(space, path)
    path.write_text("a b 1\na b one\n")
    with pytest.raises(ValueError, match=r"line 2: 'a b one' is not"):
        correlate_similarities(space, path)


def test_map_of_principal_components(space: WordSpace) -> None:
    found = word_map(space, 6, "pca")
    words = [row["word"] for row in found["words"]]
    assert words == ["man", "woman", "king", "queen", "apple", "pear"]  # by count, without the comma
    assert [row["count"] for row in found["words"]] == [5, 4, 3, 2, 1, 1]
    flat = np.array([[row["x"], row["y"]] for row in found["words"]])
    unit = np.array([np.array(VECTORS[w]) / np.linalg.norm(VECTORS[w]) for w in words])
    values = np.linalg.eigvalsh(np.cov(unit.T, bias=True))[::-1]
    np.testing.assert_allclose(flat.var(0), values[:2], rtol=1e-5)
    assert found["explained_share"] == pytest.approx(values[:2].sum() / values.sum(), rel=1e-5)
    assert word_map(space, 3, "pca")["words"] == []


def test_map_by_tsne_keeps_neighbours_and_is_the_same_again(corpus: EncodedCorpus) -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(corpus.vocab_size, 4)).astype(np.float32)
    found = word_map(WordSpace(table, corpus), 6, "tsne")
    assert found == word_map(WordSpace(table, corpus), 6, "tsne")
    assert len(found["words"]) == 6 and 0 <= found["trustworthiness"] <= 1
    assert np.isfinite([[row["x"], row["y"]] for row in found["words"]]).all()


def test_google_questions(space: WordSpace) -> None:
    path = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "analogy" / "questions-words.txt"
    if not path.exists():
        pytest.skip(f"needs questions-words.txt (Mikolov et al. 2013) at {path}")
    report = answer_analogies(space, path)
    assert len(report["sections"]) == 14
    assert [report[key]["questions"] for key in ("total", "semantic", "syntactic")] == [19_544, 8_869, 10_675]
    family = next(row for row in report["sections"] if row["name"] == "family")
    assert (family["questions"], family["covered"]) == (506, 2)  # man woman king queen, and the other way
    assert family["add"]["correct"] == family["mul"]["correct"] == 2
