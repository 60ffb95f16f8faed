"""The command line on tiny trained models: n-gram, recurrent, bidirectional; folders and MLflow's URIs."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from nextword.__main__ import main
from nextword.config import ModelParams, NgramParams, TrackingParams
from nextword.evaluation.neural import score_split
from nextword.evaluation.ngrams import study_ngrams
from nextword.models import build_model
from nextword.models.language_model import LanguageModel
from nextword.text import load_ids
from nextword.tracking import ensure_store, stage_run
from nextword.training import artifacts
from nextword.training.artifacts import ModelDescription, load_model, save_model

ROOT = Path(__file__).resolve().parents[2]
KINDS = {"gru": {"kind": "gru"}, "nnlm": {"kind": "nnlm", "window": 2}, "bi": {"kind": "lstm", "bidirectional": True}}


class Project(NamedTuple):
    """A folder with models, ids and a text."""

    folder: Path
    test: Path


@pytest.fixture(scope="module")
def project(tiny_ids: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("project")
    corpus = load_ids(tiny_ids)
    shutil.copytree(tiny_ids, folder / "data" / "ids")
    shutil.copytree(tiny_ids.parent / "corpus", folder / "data" / "corpus")
    study_ngrams(
        NgramParams(max_order=3, smoothings=("jelinek_mercer",)), tiny_ids, folder / "models" / "ngram", folder / "nats"
    )
    for seed, (name, kind) in enumerate(KINDS.items()):
        torch.manual_seed(seed)
        params = ModelParams(**kind, embedding_size=8, hidden_size=8)
        about = ModelDescription(name, params, corpus.vocab_size, corpus.eos_id, corpus.tokenizer_sha256, 0)
        model = build_model(params, corpus.vocab_size, corpus.eos_id)
        for weight in model.parameters():
            torch.nn.init.uniform_(weight, -0.9, 0.9)
        save_model(model, about, folder / "models" / name / "seed-0")
    return Project(folder, folder / "data" / "corpus" / "test.txt")


@pytest.fixture(autouse=True)
def inside(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def shell(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nextword", *arguments]
    environment = os.environ | {"PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT / "src"))}
    return subprocess.run(command, input=given, capture_output=True, text=True, env=environment, timeout=120)


@pytest.mark.parametrize("name", ["gru/seed-0", "nnlm/seed-0", "bi/seed-0", "ngram"])
def test_perplexity_is_that_of_the_evaluation(name: str, project: Project, tmp_path: Path) -> None:
    main("perplexity", f"models/{name}", str(project.test), "--out", str(tmp_path / "out.json"))
    report = json.loads((tmp_path / "out.json").read_text())
    corpus = load_ids(Path("data/ids"))
    split = corpus["test"]
    assert report["num_documents"] == split.num_documents > 1
    assert [report[key] for key in ("num_targets", "num_lines", "num_bytes", "num_oov")] == [
        split.num_tokens, split.num_lines, split.num_bytes, split.num_oov
    ]  # fmt: skip
    for protocol in ("stateful", "reset"):
        if name == "ngram":
            best = json.loads(Path("models/ngram/model.json").read_text())["name"]
            nats = np.load(f"nats/{best}.test.reset.npy")
        else:
            nats, _ = score_split(load_model(Path("models") / name), split, protocol, 7)
        total = nats.astype(np.float64).sum()
        assert report[protocol]["nats"] == pytest.approx(total, rel=1e-6)
        assert report[protocol]["perplexity"] == pytest.approx(math.exp(total / split.num_tokens), rel=1e-5)
        assert report[protocol]["bits_per_byte"] == pytest.approx(total / math.log(2) / split.num_bytes, rel=1e-6)
    assert (report["stateful"] == report["reset"]) == (name == "ngram")


def test_a_gpu_is_used_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in loads the model where there is none."""
    places: list[str] = []

    def load(folder: Path, device: str) -> LanguageModel:
        places.append(device)
        return load_model(folder)

    monkeypatch.setattr(artifacts, "load_model", load)
    for gpus in (1, 0):
        monkeypatch.setattr(torch.cuda, "device_count", lambda gpus=gpus: gpus)
        main("neighbours", "models/gru/seed-0", "cat")
        main("neighbours", "models/gru/seed-0", "cat", "--device", "cpu")
    assert places == ["cuda", "cpu", "cpu", "cpu"]
    with pytest.raises(ValueError, match=r"cuda was asked for .* no GPU was found; take auto or cpu"):
        main("neighbours", "models/gru/seed-0", "cat", "--device", "cuda")


