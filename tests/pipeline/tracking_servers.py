"""A real MLflow server, a line to it that breaks in the ways that lines break, and a stage that logs of everything."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from nextword.config import TrackingParams
from nextword.tracking import stage_run

ROWS = 30
OUT = Path("reports/runs/stage.json")
START_SECONDS = 180


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """``mlflow server`` in a process group of its own; ``start`` after ``kill`` brings it back as it was."""

    def __init__(self, folder: Path, database: str | None = None, port: int | None = None, **environment: str) -> None:
        self.folder, self.port = folder, port or free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._database = database or f"sqlite:///{folder}/server.db"
        self._environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **environment}
        self._environment.pop("MLFLOW_TRACKING_URI", None)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Server:
        words = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", self._database]
        words += ["--artifacts-destination", str(self.folder / "artifacts"), "--host", "127.0.0.1"]
        words += ["--port", str(self.port), "--workers", "1"]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                words, env=self._environment, stdout=log, stderr=log, cwd=self.folder, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            with suppress(OSError):
                urllib.request.urlopen(f"{self.uri}/health", timeout=5).close()
                return self
            alive = self._process.poll() is None and time.monotonic() < deadline
            assert alive, (self.folder / "server.log").read_text()[-3000:]
            time.sleep(0.2)

    def kill(self) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=30)


class Line:
    """A TCP line to a server on this machine.

    ``mode``: ``up``; ``down`` (connections are closed); ``hang`` (requests get no answer); ``lose`` (the server gets
    a request with ``match`` in it and does its work, the answer is lost); ``reject`` (a request with ``match`` in it is
    answered as too large). ``delay`` seconds pass before each part of a
    request; ``passed`` counts them.
    """

    def __init__(self, target: int) -> None:
        self.mode, self.match, self.delay, self.passed = "up", b"", 0.0, 0
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.mode = "down"
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with ExitStack() as stack, suppress(OSError):
            stack.enter_context(client)
            server = stack.enter_context(socket.create_connection(("127.0.0.1", self._target)))
            request = b""
            while self.mode != "down":
                for source in select.select([client, server], [], [], 0.1)[0]:
                    part = source.recv(1 << 16)
                    lost = self.mode == "lose" and source is server and self.match in request
                    if not part or self.mode == "down" or lost:
                        return
                    if source is server:
                        client.sendall(part)
                    elif self.mode != "hang":
                        request = part if b" HTTP/1.1" in part else request + part
                        if self.mode == "reject" and self.match in request:
                            client.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                            client.shutdown(socket.SHUT_WR)
                            while client.recv(1 << 16):
                                pass
                            return
                        time.sleep(self.delay)
                        self.passed += 1
                        server.sendall(part)


def run_stage(experiment: str, before_row: Callable[[int], None] = lambda step: None, *, model: bool = False) -> None:
    """A stage with a seed under it that logs a curve of ``ROWS`` points and some of everything else."""
    with stage_run(TrackingParams(experiment=experiment), "train", {"bptt": 35}, OUT) as run:
        run.dataset("sotu/train", "0123456789", "data", 1000)
        with run.child("seed 0", {"seed": 0}) as seed:
            for step in range(ROWS):
                before_row(step)
                seed.metric_rows([{"step": step, "seconds": float(step), "loss": 1 / (step + 1)}])
        run.table([{"model": "gru", "perplexity": 80.0}], "board.json")
        plot = Path("plot.svg")
        plot.write_text("<svg/>")
        run.artifact(plot, "plots")
        plot.unlink()  # as DVC does with the outs of a stage that runs again
        run.metrics({"perplexity": float("inf")})
        run.note("as it should be")
        if model:
            for file in ("model/model.safetensors", "ids/tokenizer.json", "ids/meta.json"):
                Path(file).parent.mkdir(exist_ok=True)
                Path(file).write_text("{}")
            run.log_model(experiment, Path("model"), Path("ids"))


def check(client, experiment: str, *, model: bool = False) -> None:
    """All that :func:`run_stage` logged is there, once, and nothing waits."""
    experiment_id = client.get_experiment_by_name(experiment).experiment_id
    found = client.search_runs([experiment_id], max_results=100)
    runs = {run.data.tags["nextword.role"]: run for run in found}
    assert len(found) == 3 and set(runs) == {"repro", "stage", "part"}, "each run once"
    repro, stage, part = (runs[role] for role in ("repro", "stage", "part"))
    assert [run.info.status for run in (repro, stage, part)] == ["FINISHED"] * 3
    assert stage.data.tags["mlflow.parentRunId"] == repro.info.run_id
    assert part.data.tags["mlflow.parentRunId"] == stage.info.run_id
    assert (stage.data.params, part.data.params) == ({"bptt": "35"}, {"seed": "0"})
    assert stage.data.tags["mlflow.note.content"] == "as it should be"
    assert f"| train | finished | [{stage.info.run_id[:8]}]" in repro.data.tags["mlflow.note.content"]
    curve = client.get_metric_history(part.info.run_id, "loss")
    assert sorted((point.step, point.value) for point in curve) == [(step, 1 / (step + 1)) for step in range(ROWS)]
    times = [point.timestamp for point in sorted(curve, key=lambda point: point.step)]
    assert [when - times[0] for when in times] == [1000 * step for step in range(ROWS)], "when, not when it was sent"
    assert part.info.end_time <= stage.info.end_time <= repro.info.end_time
    assert len(client.get_metric_history(stage.info.run_id, "perplexity")) == 1
    assert len(stage.inputs.dataset_inputs) == 1
    assert {item.path for item in client.list_artifacts(stage.info.run_id)} == {"board.json", "plots"}
    assert [item.path for item in client.list_artifacts(stage.info.run_id, "plots")] == ["plots/plot.svg"]
    if model:
        [logged] = client.search_logged_models([experiment_id])
        [version] = client.search_model_versions(f"name = '{experiment}'")
        assert (str(logged.status), str(version.version)) == ("READY", "1")
        assert [output.model_id for output in stage.outputs.model_outputs] == [logged.model_id]
    waiting = Path("work/tracking")
    assert not waiting.exists() or [path for path in waiting.iterdir() if path.suffix != ".lock"] == []
