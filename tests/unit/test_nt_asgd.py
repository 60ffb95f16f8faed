"""NT-ASGD: when it starts to average, what the average is, and whose weights are validated and saved."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from nextword.config import TrainParams
from nextword.training.nt_asgd import NonmonotoneAveraging, stopped_falling
from nextword.training.schedule import build_optimizer


@pytest.mark.parametrize(
    ("losses", "interval", "stopped"),
    [
        ([5.0], 1, False),
        ([5.0, 6.0], 1, False),  # only one check ago
        ([5.0, 6.0, 5.5], 1, True),  # 5.0 was two checks ago
        ([5.0, 6.0, 5.0], 1, False),  # as good is not worse
        ([5.0, 4.0, 4.5], 1, False),  # worse than the last one, better than that before
        ([5.0, 4.0, 4.5, 4.4], 1, True),
        ([5.0, 4.0, 4.5, 4.4], 2, False),
        ([5.0, 4.0, 4.5, 4.4, 4.3], 2, True),
        ([3.0, 9.0, 9.0, 9.0, 9.0, 9.0], 5, False),
        ([3.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0], 5, True),
    ],
)
def test_trigger_by_hand(losses: list[float], interval: int, stopped: bool) -> None:
    assert stopped_falling(losses, interval) is stopped


def test_trigger_is_algorithm_1() -> None:
    """``if t > n and v > min(logs[0 .. t-n-1])``, t checks logged before this one."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        length = int(torch.randint(1, 9, (1,), generator=generator))
        losses = torch.randint(10, (length,), generator=generator).tolist()
        interval = int(torch.randint(1, 5, (1,), generator=generator))
        *logs, v = losses
        t = len(logs)
        assert stopped_falling(losses, interval) == (t > interval and v > min(logs[: t - interval]))


class Run:
    """A trainer's hooks around SGD on a small regression, one epoch a call."""

    def __init__(self, interval: int) -> None:
        torch.manual_seed(0)
        self.module = nn.Linear(3, 2).double()
        self.callback = NonmonotoneAveraging(interval)
        self.optimizer = build_optimizer(self.module.parameters(), TrainParams(optimizer="nt_asgd"), 0.1)
        self.iterates: list[list[torch.Tensor]] = []
        self.validated: list[torch.Tensor] = []

    def epoch(self, valid_loss: float, steps: int = 4) -> None:
        trainer: Any = SimpleNamespace(
            accumulate_grad_batches=1, callback_metrics={"valid_nats_per_target": torch.tensor(valid_loss)}
        )
        self.iterates.append([])
        for _ in range(steps):
            self.optimizer.zero_grad()
            self.module(torch.randn(5, 3).double()).square().sum().backward()
            self.optimizer.step()
            self.iterates[-1].append(self.weights())
            self.callback.on_train_batch_end(trainer, self.module, None, None, 0)
        self.callback.on_validation_start(trainer, self.module)
        self.validated.append(self.weights())
        self.callback.on_validation_end(trainer, self.module)

    def weights(self) -> torch.Tensor:
        return nn.utils.parameters_to_vector(self.module.parameters()).detach().clone()


def test_the_average_is_the_mean_of_the_iterates_since_the_trigger() -> None:
    run = Run(interval=1)
    for loss in (5.0, 4.0, 4.6, 4.5, 4.4, 9.0):
        run.epoch(loss)
        assert torch.equal(run.weights(), run.iterates[-1][-1])  # SGD goes on from its own weights
    for epoch in range(4):  # the check of the fourth epoch is the trigger
        assert torch.equal(run.validated[epoch], run.iterates[epoch][-1])
    for epoch in (4, 5):
        since = torch.stack([w for iterates in run.iterates[4 : epoch + 1] for w in iterates])
        torch.testing.assert_close(run.validated[epoch], since.mean(0), rtol=1e-12, atol=1e-12)


def test_averaging_changes_nothing_in_the_steps() -> None:
    averaging, plain = Run(interval=1), Run(interval=100)
    for run in (averaging, plain):
        torch.manual_seed(1)
        for loss in (1.0, 2.0, 3.0, 4.0):
            run.epoch(loss)
    assert averaging.callback.averaging and not plain.callback.averaging
    assert torch.equal(averaging.weights(), plain.weights())
    assert not torch.equal(averaging.validated[-1], plain.validated[-1])


def test_a_mean_read_to_cpu_goes_to_where_the_weights_are() -> None:
    averaging = NonmonotoneAveraging(1)
    module = nn.Linear(3, 2)
    averaging.load_state_dict({"averaging": True, "count": 2, "mean": [p.detach() for p in module.parameters()]})
    averaging.on_train_start(None, module.to("meta"))
    assert [mean.device.type for mean in averaging.mean] == ["meta", "meta"]
