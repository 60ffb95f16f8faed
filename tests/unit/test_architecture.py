"""The code as a whole: imports go one way, files are small, no name shadows the standard library."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "nextword"
SOURCES = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "pipeline").glob("*.py")])
ORDER = [
    "allocator",
    "files",
    "paths",
    "perplexity",
    "stage",
    "pool",
    "config",
    "text",
    "ngram",
    "models",
    "training",
    "evaluation",
    "tuning",
    "probes",
    "serving",
    "tracking",
    "report",
    "commands",
]
"""A room imports from rooms to its left alone (ngram and models not from each other)."""
LATE = {("config", "models"), ("config", "ngram")}
"""Names checked when params.yaml is read; imported inside the function that checks."""


def room(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "nextword" and len(parts) > 1 else None


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    inside = path.is_relative_to(PACKAGE)
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py") if inside else None
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        )  # fmt: skip
        for module in modules:
            assert not (inside and module.startswith("pipeline")), f"{path} imports {module}"
            other = room(module)
            if own in (None, "__init__", "__main__") or other in (None, own) or (own, other) in LATE:
                continue
            assert ORDER.index(other) < ORDER.index(own), f"{own} imports {other}"
            assert (own, other) != ("models", "ngram"), f"{own} imports {other}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300
    assert path.stem not in {"utils", "tokenize", "helpers", "misc"}


@pytest.mark.parametrize("stage", ["evaluate", "probe", "tune", "compare", "experiment"])
def test_stages_start_without_what_only_training_needs(stage: str) -> None:
    """Lightning takes seconds to import, and there are a hundred stages."""
    code = f"import sys, pipeline.{stage}; print('lightning' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == ["False"]


@pytest.mark.parametrize(
    ("own", "seen"), [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")]
)
def test_threads_of_torch_do_not_wait_in_a_loop_unless_the_user_says_so(own: dict[str, str], seen: str) -> None:
    code = "import nextword, os, sys; print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    rest = {key: value for key, value in os.environ.items() if key not in {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=rest | own, check=True)
    assert done.stdout.split() == [seen, "False"]


def test_every_stage_has_its_script() -> None:
    text = (ROOT / "dvc.yaml").read_text()
    for path in (ROOT / "pipeline").glob("*.py"):
        assert path.stem == "__init__" or f"python -m pipeline.{path.stem}" in text