def test_oov_blank_lines_and_documents(project: Project, tmp_path: Path) -> None:
    text = tmp_path / "own.txt"
    text.write_text("\n  the cat sees the zebra  \n\n\na dog\r\na bird\n\n", encoding="utf-8")

    def report(*more: str) -> dict[str, float]:
        main("perplexity", "models/gru/seed-0", str(text), "--out", str(tmp_path / "out.json"), *more)
        return json.loads((tmp_path / "out.json").read_text())

    whole = report()
    assert [whole[key] for key in ("num_documents", "num_lines", "num_targets", "num_oov")] == [2, 3, 12, 1]
    assert whole["oov_rate"] == pytest.approx(1 / 9)
    assert whole["num_bytes"] == len("the cat sees the zebra\na dog\na bird\n")
    assert report("--documents", "file")["num_documents"] == 1
    lines = report("--documents", "line")
    assert lines["num_documents"] == 3 and lines["stateful"] == lines["reset"] == whole["reset"] != whole["stateful"]


def test_score_of_a_file_and_of_standard_input(project: Project) -> None:
    text = "the cat sees a dog .\n\n  a zebra\n"
    Path("lines.txt").write_text(text)
    for model in ("models/gru/seed-0", "models/ngram"):
        done = shell("score", model, given=text)
        assert done.returncode == 0, done.stderr
        assert done.stdout == shell("score", model, "lines.txt").stdout
        head, *rows = (row.split("\t") for row in done.stdout.splitlines())
        assert head == ["log_prob_nats", "perplexity", "tokens", "line"]
        assert [(int(row[2]), row[3]) for row in rows] == [(7, "the cat sees a dog ."), (1, ""), (3, "a zebra")]
        for log_prob, perplexity, tokens, _ in rows:
            assert float(perplexity) == pytest.approx(math.exp(-float(log_prob) / int(tokens)), abs=1e-3)
        assert re.search(r"3 lines, 11 tokens, perplexity .* lines/s, .* tokens/s", done.stderr)
    assert shell("score", "models/ngram").stdout.count("\n") == 1


def test_generate(capsys: pytest.CaptureFixture[str]) -> None:
    def text(*arguments: str) -> str:
        main("generate", *arguments)
        return capsys.readouterr().out

    for model in ("models/gru/seed-0", "models/nnlm/seed-0", "models/ngram"):
        first = text(model, "the zebra", "--tokens", "12", "--seed", "1")
        assert first.startswith("the <unk>") and "<unk>" not in first[9:]
        assert first == text(model, "the zebra", "--tokens", "12", "--seed", "1")
        assert first != text(model, "the zebra", "--tokens", "12", "--seed", "2")
        greedy = text(model, "the", "--tokens", "5", "--temperature", "0")
        assert greedy == text(model, "the", "--tokens", "5", "--top-k", "1", "--seed", "9")
        assert greedy == text(model, "the", "--tokens", "5", "--top-p", "0.0001", "--seed", "9")
        several = text(model, "the", "--tokens", "5", "--count", "3")
        assert re.findall(r"^--- (\d)$", several, re.MULTILINE) == ["1", "2", "3"]


