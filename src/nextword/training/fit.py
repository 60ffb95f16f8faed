"""One training run: trainer, precision, progress rows, best weights, result."""

from __future__ import annotations

import json
import logging
import math
import os
import resource
import time
import warnings
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.strategies import DDPStrategy
from safetensors.torch import load_model as load_weights
from safetensors.torch import save_model as save_weights

from nextword.allocator import keep_freed_memory
from nextword.files import whole_file, write_json
from nextword.models import build_model
from nextword.perplexity import perplexity
from nextword.text.ids import load_ids
from nextword.text.streams import Columns
from nextword.training.artifacts import ModelDescription, save_model
from nextword.training.checkpoint import Agreement, Checkpoints, KillSafeIO, handlers_kept
from nextword.training.cluster import find_cluster
from nextword.training.data import StreamDataModule
from nextword.training.hooks import NoProfiler, no_answer_to_signals, own_step_hooks
from nextword.training.module import Diverged, LanguageModelModule
from nextword.training.nt_asgd import NonmonotoneAveraging
from nextword.training.worker import Job

ROW_SECONDS = 2.0
"""Time between two rows of progress."""


@handlers_kept()
def fit(job: Job) -> None:
    """Train ``job`` to its end and write its files; a divergence is a result, not an error."""
    params = job.params.train
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    torch.set_num_threads(job.threads)
    keep_freed_memory()
    # Else deterministic algorithms fill all memory with NaN before it is written; nothing here reads what was not.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if job.accelerator == "cuda":
        # The same bits each time; the other operations of a step on a GPU have no order to choose.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.deterministic = True
    job.folder.mkdir(parents=True, exist_ok=True)
    pl.seed_everything(job.seed, workers=True, verbose=False)
    corpus = load_ids(job.ids)
    model_params = job.params.models[job.model]
    model = build_model(model_params, corpus.vocab_size, corpus.eos_id)
    cluster, nodes = find_cluster(job.devices)
    processes = nodes * job.devices
    params.require_parts(processes)
    if processes > 1:  # else Lightning sets a number of threads of its own
        os.environ.setdefault("OMP_NUM_THREADS", str(job.threads))
    steps = len(Columns(corpus["train"].ids, params.batch_size, params.bptt))
    epochs = job.params.epochs_of(job.model)
    module = LanguageModelModule(model, params, model_params.learning_rate, steps, epochs)
    recorder = Recorder(job)
    callbacks: list[Callback] = [recorder]
    if params.early_stopping_patience is not None:
        callbacks.append(
            EarlyStopping("valid_nats_per_target", patience=params.early_stopping_patience, check_finite=False)
        )
    if params.optimizer == "nt_asgd":
        callbacks.append(NonmonotoneAveraging(params.nonmonotone_interval))
    checkpoints = Checkpoints(job.folder, job.fingerprint, params.checkpoint_seconds)
    checkpoints.listen()
    callbacks.append(checkpoints)
    precision = resolve_precision(params.precision, job.accelerator)
    trainer = pl.Trainer(
        accelerator="gpu" if job.accelerator == "cuda" else "cpu",
        devices=job.devices,
        num_nodes=nodes,
        strategy=_strategy(processes),
        plugins=[cluster, KillSafeIO()],
        accumulate_grad_batches=params.accumulate,
        precision={"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}[precision],  # type: ignore[arg-type]
        max_epochs=epochs,
        callbacks=callbacks,
        deterministic=job.accelerator == "cpu",
        use_distributed_sampler=False,
        logger=False,
        profiler=NoProfiler(),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    no_answer_to_signals(trainer)
    data = StreamDataModule(corpus, params, job.params.evaluate.batch_size, job.seed)
    diverged: dict[str, Any] | None = None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            trainer.fit(module, data, ckpt_path=checkpoints.find(processes), weights_only=True)
    except Diverged as error:
        diverged = error.report
    if trainer.is_global_zero:
        if recorder.best_path.exists():
            load_weights(model, str(recorder.best_path))
        name = ModelDescription(
            job.model, model_params, corpus.vocab_size, corpus.eos_id, corpus.tokenizer_sha256, job.seed
        )
        save_model(model.cpu(), name, job.folder / "model")
        result = recorder.result(module) | {
            "status": "finished" if diverged is None else "diverged",
            "diverged_at": diverged,
            "engine": recorder.engine,
            "precision": precision,
            "device": torch.cuda.get_device_name() if job.accelerator == "cuda" else "cpu",
            "num_devices": processes,
            "threads": job.threads,
            "num_parameters": model.num_parameters(),
            "operations_per_token": model.operations_per_token(),
            "fingerprint": job.fingerprint,
        }
        write_json(job.result, result)
        checkpoints.clear()


def _strategy(processes: int) -> DDPStrategy | str:
    """Of three terms or more the order decides the last bits of a sum, and it is that of the buckets of gradients.

    DDP makes these anew after its first step, and so after each resume, unless it looks for unused parameters. There
    are none, and torch's advice to have it look no more is to be passed over.
    """
    return DDPStrategy(find_unused_parameters=processes > 2) if processes > 1 else "auto"


def resolve_precision(precision: str, accelerator: str) -> str:
    """``auto`` is bfloat16 where the device computes it natively, else float32."""
    if precision != "auto":
        return precision
    if accelerator == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return "bfloat16" if native else "float32"


@own_step_hooks
class Recorder(Callback):
    """Keeps the best weights and appends rows of progress to ``progress.jsonl``.

    ``seconds`` is training time alone: validation, start-up and writing are not in it.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.best_path = job.folder / "best.safetensors"
        self.rows_path = job.rows
        self.history: list[dict[str, Any]] = []
        self.best = math.inf
        self.engine = ""
        """What ran, which depends on the device: asked while the model lies there."""
        self.tokens = 0
        self.seconds = 0.0
        self.rows_bytes = 0
        """Length of the file of rows."""
        self._started = self._written = time.perf_counter()
        self._agree = Agreement()

    def state_dict(self) -> dict[str, Any]:
        """What goes into a checkpoint, taken after a window."""
        seconds = self.seconds + time.perf_counter() - self._started
        kept = {key: getattr(self, key) for key in ("history", "best", "engine", "tokens", "rows_bytes")}
        return {**kept, "seconds": seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: D102
        for key, value in state.items():
            setattr(self, key, value)

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Begin the files anew, or go on where the checkpoint was taken."""
        self._started = time.perf_counter()
        if not trainer.is_global_zero:
            return
        if not self.history:
            self.best_path.unlink(missing_ok=True)
        rows = self.job.set_rows_aside()
        kept = rows.read_bytes()[: self.rows_bytes] if rows.exists() else b""
        self.rows_bytes = len(kept)
        self.rows_path.write_bytes(kept)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:  # noqa: D102
        self.engine = pl_module.model.engine
        self._started = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: D102
        self.tokens += batch.tokens.numel() * trainer.world_size
        now = time.perf_counter()
        (due,) = self._agree(trainer, batch_idx, now - self._written >= ROW_SECONDS)
        if due:
            self._written = now
            self._write(trainer, self._row(trainer, pl_module, self.seconds + now - self._started))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:  # noqa: D102
        self.seconds += time.perf_counter() - self._started

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:  # noqa: D102
        valid = float(trainer.callback_metrics["valid_nats_per_target"])
        row = self._row(trainer, pl_module, self.seconds) | {"valid_perplexity": perplexity(valid, 1)}
        if valid < self.best:
            self.best = valid
            if trainer.is_global_zero:
                with whole_file(self.best_path) as part:
                    save_weights(pl_module.model, str(part))
        row["epoch"] = trainer.current_epoch + 1
        self.history.append(row)
        self._write(trainer, row)

    def result(self, module: LanguageModelModule) -> dict[str, Any]:
        """Figures of the whole run."""
        best = min(self.history, key=lambda row: row["valid_perplexity"] or math.inf, default=None)
        return {
            "seed": self.job.seed,
            "epochs": len(self.history),
            "steps": module.num_steps,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "tokens_per_second": self.tokens / self.seconds if self.seconds else None,
            "best_epoch": best and best["epoch"],
            "seconds_to_best": best and best["seconds"],
            "tokens_to_best": best and best["tokens"],
            "valid_perplexity": best and best["valid_perplexity"],
            "clipped_share": module.num_clipped / max(1, module.num_steps),
            "peak_memory_bytes": _peak_memory(self.job.accelerator),
            "history": self.history,
        }

    def _row(self, trainer: pl.Trainer, module: LanguageModelModule, seconds: float) -> dict[str, Any]:
        module.settle()
        nats, targets = module.train_sums()
        return {
            "step": module.num_steps,
            "tokens": self.tokens,
            "seconds": seconds,
            "tokens_per_second": self.tokens / seconds if seconds else None,
            "total_tokens": self.job.params.epochs_of(self.job.model) * self._epoch_tokens(trainer),
            "train_perplexity": perplexity(nats, targets),
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "grad_norm": module.recent_grad_norms[-1] if module.recent_grad_norms else None,
            "clipped_share": module.num_clipped / max(1, module.num_steps),
        }

    def _epoch_tokens(self, trainer: pl.Trainer) -> int:
        columns: Columns = trainer.train_dataloader.windows  # type: ignore[union-attr]
        return columns.length * self.job.params.train.batch_size

    def _write(self, trainer: pl.Trainer, row: dict[str, Any]) -> None:
        if not trainer.is_global_zero:
            return
        line = json.dumps(row).encode() + b"\n"
        with self.rows_path.open("ab") as file:
            file.write(line)
        self.rows_bytes += len(line)


def _peak_memory(accelerator: str) -> int:
    if accelerator == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
