"""README's recipe for a new cell, carried out word by word in a copy of the project."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

from nextword.config import Params
from nextword.models.c_library import compiler

ROOT = Path(__file__).resolve().parents[2]


def blocks() -> tuple[str, str, str]:
    """The recipe's file, class and entry."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("## Add a cell")[1].split("\n## ")[0]
    path = re.search(r"\[[^]]*\]\((src/nextword/models/cells/\w+\.py)\)", section)
    code, entry = (re.search(rf"```{kind}\n(.*?)```", section, re.DOTALL) for kind in ("python", "yaml"))
    assert path and code and entry
    return path[1], code[1], entry[1]


def test_one_class_and_one_entry_train_a_new_cell(tmp_path: Path, tiny_ids: Path, tiny_params: Params) -> None:
    path, code, entry = blocks()
    for folder in ("src", "pipeline"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(tiny_ids, tmp_path / "data" / "ids")
    with (tmp_path / path).open("a", encoding="utf-8") as file:
        file.write("\n\n" + code)
    models = YAML(typ="safe").load(entry)["models"]
    (name,) = models
    models[name] |= {"embedding_size": 8, "hidden_size": 8, "learning_rate": 0.02}
    train = tiny_params.train.model_dump(mode="json")
    with (tmp_path / "params.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump({"train": train, "models": models, "compare": {"lstm": name, "gru": []}}, file)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "src"), str(tmp_path)])}
    environment.pop("MLFLOW_TRACKING_URI", None)
    for stage in ("tune", "train"):
        command = [sys.executable, "-m", f"pipeline.{stage}", name]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "reports" / "train" / f"{name}.json").read_text())
    assert report["kind"] == models[name]["kind"]
    assert {run["engine"] for run in report["runs"]} == {"compiled" if compiler() else "scan"}
    for run in report["runs"]:
        first, *_, last = (row["valid_perplexity"] for row in run["history"])
        assert last < first


def test_the_recipe_is_as_short_as_it_says() -> None:
    path, code, entry = blocks()
    assert (ROOT / path).is_file()
    assert code.count("class ") == 1
    assert len(code.splitlines()) <= 10
    assert len(YAML(typ="safe").load(entry)["models"]) == 1