def test_words(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    main("neighbours", "models/gru/seed-0", "cat", "Dog", "--count", "3")
    rows = capsys.readouterr().out.splitlines()
    assert [row.split(":")[0] for row in rows] == ["cat", "Dog"]
    corpus = load_ids(Path("data/ids"))
    table_VE = load_model(Path("models/gru/seed-0")).embedding.weight.detach().numpy()
    unit_VE = table_VE / np.linalg.norm(table_VE, axis=1, keepdims=True)
    cosine_V = unit_VE @ unit_VE[corpus.vocabulary.index("cat")]
    cosine_V[[0, 1, corpus.vocabulary.index("cat")]] = -2
    best = np.argsort(-cosine_V)[:3]
    assert rows[0] == "cat: " + ", ".join(f"{corpus.vocabulary[i]} {cosine_V[i]:.2f}" for i in best)
    main("analogy", "models/gru/seed-0", "cat", "dog", "bird")
    rows = capsys.readouterr().out.splitlines()
    a, b, c = (unit_VE[corpus.vocabulary.index(word)] for word in ("cat", "dog", "bird"))
    add_V = unit_VE @ (b - a + c)
    add_V[[0, 1, *map(corpus.vocabulary.index, ("cat", "dog", "bird"))]] = -9
    assert rows[0] == f"cat : dog = bird : {corpus.vocabulary[add_V.argmax()]}  (3CosAdd)"
    assert rows[1].endswith("(3CosMul)")


def test_compare(project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("nextword.evaluation.bootstrap")
    text, out = str(project.test), str(tmp_path / "out.json")

    def report(*arguments: str) -> dict[str, dict[str, float]]:
        main("compare", *arguments, text, "--out", out)
        return json.loads(Path(out).read_text())

    two = report("models/ngram", "models/gru/seed-0")
    assert two["blocks"] == "lines"  # the text has few documents
    assert two["reset"]["ratio"] == pytest.approx(two["reset"]["a"] / two["reset"]["b"])
    assert two["reset"]["ratio_low"] < two["reset"]["ratio"] < two["reset"]["ratio_high"] < 1
    assert "A is better" in capsys.readouterr().out
    other = report("models/gru/seed-0", "models/ngram")
    assert other["reset"]["nats"] == pytest.approx(-two["reset"]["nats"])
    same = report("models/gru/seed-0", "models/gru/seed-0", "--block-tokens", "50")
    assert same["stateful"]["low"] == same["stateful"]["high"] == 0
    fine, coarse = (report("models/ngram", "models/nnlm/seed-0", "--block-tokens", n) for n in ("20", "400"))
    assert fine["num_blocks"] > coarse["num_blocks"]


ERRORS = {
    "no model": (["generate", "data"], "data holds no trained model"),
    "folder of seeds": (["generate", "models/gru"], "holds the seeds seed-0; give one of them, e.g. models/gru/seed-0"),
    "bidirectional": (["generate", "models/bi/seed-0", "a"], "cannot continue a text"),
    "count": (["generate", "models/ngram", "--count", "0"], "count is 0; give at least 1"),
    "number": (["generate", "models/ngram", "--top-p", "2"], "top_p is 2.0; give"),
    "no file": (["score", "models/ngram", "nowhere.txt"], "nowhere.txt is no file"),
    "no text": (["perplexity", "models/ngram", "empty.txt"], "empty.txt holds no text"),
    "not UTF-8": (["perplexity", "models/ngram", "latin.txt"], "latin.txt is not UTF-8"),
    "word": (["neighbours", "models/gru/seed-0", "hose"], "'hose' is not in the vocabulary .*; near it are house"),
    "two words": (["neighbours", "models/gru/seed-0", "cat dog"], "is no single type .* but 2: cat dog"),
    "no embeddings": (["analogy", "models/ngram", "a", "b", "c"], "an n-gram model has no embeddings"),
    "no ids": (["score", "models/ngram", "--ids", "models"], "models has no tokenizer.json and no meta.json"),
    "no store": (["score", "models:/gru/1"], "no MLflow store"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_say_what_to_do(case: str) -> None:
    Path("empty.txt").write_text("\n \n")
    Path("latin.txt").write_bytes(b"caf\xe9\n")
    arguments, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        main(*arguments)


@pytest.mark.parametrize("model", ["models/gru/seed-0", "models/ngram"])
def test_another_tokenizer(model: str, project: Project, tmp_path: Path) -> None:
    meta = json.loads(Path("data/ids/meta.json").read_text())
    shutil.copy("data/ids/tokenizer.json", tmp_path)
    (tmp_path / "meta.json").write_text(json.dumps(meta | {"tokenizer_sha256": "0" * 64}))
    with pytest.raises(ValueError, match=r"was trained with tokenizer .*; give the ids folder"):
        main("perplexity", model, str(project.test), "--ids", str(tmp_path))


def test_an_n_gram_model_saved_by_hand_must_have_the_size_of_the_tokenizer(project: Project, tmp_path: Path) -> None:
    shutil.copytree("models/ngram", tmp_path / "ngram")
    (tmp_path / "ngram" / "model.json").unlink()
    main("perplexity", str(tmp_path / "ngram"), str(project.test))
    meta = json.loads(Path("data/ids/meta.json").read_text())
    shutil.copy("data/ids/tokenizer.json", tmp_path)
    (tmp_path / "meta.json").write_text(json.dumps(meta | {"vocab_size": 99}))
    with pytest.raises(ValueError, match=r"types, the tokenizer in .* 99"):
        main("perplexity", str(tmp_path / "ngram"), str(project.test), "--ids", str(tmp_path))


def test_models_of_mlflow(project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(project.folder, tmp_path / "copy")
    os.chdir(tmp_path / "copy")  # `inside` goes back
    with stage_run(TrackingParams(), "train", {}, Path("run.json")) as run:
        for name, folder in (("gru", "models/gru/seed-0"), ("ngram", "models/ngram")):
            uri = run.log_model(name, Path(folder), Path("data/ids"))
            assert uri == f"models:/{name}/1"
        draft = run.log_model("draft", Path("models/nnlm/seed-0"), Path("data/ids"), register=False)
    client = ensure_store().client()
    client.set_registered_model_alias("gru", "best", "1")
    (tmp_path / "other").mkdir()
    client.create_model_version("gru", (tmp_path / "other").as_uri(), run.run_id)  # version 2, logged by someone else
    del client

    shutil.move(tmp_path / "copy", tmp_path / "moved")
    os.chdir(tmp_path / "moved")
    shutil.rmtree("data/ids")  # a model of MLflow brings its own tokenizer
    text = str(project.test)
    capsys.readouterr()
    for uri, folder in (
        ("models:/gru/1", "gru/seed-0"), ("models:/gru@best", "gru/seed-0"), ("models:/ngram/latest", "ngram"),
        (str(draft), "nnlm/seed-0"),
    ):  # fmt: skip
        main("perplexity", uri, text)
        main("perplexity", str(project.folder / "models" / folder), text, "--ids", str(project.folder / "data" / "ids"))
        ours, folders = np.split(np.array(capsys.readouterr().out.splitlines()), 2)
        assert ours.tolist() == folders.tolist()
    main("neighbours", "models:/gru/1", "cat")
    main("generate", "models:/ngram/1", "the", "--tokens", "3")
    for uri, message in (
        ("models:/gru/2", "is no model of this project|is not to be had"), ("models:/gru/7", "is not to be had"),
        ("models:/gru@worst", "is not to be had"), ("models:/gru", "give models:/NAME/VERSION"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            main("score", uri, text)


def test_the_console_script_names_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    target = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["nextword"]
    module, function = target.split(":")
    assert callable(getattr(import_module(module), function))
    with pytest.raises(SystemExit, match="0"):
        main("--help")
    told = capsys.readouterr().out
    for command in ("score", "generate", "perplexity", "neighbours", "analogy", "compare", "probe"):
        assert re.search(rf"^    {command}\s", told, re.MULTILINE)


def test_an_error_is_a_message_and_a_broken_pipe_is_none() -> None:
    done = shell("generate", "models")
    assert (done.returncode, done.stdout) == (1, "") and done.stderr.startswith("error: models holds no trained model")
    piped = subprocess.run(
        f"yes 'the cat' | head -20000 | {sys.executable} -m nextword score models/ngram | head -1",
        shell=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert piped.stdout.startswith("log_prob_nats") and "rror" not in piped.stderr
