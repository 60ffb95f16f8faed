"""dvc.yaml names the code that a stage uses: a change there reruns it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
FRAME = {"allocator", "config", "files", "paths", "pool", "report", "serving", "stage", "tracking"}
"""Rooms that bring parameters in and results out: no figure comes from them, so no stage reruns for them; but for the
report, which is what stage compare makes."""
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


def imported(module: str) -> Iterator[tuple[str, str]]:
    """(module, name) of what a file imports of ours, anywhere in it."""
    yield from _imports(ast.parse(_file(module).read_text(encoding="utf-8")))


def _imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nextword"):
            yield from ((node.module or "", alias.name) for alias in node.names)


def _file(module: str) -> Path:
    path = SOURCE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _is_package(module: str) -> bool:
    return SOURCE.joinpath(*module.split(".")).is_dir()


def defined_in(module: str, name: str) -> str:
    """The module that a name comes from: packages pass names of their modules on."""
    if not _is_package(module):
        return module
    if _file(f"{module}.{name}").exists():
        return f"{module}.{name}"
    return next((defined_in(source, name) for source, passed in imported(module) if passed == name), module)


def used(stage: str) -> set[Path]:
    """Files of ours, outside the frame, that a stage's script needs, directly and through others."""
    script, *arguments = STAGES[stage]["cmd"].removeprefix("python -m pipeline.").split()
    tree: ast.AST = ast.parse((ROOT / "pipeline" / f"{script}.py").read_text(encoding="utf-8"))
    if script == "experiment":  # each experiment is a function there
        assert isinstance(tree, ast.Module)
        tree = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == arguments[0])
    waiting, found = [defined_in(*one) for one in _imports(tree)], set[str]()
    while waiting:
        module = waiting.pop()
        if module in found or module.split(".")[1] in FRAME - ({"report"} if stage == "compare" else set()):
            continue
        found.add(module)
        waiting += [defined_in(*one) for one in imported(module)]
    return {_file(module) for module in found}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_that_it_uses(stage: str) -> None:
    dependencies = [ROOT / dep for dep in STAGES[stage]["deps"] if "${" not in dep]
    missing = [
        str(file.relative_to(ROOT))
        for file in sorted(used(stage))
        if not any(file.is_relative_to(dependency) for dependency in dependencies)
    ]
    assert not missing, f"dvc.yaml: {stage} uses {', '.join(missing)}"


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_depends_on_is_there(stage: str) -> None:
    for dependency in STAGES[stage]["deps"]:
        if dependency.startswith(("pipeline/", "src/")):
            assert (ROOT / dependency).exists(), dependency
