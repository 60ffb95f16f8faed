"""Random kills of ``dvc repro``, and what they cost: ``python -m benchmarks.interruption --kills 50 --seed 0``.

A copy of the project with a small profile runs once undisturbed. Then it runs from nothing and is sent signals at
random moments of random stages, each stage as likely as the next, each time followed by another ``dvc repro``, until it
ends; and so on until so many kills have landed. With ``--devices-per-run 2`` each training is two processes.
Exit status 1, and the folder stays, where anything was lost: other bits than undisturbed, a run that does not go on, a
process that outlives its ``dvc repro``, an MLflow run that stays RUNNING.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from nextword.files import write_json

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("dvc.yaml", ".dvcignore", "pipeline", "src")
TARGETS = ("repro", "ngram", "evaluate")
COMPARED = ("data/corpus", "data/ids", "models", "reports/nats")
STAGES = ("prepare", "encode", "ngram", "train", "evaluate")
KILLS_A_RUN = 12
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
PROFILE = """
corpus: {source: sotu, sotu: {from_year: 2012, to_year: 2026}}
tokenizer: {vocab_size: 1000}
ngram: {max_order: 3, smoothings: [add_k, modified_kneser_ney]}
train: {seeds: [0], batch_size: 10, bptt: 20, max_epochs: 3, accelerator: cpu, checkpoint_seconds: 0.5,
  devices_per_run: %d}
models:
  lstm: {kind: lstm, embedding_size: 64, hidden_size: 64, dropout: 0.2, learning_rate: 1e-2, seeds: [0, 1]}
  gru: {kind: gru, embedding_size: 64, hidden_size: 64, dropout: 0.2, learning_rate: 1e-2}
tune: {models: []}
evaluate:
  train_sample_tokens: 2000
  adaptive: {tune_tokens: 500, cache: {size: 50, thetas: [0.3], weights: [0.1]}, dynamic: {learning_rates: [1e-3]}}
