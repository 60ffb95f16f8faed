"""``mlflow models serve`` for real: raw text over HTTP, scores and continuations back."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from nextword.config import ModelParams, NgramParams, TrackingParams
from nextword.evaluation.ngrams import study_ngrams
from nextword.models import build_model
from nextword.serving import Sampling, load_text_model
from nextword.text import load_ids
from nextword.tracking import ensure_store, stage_run
from nextword.training.artifacts import ModelDescription, save_model

START_SECONDS = 240
TEXTS = ["the cat sees a dog", "a bird\nthe old zebra", ""]


@pytest.fixture(scope="module")
def project(tiny_ids: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with a GRU and an n-gram model, both registered."""
    folder = tmp_path_factory.mktemp("served")
    corpus = load_ids(tiny_ids)
    torch.manual_seed(0)
    params = ModelParams(kind="gru", embedding_size=8, hidden_size=8)
    about = ModelDescription("gru", params, corpus.vocab_size, corpus.eos_id, corpus.tokenizer_sha256, 0)
    save_model(build_model(params, corpus.vocab_size, corpus.eos_id), about, folder / "gru")
    study_ngrams(NgramParams(max_order=3, smoothings=("jelinek_mercer",)), tiny_ids, folder / "ngram", folder / "nats")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with stage_run(TrackingParams(), "train", {}, Path("run.json")) as run:
            for name in ("gru", "ngram"):
                assert run.log_model(name, folder / name, tiny_ids) == f"models:/{name}/1"
    return folder


@contextmanager
def served(project: Path, uri: str) -> Iterator[str]:
    """The address of a server of the model, which brings its own code: PYTHONPATH leads to no other."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = os.environ | {"MLFLOW_TRACKING_URI": ensure_store(project).uri, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", uri, "--env-manager", "local"]
    log = (project / "server.log").open("wb")
    server = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", port, "--workers", "1"],
        cwd=project, env=environment, stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"{address}/ping", timeout=5).close()
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                assert server.poll() is None and time.monotonic() < deadline, (project / "server.log").read_text()
                time.sleep(0.2)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)
        log.close()


def ask(address: str, **body: Any) -> list[dict[str, Any]]:
    """Predictions for a request."""
    request = urllib.request.Request(
        f"{address}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        rows: list[dict[str, Any]] = json.load(answer)["predictions"]
    return rows


@pytest.mark.parametrize("name", ["gru", "ngram"])
def test_scores_and_continuations_over_http(name: str, project: Path, tiny_ids: Path) -> None:
    model = load_text_model(project / name, tiny_ids)
    with served(project, f"models:/{name}/1") as address:
        scores = ask(address, dataframe_split={"columns": ["text"], "data": [[text] for text in TEXTS]})
        again = ask(address, inputs={"text": TEXTS})
        params = {"mode": "continue", "max_tokens": 8, "temperature": 0.8, "top_k": 9, "top_p": 0.9, "seed": 3}
        drawn = ask(address, inputs={"text": TEXTS}, params=params)
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(address, inputs={"text": TEXTS}, params={"mode": "sing"})
        refused.value.close()
    for row, expected in zip(scores, model.score(TEXTS), strict=True):
        assert row["log_prob_nats"] == pytest.approx(expected.log_prob_nats, rel=1e-6)
        assert row["perplexity"] == pytest.approx(expected.perplexity, rel=1e-6)
        assert row["num_tokens"] == expected.num_tokens
    assert again == scores
    sampling = Sampling(max_tokens=8, temperature=0.8, top_k=9, top_p=0.9, seed=3)
    assert [row["continuation"] for row in drawn] == model.continuations(TEXTS, sampling)
    assert refused.value.code in (400, 500)
