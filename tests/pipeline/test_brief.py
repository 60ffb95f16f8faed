"""A short training in this process against the whole machinery of stage ``train``."""

from pathlib import Path

import pytest
import torch

from nextword.config import Params
from nextword.models import build_model
from nextword.text.ids import load_ids
from nextword.training import brief as brief_training
from nextword.training.artifacts import load_model
from nextword.training.brief import train_briefly
from nextword.training.run import train_model


def test_it_trains_as_the_stage_does(tiny_ids: Path, tiny_params: Params, tmp_path: Path) -> None:
    train = tiny_params.train.model_copy(update={"seeds": (3,), "max_epochs": 1})
    params = tiny_params.model_copy(update={"train": train})
    report = train_model(params, "gru", tiny_ids, tmp_path / "models", tmp_path / "work", lambda job, row: None)
    corpus, own = load_ids(tiny_ids), params.models["gru"]
    torch.manual_seed(3)
    model = build_model(own, corpus.vocab_size, corpus.eos_id)
    text = corpus["train"]
    brief = train_briefly(model, text.ids, train, own.learning_rate, starts=text.document_starts)
    (run,) = report["runs"]
    assert (brief.steps, brief.tokens, brief.diverged_at) == (run["steps"], run["tokens"], None)
    trained = load_model(tmp_path / "models" / "seed-3")
    for (name, a), (other, b) in zip(model.named_parameters(), trained.named_parameters(), strict=True):
        assert name == other
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_past_the_end_it_begins_anew(tiny_ids: Path, tiny_params: Params) -> None:
    corpus, own = load_ids(tiny_ids), tiny_params.models["gru"]
    passes: list[int] = []
    torch.manual_seed(0)
    model = build_model(own, corpus.vocab_size, corpus.eos_id)
    once = train_briefly(model, corpus["train"].ids, tiny_params.train, own.learning_rate, on_pass=passes.append)
    assert passes == [1] and len(once.train_nats) == 1
    steps = 2 * once.steps + 3
    brief = train_briefly(model, corpus["train"].ids, tiny_params.train, own.learning_rate, steps, passes.append)
    assert passes == [1, 1, 2] and brief.steps == steps and len(brief.train_nats) == 3
    assert brief.train_nats[2] < brief.train_nats[0] < once.train_nats[0]


def test_a_divergence_is_a_result(tiny_ids: Path, tiny_params: Params) -> None:
    corpus, own = load_ids(tiny_ids), tiny_params.models["gru"]
    model = build_model(own, corpus.vocab_size, corpus.eos_id)
    with torch.no_grad():
        model.embedding.weight.fill_(float("nan"))
    brief = train_briefly(model, corpus["train"].ids, tiny_params.train, own.learning_rate)
    assert (brief.diverged_at, brief.steps) == (0, 0)


@pytest.mark.parametrize("learning_rate", [0.02, 1e30])
def test_numbers_read_late_change_nothing(
    learning_rate: float, tiny_ids: Path, tiny_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: those of a step are read when the next one is under way."""
    corpus, own = load_ids(tiny_ids), tiny_params.models["gru"]
    train, found = tiny_params.train.model_copy(update={"clip_norm": None}), []
    for late in (set(), {"cpu"}):
        monkeypatch.setattr(brief_training, "READ_LATE", late)
        torch.manual_seed(0)
        model = build_model(own, corpus.vocab_size, corpus.eos_id)
        brief = train_briefly(model, corpus["train"].ids, train, learning_rate, 60)
        weights = torch.cat([weight.detach().flatten() for weight in model.parameters()])
        found.append((brief.steps, brief.tokens, brief.diverged_at, weights))
    assert found[0][:3] == found[1][:3] and torch.equal(found[0][3], found[1][3])
    assert (found[0][2] is None) == (learning_rate < 1.0) and found[0][0] > 0


def test_a_text_too_short_is_refused(tiny_ids: Path, tiny_params: Params) -> None:
    corpus, own = load_ids(tiny_ids), tiny_params.models["gru"]
    model = build_model(own, corpus.vocab_size, corpus.eos_id)
    with pytest.raises(ValueError, match="batch"):
        train_briefly(model, corpus["train"].ids[:2], tiny_params.train, own.learning_rate)


def test_what_follows_a_divergence_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read late, a step that is not finite is known when the next one was computed, which is then not made."""
    monkeypatch.setattr(brief_training, "READ_LATE", {"cpu"})
    model = torch.nn.Linear(1, 1)
    updates = brief_training.Updates(model, torch.optim.AdamW(model.parameters(), fused=True), None)
    for factor, made in ((1.0, True), (torch.inf, True), (1.0, False)):
        assert updates(model(torch.ones(1, 1)).sum() * factor) is made
    assert updates.settle() and updates.done == 1