compare: {lstm: lstm, gru: [gru], lstm_matched: null}
"""
POLL_SECONDS = 0.1
LEFT_SECONDS = 20.0
"""A process that is there so long after its ``dvc repro`` has ended counts as an orphan."""


class Lost(Exception):
    """What must not happen did."""


@dataclass
class Kill:
    """One signal, and what followed."""

    stage: str
    target: str
    signal: str
    ended: bool
    """Whether ``dvc repro`` ended on it."""
    seconds: float
    """From the signal to that end."""
    left_seconds: float = 0.0
    """From its end to that of the last process."""
    orphans: int = 0


@dataclass
class Project:
    """A copy of the project in a folder of its own."""

    folder: Path
    devices_per_run: int = 1
    kills: list[Kill] = field(default_factory=list)
    starts: int = 0
    cut_locks: int = 0
    """Times that DVC's file of locks was cut short by a kill, and removed as `make repro` does."""

    def __post_init__(self) -> None:
        for name in COPIED:
            source, target = ROOT / name, self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        (self.folder / ".dvc").mkdir()
        (self.folder / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
        (self.folder / "params.yaml").write_text(PROFILE % self.devices_per_run)

    @property
    def log(self) -> Path:
        return self.folder.with_suffix(".log")

    def start(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        locks = self.folder / ".dvc" / "tmp" / "rwlock"
        with suppress(FileNotFoundError):
            try:
                json.loads(locks.read_text())
            except ValueError:
                locks.unlink()
                self.cut_locks += 1
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_"))}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment["PYTHONPATH"] = str(self.folder / "src")
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dvc", *TARGETS], cwd=self.folder, env=environment, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and process.cwd() == str(self.folder):
                    found.append(process)
        return found

    def running(self, dvc: subprocess.Popen[bytes]) -> tuple[str, dict[str, list[int]]]:
        """The stage that runs, and process ids by what they are to it."""
        stage, there = "dvc between stages", {"group": [dvc.pid], "dvc": [dvc.pid], "stage": [], "worker": []}
        for process in self.processes():
            with suppress(psutil.Error):
                words = process.cmdline()
                names = [word for word in words if word.startswith("pipeline.")]
                if "nextword.training.worker" in words:
                    there["worker"].append(process.pid)
                elif names:
                    there["stage"].append(process.pid)
                    stage = names[0].removeprefix("pipeline.")
        return stage, there

    def strike(self, dvc: subprocess.Popen[bytes], rng: random.Random) -> None:
        """Send a random signal to a random one of: the group, dvc, the stage, a worker. Waits for what follows."""
        stage, there = self.running(dvc)
        target, number = rng.choice([role for role, pids in there.items() if pids]), rng.choice(SIGNALS)
        started = time.monotonic()
        try:
            (os.killpg if target == "group" else os.kill)(rng.choice(there[target]), number)
        except ProcessLookupError:  # it ended in between
            return
        ignored = number == signal.SIGINT and target in ("dvc", "worker")  # Ctrl-C is the stage's: they wait for it
        with suppress(subprocess.TimeoutExpired):
            dvc.wait(3 if ignored else 120)
        kill = Kill(stage, target, number.name, dvc.returncode not in (None, 0), time.monotonic() - started)
        self.kills.append(kill)
        print(kill, file=sys.stderr, flush=True)

    def wait_for_orphans(self, left: list[psutil.Process]) -> None:
        """Wait for the end of what a ``dvc repro`` has left; what does not end is counted, and killed."""
        started = time.monotonic()
        while alive := [process for process in left if _alive(process)]:
            self.kills[-1].left_seconds = time.monotonic() - started
            if self.kills[-1].left_seconds > LEFT_SECONDS:
                break
            time.sleep(0.05)
        for process in alive:
            print(f"orphan: {process}", file=sys.stderr)
            process.kill()
        self.kills[-1].orphans = len(alive)

    def time_stages(self) -> dict[str, float]:
        """Run to the end, and tell the seconds of the longest process of each stage."""
        dvc, seen = self.start(), dict[tuple[str, int], list[float]]()
        while dvc.poll() is None:
            stage, there = self.running(dvc)
            for pid in there["stage"]:
                seen.setdefault((stage, pid), []).append(time.monotonic())
            time.sleep(POLL_SECONDS)
        if dvc.returncode:
            raise Lost(f"undisturbed, dvc repro ended with {dvc.returncode}:\n{self.log.read_text()[-3000:]}")
        spans = [(stage, times[-1] - times[0]) for (stage, _), times in seen.items()]
        return {stage: max((span for name, span in spans if name == stage), default=0.0) for stage in STAGES}

    def run(self, rng: random.Random, wanted: list[str], seconds: dict[str, float]) -> None:
        """Run to the end, with kills of ``wanted`` stages (removed from it) within their ``seconds`` from the start."""
        left: list[psutil.Process] = []
        while True:
            dvc, struck = self.start(), len(self.kills)
            self.wait_for_orphans(left) if left else None
            while dvc.poll() is None and wanted:
                stage, _ = self.running(dvc)
                with suppress(subprocess.TimeoutExpired):
                    dvc.wait(rng.uniform(0, seconds[stage]) if stage in wanted else POLL_SECONDS)
                if dvc.returncode is None and stage in wanted:
                    self.strike(dvc, rng)
                    wanted.remove(stage)
            if dvc.wait() == 0:
                return
            if struck == len(self.kills):
                raise Lost(f"dvc repro ended with {dvc.returncode} by itself:\n{self.log.read_text()[-3000:]}")
            left = self.processes()
            if rng.random() < 0.5:  # else the next one starts while they are ending
                self.wait_for_orphans(left)
                left = []

    def digests(self) -> dict[str, str]:
        files = [path for folder in COMPARED for path in sorted((self.folder / folder).rglob("*")) if path.is_file()]
        return {str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def open_runs(self) -> int:
        """MLflow runs that nobody has ended."""
        with closing(sqlite3.connect(self.folder / "mlruns" / "mlflow.db")) as database:
            return int(database.execute("SELECT count(*) FROM runs WHERE status = 'RUNNING'").fetchone()[0])


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def table(kills: list[Kill]) -> str:
    """Kills by signal, target and stage; seconds are the longest, the last ones from the end of ``dvc repro``."""
    rows = ["| | kills | `dvc repro` ended | within | last process gone after | orphans |", "|---|---|---|---|---|---|"]
    for key in ("signal", "target", "stage"):
        for value in Counter(getattr(kill, key) for kill in kills):
            some = [kill for kill in kills if getattr(kill, key) == value]
            ended = [kill.seconds for kill in some if kill.ended]
            left, orphans = max(kill.left_seconds for kill in some), sum(kill.orphans for kill in some)
            within = f"{max(ended):.1f} s" if ended else ""
            rows.append(f"| {key}: {value} | {len(some)} | {len(ended)} | {within} | {left:.1f} s | {orphans} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES, help="these alone are killed")
    parser.add_argument("--devices-per-run", type=int, default=1, help="processes of each training")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write every kill there")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and so would DVC
    rng, folder = random.Random(arguments.seed), Path(tempfile.mkdtemp(prefix="interruption-")).resolve()
    kills, lost = list[Kill](), list[str]()
    rounds = same = starts = cut_locks = 0
    seconds = -time.monotonic()
    wanted = rng.choices(arguments.stages, k=arguments.kills)
    reference = Project(folder / "undisturbed", arguments.devices_per_run)
    of_stages = reference.time_stages()
    undisturbed, expected = seconds + time.monotonic(), reference.digests()
    print(f"undisturbed: {undisturbed:.0f} s, {len(expected)} files compared", file=sys.stderr, flush=True)
    seconds = 0.0
    while wanted:
        project, chosen = Project(folder / f"round-{rounds}", arguments.devices_per_run), wanted[:KILLS_A_RUN]
        del wanted[:KILLS_A_RUN]
        seconds -= time.monotonic()
        try:
            project.run(rng, chosen, of_stages)
            wanted += chosen  # those that were over before their turn
        except Lost as error:
            lost.append(str(error))
        seconds += time.monotonic()
        rounds, kills, starts = rounds + 1, kills + project.kills, starts + project.starts
        cut_locks += project.cut_locks
        found = project.digests()
        differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        same += not differing
        if differing:
            lost.append(f"{project.folder}: other bits in {', '.join(differing)}")
        if number := project.open_runs():
            lost.append(f"{project.folder}: {number} MLflow runs are still RUNNING")
        if orphans := sum(kill.orphans for kill in project.kills):
            lost.append(f"{project.folder}: {orphans} processes outlived their dvc repro by {LEFT_SECONDS:.0f} s")
    print(table(kills))
    if arguments.out:
        figures = {"devices_per_run": arguments.devices_per_run, "undisturbed_seconds": undisturbed, "rounds": rounds}
        write_json(arguments.out, figures | {"same_bits": same, "lost": lost, "kills": list(map(asdict, kills))})
    repeated = (seconds - rounds * undisturbed) / max(1, len(kills))
    print(
        f"\n{len(kills)} kills in {rounds} runs from nothing, {starts - rounds} restarts; {same} of {rounds} ended in "
        f"the bits of the undisturbed one ({len(expected)} files); orphans: {sum(kill.orphans for kill in kills)}. "
        f"DVC's file of locks cut short: {cut_locks}. Undisturbed {undisturbed:.0f} s; repeated and started anew: "
        f"{repeated:.1f} s a kill."
    )
    if lost:
        sys.exit("\n".join([f"lost something; all is left in {folder}", *lost]))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
