"""Which stages of the pipeline ran in a ``dvc repro``, and which were reused: the note on the parent run.

DVC has no hook at its end, so every stage that ends writes the note anew: of the stages that did not run (yet), those
downstream of one that ran may still come, the others are reused. The last stage's note is final.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from nextword.tracking import values

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

logger = logging.getLogger("nextword.tracking")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Safe, and where there is libyaml ten times as fast as ruamel. What is read here is the same in YAML 1.1 and 1.2."""


def write_overview(
    client: MlflowClient, experiment_id: str, parent: str, stages: Sequence[MlflowRun], reports: Path
) -> None:
    """Set tags and note of the parent run from its children ``stages`` and the pipeline's files.

    Args:
        client: of the store.
        experiment_id: of all of these runs.
        parent: id of the run that gets the note.
        stages: its children in the order in which they ran.
        reports: ``reports/runs``, in whose files the reused stages name their runs.
    """
    ran = {run.data.tags.get("nextword.stage", run.info.run_name): run for run in stages}
    known = read_run_ids(reports)
    pending, reused = split_stages(read_lock(Path("dvc.lock")), set(ran))
    rows = ["| Stage | State | Run |", "|---|---|---|"]
    for stage, run in ran.items():
        rows.append(f"| {stage} | {run.info.status.lower()} | {_link(experiment_id, run.info.run_id)} |")
    for stage in reused:
        rows.append(f"| {stage} | reused | {_link(experiment_id, known.get(stage))} |")
    for stage in pending:
        rows.append(f"| {stage} | not yet run | |")
    note = values.text("\n".join(rows), values.MAX_TAG)
    tags = {"nextword.stages_ran": ", ".join(ran), "nextword.stages_reused": ", ".join(reused)}
    for key, value in {**tags, "mlflow.note.content": note}.items():
        client.set_tag(parent, key, values.text(value, values.MAX_TAG))


def read_run_ids(reports: Path) -> dict[str, str]:
    """Run id by stage, from the files that :func:`nextword.tracking.stage_run` wrote into ``reports``."""
    found = {}
    for file in sorted(reports.rglob("*.json")):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if content["run_id"]:
                found[str(content["stage"])] = str(content["run_id"])
        except (OSError, ValueError, KeyError, TypeError):
            logger.debug("%s names no run", file)
    return found


def read_lock(path: Path) -> dict[str, dict[str, set[str]]]:
    """Stages of ``dvc.lock`` that ``dvc.yaml`` beside it still has: ``{"train@lstm": {"deps": {...}, "outs": ...}}``.

    A missing or unreadable file has no stages.
    """
    lock, pipeline = _read(path), _read(path.with_name("dvc.yaml"))
    declared = pipeline.get("stages", {})
    params = _read(path.with_name("params.yaml"))
    stages = {}
    for name, stage in lock.get("stages", {}).items():
        base, _, key = str(name).partition("@")
        if base not in declared or (key and key not in _keys(declared[base], params, key)):
            continue
        stages[str(name)] = {
            side: {str(item["path"]) for item in stage.get(side, []) if "path" in item} for side in ("deps", "outs")
        }
    return stages


def split_stages(stages: Mapping[str, Mapping[str, set[str]]], ran: set[str]) -> tuple[list[str], list[str]]:
    """Stages that did not run: those downstream of one that ran (they may still come), and the others (reused).

    Upstream stages of one that ran are done with, whatever else they depend on.
    """
    readers = {name: {other for other in stages if _reads(stages[other], stages[name])} for name in stages}
    downstream = _closure(readers, ran)
    upstream = {name for name in stages if _closure(readers, {name}) & ran}
    rest = [name for name in stages if name not in ran]
    pending = [name for name in rest if name in downstream - upstream]
    return pending, [name for name in rest if name not in pending]


def _reads(reader: Mapping[str, set[str]], writer: Mapping[str, set[str]]) -> bool:
    return any(_overlap(dep, out) for dep in reader["deps"] for out in writer["outs"])


def _overlap(one: str, other: str) -> bool:
    first, second = f"{one}/", f"{other}/"
    return first.startswith(second) or second.startswith(first)


def _closure(edges: Mapping[str, set[str]], start: set[str]) -> set[str]:
    seen: set[str] = set()
    front = set(start)
    while front:
        front = {to for name in front for to in edges.get(name, set())} - seen
        seen |= front
    return seen


def _keys(declared: Mapping[str, Any], params: Mapping[str, Any], unresolved: str) -> set[str]:
    """The part after ``@`` of each stage that a ``matrix`` or ``foreach`` makes, as DVC names them."""
    axes = list(declared.get("matrix", {"": declared.get("foreach", [])}).values())
    keys = [""]
    for axis in axes:
        if isinstance(axis, str):
            place = axis.removeprefix("${").removesuffix("}").strip().split(".")
            axis = params
            for part in place:
                axis = axis.get(part) if isinstance(axis, Mapping) else None
        if not isinstance(axis, Mapping | list):
            return {unresolved}
        keys = [f"{key}-{item}" if key else str(item) for key in keys for item in axis]
    return set(keys)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _LOADER)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _link(experiment_id: str, run_id: str | None) -> str:
    return (
        f"[{run_id[:8]}](#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning)" if run_id else ""
    )
