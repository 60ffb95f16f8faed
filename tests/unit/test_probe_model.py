"""All probes of one trained model, and the command line."""

import json
from pathlib import Path

import pytest
import torch
from probe_fixtures import encode

from nextword.__main__ import main
from nextword.config import ContextParams, EmbeddingParams, GradientParams, ModelParams, ProbeParams
from nextword.models import build_model
from nextword.probes.gradients import gradient_flow
from nextword.probes.model import describe_probe, figures, probe_model
from nextword.stage import run_stage
from nextword.text import load_ids
from nextword.training.artifacts import ModelDescription, load_model, save_model

WORDS = ("war", "peace", "tax", "house", "river", "bird", "old", "young", "sees", "hears")
PARAMS = ProbeParams(
    gradients=GradientParams(max_lag=6, positions=3),
    context=ContextParams(lengths=(1, 4, 16), targets=40),
    embeddings=EmbeddingParams(words=("war", "nowhere"), map_words=8, map_method="pca"),
)
SEED = 5


@pytest.fixture(scope="module")
def ids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("probe")
    texts = [
        "\n".join(" ".join(WORDS[(d + 3 * line + word * word) % len(WORDS)] for word in range(6)) for line in range(30))
        for d in range(3)
    ]
    return encode(folder, train=texts, valid=texts[:1], test=texts[1:]).folder


def save(folder: Path, ids: Path, tokenizer: str | None = None, seed: int = SEED, **params: object) -> Path:
    """A model as its training leaves it: other weights than those it began with."""
    corpus = load_ids(ids)
    size = {"embedding_size": 6, "hidden_size": 5}
    about = ModelParams.model_validate(size | params)
    torch.manual_seed(seed)
    model = build_model(about, corpus.vocab_size, corpus.eos_id)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.5)
    sha256 = tokenizer or corpus.tokenizer_sha256
    save_model(model, ModelDescription("mine", about, corpus.vocab_size, corpus.eos_id, sha256, seed), folder)
    return folder


def test_recurrent_model(ids: Path, tmp_path: Path) -> None:
    folder, seen = save(tmp_path, ids, kind="lstm"), []
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    report = probe_model([folder], ids, PARAMS, lambda done, of: seen.append((done, of)))
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
    assert (report["model"], report["kind"], report["split"]) == ("mine", "lstm", "test")
    (found,) = report["seeds"]
    assert found["seed"] == SEED
    assert report["left_out"] == {} and found["context"]["num_targets"] > 0
    assert [row["word"] for row in report["embeddings"]["neighbours"]] == ["war"]
    assert seen == sorted(seen) and seen[-1] == (400, 400) and len(seen) > 10
    torch.manual_seed(SEED)
    test = load_ids(ids)["test"]
    begun = build_model(ModelParams(kind="lstm", embedding_size=6, hidden_size=5), load_ids(ids).vocab_size, 0)
    assert found["gradients"]["initial"] == gradient_flow(begun, test, PARAMS.gradients, 0)
    assert found["gradients"]["trained"] == gradient_flow(load_model(folder), test, PARAMS.gradients, 0)
    assert found["gradients"]["initial"] != found["gradients"]["trained"]
    text = describe_probe(report)
    for part in (
        "mine (kind lstm",
        "layer 1  dh/dh",
        "dc/dc, through c alone",
        "effective length",
        "  war: ",
        "nowhere",
    ):
        assert part in text


def test_every_seed_is_measured_as_if_alone(ids: Path, tmp_path: Path) -> None:
    folders = [save(tmp_path / str(seed), ids, seed=seed, kind="gru") for seed in (3, 8, 4)]
    report = probe_model(folders, ids, PARAMS)
    alone = [probe_model([folder], ids, PARAMS) for folder in folders]
    assert [found["seed"] for found in report["seeds"]] == [3, 8, 4]
    assert report["seeds"] == [one["seeds"][0] for one in alone]
    assert report["embeddings"] == alone[0]["embeddings"] != alone[1]["embeddings"]
    growths = [found["gradients"]["trained"]["stack"]["growth"] for found in report["seeds"]]
    assert len(set(growths)) == 3 and figures(report)["gradient_growth_trained"] == pytest.approx(sum(growths) / 3)
    assert [f"seed {seed}) on test" in describe_probe(report) for seed in (3, 8, 4)] == [True] * 3


