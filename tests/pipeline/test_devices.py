"""One run on several processes and nodes, under torchrun and SLURM, and in less memory: the same numbers."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from nextword.config import Params, TrainParams, load_params
from nextword.evaluation import neural
from nextword.files import write_json
from nextword.models import build_model
from nextword.text.ids import load_ids
from nextword.training import placement
from nextword.training.artifacts import ModelDescription, load_model, save_model
from nextword.training.checkpoint import LATEST, PREVIOUS, Checkpoints
from nextword.training.cluster import find_cluster
from nextword.training.memory import memory_advice
from nextword.training.run import Training, train_model
from nextword.training.worker import STOPPED, Job
from nextword.tuning import not_searched

ROOT = Path(__file__).resolve().parents[2]

WORKER = """
import sys
from nextword.training import checkpoint, fit, worker
checkpoint.AGREE_STEPS, fit.ROW_SECONDS = 1, 0.0  # a row after every step
sys.exit(worker.main(sys.argv[1:]))
"""

SHORT_OF_MEMORY = """
import os, sys
import psutil, resource
from nextword.training import fit, worker
if os.environ.get("LOCAL_RANK") == "1":
    limit = psutil.Process().memory_info().vms + (96 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(worker.main(sys.argv[1:]))
"""

SRUN = """#!{python}
import os, signal, subprocess, sys
command = [word for word in sys.argv[1:] if not word.startswith("--")]
nodes, a_node = int(os.environ["SLURM_NNODES"]), int(os.environ["SLURM_NTASKS_PER_NODE"])
tasks = [
    subprocess.Popen(command, env=os.environ | dict(
        SLURM_STEP_ID="0", SLURM_NTASKS=str(nodes * a_node), SLURM_PROCID=str(task),
        SLURM_LOCALID=str(task % a_node), SLURM_NODEID=str(task // a_node)))
    for task in range(nodes * a_node)
]
signal.signal(signal.SIGUSR1, lambda *_: [task.send_signal(signal.SIGUSR1) for task in tasks])
open("srun.pid", "w").write(str(os.getpid()))
sys.exit(max(task.wait() % 256 for task in tasks))
"""

STUB_PYTHON = """#!/bin/sh
echo work/lstm/seed-0/job.json work/lstm/seed-1/job.json
"""
STUB_SRUN = """#!/bin/sh
echo "$@" >> srun.log
exit $(sed -n "$(wc -l < srun.log)p" statuses)
"""

SCONTROL = '#!/bin/sh\necho "$@" >> scontrol.log\n'


def with_train(params: Params, **changes: Any) -> Params:
    return params.model_copy(update={"train": params.train.model_copy(update=changes)})


def write_job(params: Params, ids: Path, folder: Path, **placed: int) -> Job:
    job = Job(params=params, model="lstm", seed=0, ids=ids, folder=folder, fingerprint="same", **placed)
    job.write()
    return job


def free_port() -> str:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return str(listening.getsockname()[1])


def slurm(nodes: int, tasks_per_node: int = 1) -> dict[str, str]:
    """The environment of a job on ``nodes`` nodes that are all this machine."""
    return {
        "SLURM_JOB_ID": "4242", "SLURM_JOB_NAME": "nextword", "SLURM_NNODES": str(nodes),
        "SLURM_NTASKS_PER_NODE": str(tasks_per_node), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(),
    }  # fmt: skip


def programs(folder: Path, **texts: str) -> dict[str, str]:
    """Programs in a folder of their own, and the PATH on which they and this Python come first."""
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text.replace("{python}", sys.executable))
        (folder / name).chmod(0o755)
    return {"PATH": os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])}


def outcome(job: Job, launcher: str, tmp_path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Carry out a job and return its result and its rows of progress."""
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    task = [str(worker), str(job.folder / "job.json")]
    environment = dict(os.environ)
    if launcher == "alone":
        command = [sys.executable, *task]
    elif launcher == "torchrun":
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *task]
    else:
        environment |= slurm(2) | programs(tmp_path / "bin", srun=SRUN)
        command = ["srun", sys.executable, *task]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    result = job.outcome()
    assert result is not None
    return result, [json.loads(line) for line in job.rows.read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(
    tiny_ids: Path, tiny_params: Params, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One process that takes the batch whole."""
    folder = tmp_path_factory.mktemp("alone")
    return outcome(write_job(tiny_params, tiny_ids, folder / "job"), "alone", folder)


@pytest.mark.parametrize(
    ("launcher", "devices", "accumulate"), [("alone", 1, 2), ("slurm", 1, 1), ("slurm", 1, 2), ("torchrun", 2, 1)]
)
def test_the_curve_is_that_of_one_process(
    launcher: str, devices: int, accumulate: int, alone: Any, tiny_ids: Path, tiny_params: Params, tmp_path: Path
) -> None:
    """Two nodes under SLURM, two processes under torchrun, parts of the batch: each step as with the batch whole."""
    expected, expected_rows = alone
    job = write_job(with_train(tiny_params, accumulate=accumulate), tiny_ids, tmp_path / "job", devices=devices)
    result, rows = outcome(job, launcher, tmp_path)
    assert result["num_devices"] == (1 if launcher == "alone" else 2)
    assert (result["steps"], result["tokens"]) == (expected["steps"], expected["tokens"])
    after_steps = {row["step"]: row for row in rows if "valid_perplexity" not in row}
    expected_after = {row["step"]: row for row in expected_rows if "valid_perplexity" not in row}
    assert after_steps.keys() == expected_after.keys() and len(after_steps) == expected["steps"]
    for step, row in after_steps.items():
        for key in ("train_perplexity", "grad_norm", "learning_rate"):
            assert row[key] == pytest.approx(expected_after[step][key], rel=2e-5), (step, key)
    for row, other in zip(result["history"], expected["history"], strict=True):
        assert row["valid_perplexity"] == pytest.approx(other["valid_perplexity"], rel=1e-5)
        assert row["clipped_share"] == other["clipped_share"]


def test_averaging_counts_steps_not_parts(tiny_ids: Path, tiny_params: Params, tmp_path: Path) -> None:
    params = with_train(tiny_params, optimizer="nt_asgd", nonmonotone_interval=1, max_epochs=4)
    model = params.models["lstm"].model_copy(update={"learning_rate": 5.0})  # its valid loss soon rises
    params = params.model_copy(update={"models": {"lstm": model}})
    results = []
    for accumulate in (1, 2):
        job = write_job(with_train(params, accumulate=accumulate), tiny_ids, tmp_path / str(accumulate))
        results.append(outcome(job, "alone", tmp_path)[0])
    for row, other in zip(results[0]["history"], results[1]["history"], strict=True):
        assert row["valid_perplexity"] == pytest.approx(other["valid_perplexity"], rel=1e-4)


def test_valid_is_the_same_number_on_any_number_of_devices(tiny_ids: Path, tiny_params: Params, tmp_path: Path) -> None:
    """Weights that stay where they are: whoever scores what, the figure is the same to the last bit."""
    model = tiny_params.models["lstm"].model_copy(update={"learning_rate": 1e-30})
    params = with_train(tiny_params, optimizer="sgd", max_epochs=1).model_copy(update={"models": {"lstm": model}})
    one, _ = outcome(write_job(params, tiny_ids, tmp_path / "one"), "alone", tmp_path)
    two, _ = outcome(write_job(params, tiny_ids, tmp_path / "two", devices=2), "alone", tmp_path)
    assert two["num_devices"] == 2
    assert two["valid_perplexity"] == one["valid_perplexity"]


def test_evaluation_is_the_same_on_any_number_of_devices(
    tiny_ids: Path, tiny_params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, model_params = load_ids(tiny_ids), tiny_params.models["gru"]
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = build_model(model_params, corpus.vocab_size, corpus.eos_id)
        about = ModelDescription("gru", model_params, corpus.vocab_size, corpus.eos_id, corpus.tokenizer_sha256, seed)
        save_model(model, about, tmp_path / f"seed-{seed}")
    reports = []
    for cores in (1, 4):
        devices = placement.Devices("cpu", tuple(range(cores)), cores)
        monkeypatch.setattr(neural, "find_devices", lambda accelerator, devices=devices: devices)
        out = tmp_path / f"{cores} cores"
        reports.append(neural.evaluate_model(tiny_params, "gru", tiny_ids, tmp_path, out, lambda seed, result: None))
    assert reports[0] == reports[1]
    for path in (tmp_path / "1 cores").iterdir():
        assert np.array_equal(np.load(path), np.load(tmp_path / "4 cores" / path.name))


def test_evaluation_begins_on_every_gpu_at_once(
    tiny_ids: Path, tiny_params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, model_params = load_ids(tiny_ids), tiny_params.models["gru"]
    model = build_model(model_params, corpus.vocab_size, corpus.eos_id)
    for seed in (0, 1):
        about = ModelDescription("gru", model_params, corpus.vocab_size, corpus.eos_id, corpus.tokenizer_sha256, seed)
        save_model(model, about, tmp_path / f"seed-{seed}")
    places: dict[int, str] = {}
    scored: list[str] = []

    def load(folder: Path, place: str) -> Any:
        loaded = load_model(folder)
        places[id(loaded)] = place
        return loaded

    def score(model: Any, *arguments: Any) -> Any:
        scored.append(places[id(model)])
        return score_split(model, *arguments)

    score_split = neural.score_split
    monkeypatch.setattr(neural, "find_devices", lambda accelerator: placement.Devices("cuda", (0,), 2))
    monkeypatch.setattr(neural, "load_model", load)
    monkeypatch.setattr(neural, "score_split", score)
    neural.evaluate_model(tiny_params, "gru", tiny_ids, tmp_path, tmp_path / "nats", lambda seed, result: None)
    assert sorted(scored[:2]) == ["cuda:0", "cuda:1"]
    assert scored.count("cuda:0") == scored.count("cuda:1")


def test_the_sbatch_file_trains_requeues_and_goes_on(
    tiny_ids: Path, tiny_params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nodes, told by SLURM that the time is over: saved, queued again, and the bits of no interruption."""
    size = {"kind": "lstm", "embedding_size": 8, "hidden_size": 8, "learning_rate": 0.02, "dropout": 0.3}
    train = tiny_params.train.model_dump(mode="json") | {"max_epochs": 3, "checkpoint_seconds": 1e9, "seeds": [0]}
    project = tmp_path / "project"
    (project / "data").mkdir(parents=True)
    (project / "data" / "ids").symlink_to(tiny_ids)
    (project / "params.yaml").write_text(yaml.safe_dump({"train": train, "models": {"lstm": size}}))
    params = load_params(project / "params.yaml")
    path = os.pathsep.join([str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | slurm(2) | programs(tmp_path / "bin", srun=SRUN, scontrol=SCONTROL)

    write_json(project / "reports" / "tune" / "lstm.json", not_searched("lstm"))

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(ROOT / "slurm" / "train.sbatch"), "lstm"], cwd=project, text=True,
            env=environment | {"PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    whole = write_job(params, tiny_ids, tmp_path / "whole", threads=len(os.sched_getaffinity(0)))
    outcome(whole, "slurm", tmp_path)
    folder = project / "work" / "lstm" / "seed-0"
    script = start()
    while script.poll() is None and not (folder / "progress.jsonl").exists():
        time.sleep(0.01)
    os.kill(int((project / "srun.pid").read_text()), signal.SIGUSR1)
    output, _ = script.communicate(timeout=300)
    assert script.returncode == 0, output
    assert (project / "scontrol.log").read_text() == "requeue 4242\n", output
    assert (folder / LATEST).exists() and not (folder / "result.json").exists()

    script = start()
    output, _ = script.communicate(timeout=300)
    assert script.returncode == 0, output
    assert (project / "scontrol.log").read_text() == "requeue 4242\n"
    weights = [hashlib.sha256((at / "model" / "model.safetensors").read_bytes()) for at in (folder, whole.folder)]
    assert weights[0].hexdigest() == weights[1].hexdigest()

    def no_devices(accelerator: str) -> placement.Devices:
        raise AssertionError("asked for devices with nothing to train")

    monkeypatch.setattr(placement, "find_devices", no_devices)
    monkeypatch.chdir(project)
    with Training(params, "lstm", Path("data/ids"), Path("models/lstm"), Path("work")) as training:
        assert training.write_jobs() == []
        report = training.finish(lambda job, row: pytest.fail(f"{job.label} was trained anew"))
    assert [run["num_devices"] for run in report["runs"]] == [2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_two_processes_told_to_stop_save_first(
    number: signal.Signals, tiny_ids: Path, tiny_params: Params, tmp_path: Path
) -> None:
    params = with_train(tiny_params, max_epochs=500, checkpoint_seconds=1e9)
    job = write_job(params, tiny_ids, tmp_path / "job", devices=2)
    process = subprocess.Popen(
        [sys.executable, "-m", "nextword.training.worker", str(job.folder / "job.json")],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    while process.poll() is None and not job.rows.exists():
        time.sleep(0.01)
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == STOPPED[number], output
    assert (job.folder / LATEST).exists() and not job.result.exists()


@pytest.mark.parametrize(
    ("statuses", "runs", "requeued", "ended"),
    [
        ([0, 0], 2, False, 0),
        ([0, 138], 2, True, 0),
        ([138], 1, True, 0),
        ([143], 1, False, 143),
        ([1, 0], 2, False, 1),
    ],
    ids=["done", "time is over", "time is over at once", "cancelled", "a run failed"],
)
def test_what_the_sbatch_file_makes_of_an_end(
    statuses: list[int], runs: int, requeued: bool, ended: int, tmp_path: Path
) -> None:
    (tmp_path / "statuses").write_text("".join(f"{status}\n" for status in statuses))
    stubs = programs(tmp_path / "bin", python=STUB_PYTHON, srun=STUB_SRUN, scontrol=SCONTROL)
    done = subprocess.run(
        ["bash", str(ROOT / "slurm" / "train.sbatch"), "lstm"], cwd=tmp_path, env=os.environ | slurm(2) | stubs
    )
    assert done.returncode == ended
    assert len((tmp_path / "srun.log").read_text().splitlines()) == runs
    assert (tmp_path / "scontrol.log").exists() == requeued


def test_what_is_done_does_not_change_where_the_rest_runs(
    tiny_ids: Path, tiny_params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads decide the last bits: after an interruption each run has as many as it would have had without."""
    places: list[tuple[int, tuple[int, ...]]] = []

    class Started:
        def __init__(self, job: Job, slot: placement.Slot) -> None:
            places.append((job.seed, slot.cores))

        def terminate(self) -> None: ...

        def wait_or_kill(self) -> None: ...

    monkeypatch.setattr(placement, "_Process", Started)
    monkeypatch.setattr(placement, "find_devices", lambda *_: placement.Devices("cpu", (0, 1), 2))
    for done, expected in (([], [(0, (0,)), (1, (1,))]), ([0], [(1, (1,))]), ([0, 1], [(2, (0, 1))])):
        work = tmp_path / str(done)
        training = Training(with_train(tiny_params, seeds=(0, 1, 2)), "lstm", tiny_ids, tmp_path / "out", work)
        for seed in done:
            job = training.jobs[seed]
            job.folder.mkdir(parents=True)
            job.result.write_text(json.dumps({"fingerprint": job.fingerprint}))
        places.clear()
        with Training(with_train(tiny_params, seeds=(0, 1, 2)), "lstm", tiny_ids, tmp_path / "out", work):
            assert places == expected


def test_a_stage_within_slurm_starts_runs_of_its_own_machine(
    tiny_ids: Path, tiny_params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = slurm(4) | {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_NODEID": "3"}
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    report = train_model(
        with_train(tiny_params, max_epochs=1), "nnlm", tiny_ids, tmp_path / "out", tmp_path / "work", lambda *_: None
    )
    assert [run["num_devices"] for run in report["runs"]] == [1]


def test_short_memory_of_one_process_ends_the_run_with_what_helps(
    tiny_ids: Path, tiny_params: Params, tmp_path: Path
) -> None:
    """Memory runs out for real, in the second process; the first does not wait for it."""
    model = tiny_params.models["lstm"].model_copy(update={"hidden_size": 2048, "embedding_size": 2048})
    job = write_job(tiny_params.model_copy(update={"models": {"lstm": model}}), tiny_ids, tmp_path / "job", devices=2)
    (tmp_path / "worker.py").write_text(SHORT_OF_MEMORY)
    command = [sys.executable, str(tmp_path / "worker.py"), str(job.folder / "job.json")]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    assert done.returncode not in (0, *STOPPED.values())
    assert f"error: lstm seed 0: {memory_advice(job)}" in done.stdout
    for part in ("batch_size 4 (2 streams", "bptt 7", "train.accumulate: 2", "models.lstm.checkpoint_steps: 3"):
        assert part in memory_advice(job)


def test_a_killed_run_is_told_from_a_failed_one(
    tiny_ids: Path, tiny_params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that is out of memory sends SIGKILL: the stage names the run, and what helps."""
    killer = programs(tmp_path / "bin", python="#!/bin/sh\nkill -9 $$\n")["PATH"].split(os.pathsep)[0]
    monkeypatch.setattr(sys, "executable", f"{killer}/python")
    with pytest.raises(RuntimeError, match=r"nnlm seed 3 ended with status -9(.|\n)*out of memory with batch_size 4"):
        train_model(tiny_params, "nnlm", tiny_ids, tmp_path / "out", tmp_path / "work", lambda *_: None)


LAUNCHED_BY_TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "2", "RANK": "5", "LOCAL_RANK": "1",
}  # fmt: skip
LAUNCHED_BY_SLURM = slurm(3, 2) | {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "6", "SLURM_PROCID": "5"}


@pytest.mark.parametrize("variables", [LAUNCHED_BY_TORCHRUN, LAUNCHED_BY_SLURM], ids=["torchrun", "slurm"])
def test_nodes_are_those_of_the_launcher(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_cluster(2)[1] == 1
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    environment, nodes = find_cluster(2)
    assert (nodes, environment.world_size(), environment.global_rank()) == (3, 6, 5)
    assert not getattr(environment, "auto_requeue", False)
    with pytest.raises(ValueError, match=r"2 processes a node \(6 in all\) were started for a run of 4 devices a node"):
        find_cluster(4)


def test_in_an_allocation_but_not_by_srun(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in (slurm(2) | {"SLURM_NTASKS": "2", "SLURM_PROCID": "0"}).items():
        monkeypatch.setenv(key, value)
    environment, nodes = find_cluster(1)
    assert nodes == 1 and not environment.creates_processes_externally


def test_a_batch_that_cannot_be_cut_is_refused() -> None:
    with pytest.raises(ValueError, match=r"batch_size 20 does not divide by 2 devices times accumulate 4"):
        TrainParams(batch_size=20, accumulate=2).model_copy(update={"accumulate": 4}).require_parts(2)
    with pytest.raises(ValueError, match=r"take a multiple of 3"):
        TrainParams(batch_size=20, accumulate=3)


def test_a_checkpoint_of_other_processes_is_passed_over(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "same", 0.0)
    torch.save({"fingerprint": "same", "processes": [{}, {}]}, tmp_path / LATEST)
    torch.save({"fingerprint": "same", "processes": [{}]}, tmp_path / PREVIOUS)
    assert checkpoints.find(2) == tmp_path / LATEST
    assert checkpoints.find(1) == tmp_path / PREVIOUS
    assert checkpoints.find(3) is None
