"""The differentiated loss of a window: nats on their scale, penalties on the same, the logged nats without them."""

from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch.utils.data import DataLoader

from nextword.config import ModelParams, TrainParams
from nextword.models import build_model
from nextword.models.language_model import map_tensors
from nextword.training.data import Window
from nextword.training.module import LanguageModelModule, Numbers

T, B = 6, 4
PENALTIES = {"activation_penalty": 2.0, "temporal_penalty": 1.0}


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn", "nnlm", "bilstm"])
def test_a_document_is_read_from_an_empty_state(kind: str) -> None:
    torch.manual_seed(0)
    both = kind == "bilstm"
    sizes = {"embedding_size": 5, "hidden_size": 6, "bidirectional": both, "window": 3 if kind == "nnlm" else None}
    model = build_model(ModelParams(kind="lstm" if both else kind, **sizes), 11, 0).train()
    module = LanguageModelModule(model, TrainParams(), 0.1, 1, 1)
    first, second = torch.randint(11, (2, T, B))
    begins = torch.tensor([False, True, False, True])
    module.training_step(Window(first, torch.ones(B, dtype=torch.bool)), 0)  # what is empty stays so
    before = module.states[0]
    loss = module.training_step(Window(second, begins), 1)
    nats = 0.0
    for column in range(B):  # alone: of the columns that begin anew only the word before is known
        state = model.initial_state(1)
        if kind == "nnlm":
            state = type(before)(before.words[:, column : column + 1])
        else:
            own = map_tensors(lambda x, c=column: x[c : c + 1], before)
            state = own if not begins[column] else own._replace(layers=state.layers)
        nats += model.training_loss(second[:, column : column + 1].contiguous(), state)[0].item()
    assert loss.item() == pytest.approx(nats / (T * B), rel=1e-5)
    carried = model.training_loss(second, before)[0].item() / (T * B)
    assert (loss.item() == pytest.approx(carried, rel=1e-6)) == (kind == "nnlm")


@pytest.mark.parametrize(("scale", "divisor"), [("mean", T * B), ("per_stream", B)])
@pytest.mark.parametrize("penalties", [{}, PENALTIES])
def test_loss_by_hand(scale: str, divisor: int, penalties: dict) -> None:
    torch.manual_seed(0)
    model = build_model(ModelParams(kind="lstm", embedding_size=5, hidden_size=5, **penalties), 11, 0).train()
    tokens = torch.randint(11, (T, B))
    nats, penalty, _ = model.training_loss(tokens, model.initial_state(B))
    module = LanguageModelModule(model, TrainParams(loss_scale=scale), 0.1, 1, 1)
    loss = module.training_step(Window(tokens), 0)
    assert (penalty is None) == (not penalties)
    expected = nats.item() / divisor + (0.0 if penalty is None else penalty.item() * T * B / divisor)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert module.train_sums() == (pytest.approx(nats.item(), rel=1e-6), T * B)


def test_the_state_is_carried_and_cut() -> None:
    model = build_model(ModelParams(kind="gru", embedding_size=5, hidden_size=5, num_layers=2), 11, 0)
    module = LanguageModelModule(model, TrainParams(), 0.1, 2, 1)
    tokens = torch.randint(11, (T, B))
    module.training_step(Window(tokens), 0)
    _, state = model.score(tokens, model.initial_state(B))
    assert torch.equal(module.states[0].last, tokens[-1])
    for carried, expected in zip(module.states[0].layers, state.layers, strict=True):
        assert not carried.h.requires_grad
        torch.testing.assert_close(carried.h, expected.h)


@pytest.mark.filterwarnings("ignore:.*(val_dataloader|does not have many workers|LeafSpec|litlogger)")
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_float16_clips_gradients_without_their_scale(optimizer: str) -> None:
    draws = [torch.Generator().manual_seed(number) for number in range(8)]
    windows = [Window(torch.randint(11, (T, B), generator=draw)) for draw in draws]
    found = []
    for precision in ("float32", "float16"):
        torch.manual_seed(0)
        model = build_model(ModelParams(kind="lstm", embedding_size=5, hidden_size=5, engine="loop"), 11, 0)
        params = TrainParams(optimizer=optimizer, precision=precision, clip_norm=0.23)
        module = LanguageModelModule(model, params, 1e-3, len(windows), 1)
        trainer = pl.Trainer(
            accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu")] * (precision == "float16"),
            max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, limit_val_batches=0,
        )  # fmt: skip
        trainer.fit(module, DataLoader(windows, batch_size=None))
        found.append((module.recent_grad_norms, module.num_clipped))
    (norms, clipped), (low_norms, low_clipped) = found
    assert 0 < clipped < len(windows) and low_clipped == clipped
    assert low_norms == pytest.approx(norms, rel=0.01)


def make_module(**trainer: object) -> LanguageModelModule:
    """One that takes what is given for its trainer."""
    model = build_model(ModelParams(kind="gru", embedding_size=5, hidden_size=5, dropout=0.5), 11, 0)
    module = LanguageModelModule(model, TrainParams(), 0.1, 2, 1)
    module._trainer = SimpleNamespace(**trainer)  # type: ignore[assignment]
    return module


def test_each_process_has_dropout_of_its_own() -> None:
    drawn = []
    for rank, world_size in ((0, 1), (0, 2), (1, 2), (1, 2)):
        module = make_module(global_rank=rank, world_size=world_size)
        torch.manual_seed(3)
        module.on_train_start()
        drawn.append(tuple(torch.rand(4).tolist()))
    torch.manual_seed(3)
    assert drawn[0] == tuple(torch.rand(4).tolist()) and drawn[2] == drawn[3]
    assert len(set(drawn)) == 3


def test_a_step_that_float16_passes_over_has_no_norm() -> None:
    module = make_module(precision="16-mixed")
    for norm in (1.5, torch.inf):
        module._unread = Numbers(torch.tensor(2.0), torch.tensor(norm))
        module.settle()
    assert module.recent_grad_norms == [1.5, None] and module.num_steps == 2
