"""A tracking server over PostgreSQL with eight stages that write at once, while the database is restarted."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from tracking_servers import Server, check, free_port

from nextword.tracking.store import Store

WRITERS = 8
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [Path(shutil.which("initdb") or "/none").parent]
WRITER = """
import sys, time
from pathlib import Path
from tracking_servers import ROWS, run_stage
from nextword.tracking import link

link.PAUSE_SECONDS = 1.0
name = sys.argv[1]

def before_row(step):
    if step == 1:
        Path("ready").touch()
    time.sleep(0.2)

run_stage(name, before_row)
"""


def missing() -> str:
    """What is not there, or nothing."""
    if not (PROGRAMS[-1] / "initdb").exists():
        return "no PostgreSQL: apt-get install postgresql"
    if importlib.util.find_spec("psycopg2") is None:
        return "the server needs a driver: pip install psycopg2-binary"
    if os.getuid() == 0 and subprocess.run(["id", "postgres"], capture_output=True).returncode:
        return "PostgreSQL does not run as root, and there is no user postgres"
    return ""


class Database:
    """A PostgreSQL of our own in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.port, self._data = free_port(), folder / "data"
        self._user = {"user": "postgres"} if os.getuid() == 0 else {}
        if self._user:
            shutil.chown(folder, "postgres")
        self._call("initdb", "--auth=trust", "--username=postgres", "--no-sync")
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
        self._options = options
        self.start()
        self.uri = f"postgresql+psycopg2://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        self._call("pg_ctl", "-w", "-o", self._options, "-l", str(self._data / "log"), "start")

    def crash(self) -> None:
        """Stop it without a checkpoint, its connections cut."""
        self._call("pg_ctl", "-w", "-m", "immediate", "stop")

    def _call(self, program: str, *arguments: str) -> None:
        words = [str(PROGRAMS[-1] / program), "-D", str(self._data), *arguments]
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
            stderr=subprocess.STDOUT, cwd="/", **self._user,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout


@pytest.fixture
def database():
    if reason := missing():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory() as folder:  # pytest's folders are closed to other users
        made = Database(Path(folder))
        yield made
        made.crash()


def test_eight_writers_while_the_database_is_restarted(database, tmp_path):
    server = Server(tmp_path, database.uri).start()
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": server.uri,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
        "OMP_NUM_THREADS": "1",
    }
    folders = [tmp_path / f"writer {number}" for number in range(WRITERS)]
    try:
        writers = []
        for folder in folders:
            folder.mkdir()
            words = [sys.executable, "-c", WRITER, folder.name]
            writers.append(subprocess.Popen(words, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True))
        deadline = time.monotonic() + 180
        while not all((folder / "ready").exists() for folder in folders) and time.monotonic() < deadline:
            time.sleep(0.05)
        database.crash()
        time.sleep(2.0)
        database.start()
        errors = [writer.communicate(timeout=180)[1] for writer in writers]
        assert [writer.returncode for writer in writers] == [0] * WRITERS, errors
        client = Store(server.uri).client()
        for folder in folders:
            sender = subprocess.run(
                [sys.executable, "-m", "nextword.tracking.resend"], cwd=folder, env=environment, capture_output=True
            )
            assert sender.returncode == 0, sender.stderr
            assert json.loads((folder / "reports/runs/stage.json").read_text())["key"]
            check(client, folder.name)
        assert any("it waits in work/tracking" in text for text in errors), "the restart was noticed"
    finally:
        server.kill()