def test_a_figure_that_one_seed_lacks_is_no_mean(ids: Path, tmp_path: Path) -> None:
    report = probe_model([save(tmp_path / str(seed), ids, seed=seed, kind="rnn") for seed in (3, 8)], ids, PARAMS)
    tokens = [found["context"]["effective_length"] for found in report["seeds"]]
    tokens[0]["tokens"], tokens[1]["tokens"] = 4.0, 10.0
    assert figures(report)["effective_context_tokens"] == 7.0
    tokens[1]["tokens"] = float("inf")
    assert "effective_context_tokens" not in figures(report)


def test_bound_is_told(ids: Path, tmp_path: Path) -> None:
    report = probe_model([save(tmp_path, ids, kind="rnn", num_layers=2)], ids, PARAMS, split="valid")
    text = describe_probe(report)
    assert report["split"] == "valid" and text.count("^lag at the start: holds in 21 checks") == 2
    assert "dc/dc" not in text


@pytest.mark.parametrize(
    ("params", "missing"),
    [
        ({"kind": "nnlm", "window": 2}, {"gradients"}),
        ({"kind": "gru", "bidirectional": True}, {"gradients", "context"}),
    ],
)
def test_what_does_not_apply_is_left_out_with_its_reason(
    ids: Path, tmp_path: Path, params: dict[str, object], missing: set[str]
) -> None:
    report = probe_model([save(tmp_path, ids, **params)], ids, PARAMS)
    assert set(report["left_out"]) == missing and all(report["left_out"].values())
    (found,) = report["seeds"]
    assert found["gradients"] is None and (found["context"] is None) == ("context" in missing)
    text = describe_probe(report)
    assert "no gradients: " in text and ("no context: " in text) == ("context" in missing)


def test_another_tokenizer_is_refused(ids: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="trained with another tokenizer than"):
        probe_model([save(tmp_path, ids, tokenizer="other", kind="rnn")], ids, PARAMS)


def test_a_missing_file_of_questions_is_an_error_not_a_gap(ids: Path, tmp_path: Path) -> None:
    asked = PARAMS.model_copy(update={"embeddings": EmbeddingParams(analogies=str(tmp_path / "none.txt"))})
    with pytest.raises(ValueError, match=r"none\.txt"):
        probe_model([save(tmp_path / "model", ids, kind="rnn")], ids, asked)


def test_command_line(ids: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = save(tmp_path / "model", ids, kind="gru"), tmp_path / "new" / "probe.json"
    file = tmp_path / "params.yaml"
    file.write_text(
        "models: {gru: {kind: gru}}\n"
        "probe:\n  gradients: {max_lag: 5, positions: 2}\n  context: {lengths: [1, 4], targets: 20}\n"
        "  embeddings: {words: [war], map_words: 5, map_method: pca}\n"
    )
    main("probe", str(folder), "--ids", str(ids), "--split", "valid", "--params", str(file), "--out", str(out))
    printed = capsys.readouterr()
    assert "mine (kind gru, seed 5) on valid" in printed.out and str(out) in printed.out
    report = json.loads(out.read_text())
    trained = report["seeds"][0]["gradients"]["trained"]
    assert trained["max_lag"] == 5 and len(trained["positions"]) == 2
    assert report["split"] == "valid"


def test_command_line_says_what_is_wrong(
    ids: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["nextword", *arguments])
        with pytest.raises(SystemExit) as stop:
            run_stage(main)
        return stop.value.code, capsys.readouterr().err

    code, message = run("probe", str(tmp_path / "nowhere"), "--ids", str(ids))
    assert code == 1 and message.startswith("error: ") and "holds no trained model" in message
    code, message = run("probe", str(save(tmp_path / "model", ids, kind="rnn")), "--ids", str(tmp_path))
    assert code == 1 and message.startswith("error: ") and "dvc repro encode" in message
    (tmp_path / "ngram").mkdir()
    (tmp_path / "ngram" / "model.json").write_text('{"name": "ngram", "tokenizer_sha256": "0"}')
    code, message = run("probe", str(tmp_path / "ngram"), "--ids", str(ids))
    assert code == 1 and "holds no neural model; give a folder like models/lstm/seed-0" in message
    for wrong in ([], ["prob"], ["probe"], ["probe", str(tmp_path), "--split", "dev"]):
        code, message = run(*wrong)
        assert code == 2 and "usage: nextword" in message
