"""Repeat a published result: ``make paper PROFILE=ptb-zaremba-small`` (``python -m benchmarks.paper PROFILE``).

The profile is run by ``dvc repro`` in ``work/paper/PROFILE``, a copy of the pipeline with a store of its own, so that
the project's own experiment stays as it is and a run that was interrupted goes on. Then our perplexities are printed
beside the published ones, with what they took.

Without PROFILE the recipes are listed, with the operations of a whole training and how long they would take.
"""

from __future__ import annotations

import argparse
import math
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from nextword.config import Params, read_params
from nextword.files import write_json
from nextword.models import build_model
from nextword.probes.throughput import BACKWARD, peak_operations
from nextword.report.schema import EvaluateFile, TrainFile, TrainRun
from nextword.training.brief import product_type

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("dvc.yaml", ".dvcignore", "pipeline", "src")
PEAK_SECONDS = 2.0
CORPORA = {"data/ptb/ptb.train.txt": (10_000, 929_589), "wikitext-2-v1": (33_278, 2_088_628)}
"""Types, and tokens of train with ``<eos>``, by what a profile names: a file, or a configuration on the hub."""
SUSTAINED = {"CPU": 0.39, "GPU": 10.0}
"""Tera-operations a second of a whole training, for estimates. CPU: measured, two cores with native bfloat16, 24,473
tokens/s of ptb-pytorch-example (RECORD.md). GPU: assumed, 3% of what an A100 has in bfloat16 (312); so little since the
windows are narrow (batch 20) and their steps follow one another. Small models are below it, large batches above.
"""
FLOAT32 = {"CPU": 0.094}
"""The same where a profile asks for float32: 6,100 tokens/s of ptb-zaremba-small."""


def profiles() -> dict[str, Params]:
    """Profiles that repeat a published result, by name."""
    found = {path.stem: read_params(path) for path in sorted((ROOT / "profiles").glob("*.yaml"))}
    return {name: params for name, params in found.items() if params.published}


def recipes(known: dict[str, Params]) -> Iterator[dict[str, Any]]:
    """What each published model demands: its size, and the operations of its whole training, none of it run."""
    for name, params in known.items():
        vocab_size, tokens = CORPORA[str(params.corpus.text.train or params.corpus.hub.config)]
        for model, published in params.published.items():
            with torch.device("meta"):
                built = build_model(params.models[model], vocab_size, 0)
            epochs = params.epochs_of(model)
            yield {
                "profile": name, "model": model, "source": published.source, "test": published.test,
                "parameters": built.num_parameters()["total"], "epochs": epochs,
                "precision": params.train.precision,
                "operations": (1 + BACKWARD) * built.operations_per_token()["total"] * tokens * epochs,
            }  # fmt: skip


def list_recipes(rows: Iterable[dict[str, Any]], sustained: dict[str, float]) -> str:
    """The recipes as a table in Markdown, with the time at so many tera-operations a second."""
    columns = [f"{name}, at {rate:g} TFLOP/s" for name, rate in sustained.items()]
    lines = [" | ".join(["| profile", "model", "test, published", "parameters", "epochs", "TFLOP", *columns, "from |"])]
    lines.append("|" + "---|" * (7 + len(columns)))
    for row in rows:
        times = estimates(row, sustained)
        cells = [
            f"`{row['profile']}`",
            row["model"],
            f"{row['test']:.1f}",
            f"{row['parameters']:,}",
            str(row["epochs"]),
        ]
        cells += [f"{row['operations'] / 1e12:,.0f}", *times, row["source"]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def estimates(row: dict[str, Any], sustained: dict[str, float]) -> list[str]:
    """The time of a recipe at each of the rates, on a CPU at that of its precision."""
    lower = FLOAT32 if row["precision"] == "float32" else {}
    return [duration(row["operations"] / (1e12 * lower.get(name, rate))) for name, rate in sustained.items()]


def duration(seconds: float) -> str:
    """Two digits, in a unit that suits."""
    for unit, length in (("days", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 1.5 * length:
            return f"{float(f'{seconds / length:.2g}'):g} {unit}"
    return f"{seconds:.2g} s"


def lay_out(name: str, params: Params, data: Path | None) -> Path:
    """The folder in which the profile runs, its text in it.

    Args:
        name: of the profile.
        params: what it says.
        data: folder with the files of ``corpus.text``, where they are not where the profile says.

    Raises:
        ValueError: a file of the corpus is missing.
    """
    folder = ROOT / "work" / "paper" / name
    files = [path for path in (params.corpus.text.train, params.corpus.text.valid, params.corpus.text.test) if path]
    sources = {path: data / Path(path).name if data else ROOT / path for path in files}
    if missing := [str(source) for source in sources.values() if not source.is_file()]:
        raise ValueError(f"not found: {', '.join(missing)}; profiles/{name}.yaml says what to put there, or give DATA=")
    for item in COPIED:
        if (ROOT / item).is_dir():
            shutil.rmtree(folder / item, ignore_errors=True)
            shutil.copytree(ROOT / item, folder / item, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / item, folder / item)
    shutil.copy(ROOT / "profiles" / f"{name}.yaml", folder / "params.yaml")
    for path, source in sources.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, folder / path)
    if not (folder / ".dvc").is_dir():
        subprocess.run(["dvc", "init", "--quiet", "--no-scm"], cwd=folder, check=True)
        subprocess.run(["dvc", "config", "core.analytics", "false"], cwd=folder, check=True)
    return folder


def results(folder: Path, params: Params) -> Iterator[dict[str, Any]]:
    """A row for each seed of each model with a published result; its perplexities are None where it diverged."""
    for name, published in params.published.items():
        file = f"{name}.json"
        trained = TrainFile.model_validate_json((folder / "reports" / "train" / file).read_text())
        evaluated = EvaluateFile.model_validate_json((folder / "reports" / "evaluate" / file).read_text())
        scored = {run.seed: run.splits for run in evaluated.runs}
        for run in trained.runs:
            ours = {split: scores["stateful"].perplexity for split, scores in scored.get(run.seed, {}).items()}
            yield {
                "model": name, "seed": run.seed, "source": published.source, "within": published.within,
                **{
                    split: {"ours": ours.get(split), "published": getattr(published, split)}
                    for split in ("valid", "test")
                },
                "parameters": trained.num_parameters.total, "device": run.device, "devices": run.num_devices,
                "threads": run.threads, "precision": run.precision, "epochs": len(run.history),
                "seconds": run.seconds, "seconds_to_best": run.seconds_to_best,
                "seconds_to_valid": {f"{goal:g}": seconds_to(run, goal) for goal in published.milestones},
                "tokens_per_second": run.tokens_per_second,
                "share_of_peak": share_of_peak(run, trained.operations_per_token.total),
            }  # fmt: skip


def seconds_to(run: TrainRun, perplexity: float) -> float | None:
    """Seconds of training (validation is not in them) to the end of the first epoch with such a perplexity on valid."""
    reached = (row.seconds for row in run.history if row.valid_perplexity and row.valid_perplexity <= perplexity)
    return next(reached, None)


def share_of_peak(run: TrainRun, operations: int) -> float:
    """What a run made of the fastest matrix product of this machine, ``operations`` being forward and a token."""
    kind = "cpu" if run.device == "cpu" else "cuda"
    torch.set_num_threads(run.threads or 1)
    peak = peak_operations(kind, product_type(run.precision or "float32", kind), PEAK_SECONDS) * run.num_devices
    return (1 + BACKWARD) * operations * (run.tokens_per_second or 0.0) / peak


def show(rows: list[dict[str, Any]]) -> str:
    """The rows as a table in Markdown, and whether the published results were met."""
    lines = [
        "| model | seed | valid, ours | published | test, ours | published | parameters | epochs | seconds "
        "| seconds to perplexity on valid | tokens/s | share of peak | device |",
        "|" + "---|" * 13,
    ]
    for row in rows:
        cells = [row["model"], row["seed"]]
        for split in ("valid", "test"):
            cells += ["-" if value is None else f"{value:.1f}" for value in row[split].values()]
        device = f"{row['devices']} x {row['device']}, {row['threads']} thread(s), {row['precision']}"
        reached = (f"{goal}: {'-' if s is None else f'{s:,.0f}'}" for goal, s in row["seconds_to_valid"].items())
        cells += [f"{row['parameters']:,}", row["epochs"], f"{row['seconds']:,.0f}", "; ".join(reached)]
        cells += [f"{row['tokens_per_second']:,.0f}"]
        lines.append("| " + " | ".join(map(str, [*cells, f"{row['share_of_peak']:.0%}", device])) + " |")
    for name in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == name]
        above = mean(row["test"]["ours"] or math.inf for row in own) - own[0]["test"]["published"]
        met = "met" if above <= own[0]["within"] else "not met"
        lines += ["", f"{own[0]['source']}: {met}; test perplexity {above:+.1f} ({own[0]['within']:g} allowed)"]
    return "\n".join(lines)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Repeat a published result")
    parser.add_argument("profile", nargs="?", help="name of a profile; without it they are listed")
    parser.add_argument("--data", type=Path, help="folder with the text files that the profile names")
    parser.add_argument("--teraflops", type=float, help="list with the time at this rate of your own machine too")
    arguments = parser.parse_args()
    known = profiles()
    if arguments.profile not in known:
        print("make paper PROFILE=NAME [DATA=FOLDER], NAME being one of:")
        rates = SUSTAINED | ({"yours": arguments.teraflops} if arguments.teraflops else {})
        print(list_recipes(recipes(known), rates))
        print(
            "TFLOP: forward and backward, all epochs. Times are estimates: CPU by a measured rate (where a profile "
            f"says float32, {FLOAT32['CPU']:g} TFLOP/s), GPU by an assumed."
        )
        sys.exit(f"error: no profile {arguments.profile!r}" if arguments.profile else 0)
    params = known[arguments.profile]
    try:
        folder = lay_out(arguments.profile, params, arguments.data)
    except ValueError as error:
        sys.exit(f"error: {error}")
    stages = [f"evaluate@{name}" for name in params.published]
    if status := subprocess.run(["dvc", "repro", *stages], cwd=folder).returncode:
        sys.exit(status)
    rows = list(results(folder, params))
    write_json(folder / "reports" / "paper.json", rows)
    print(f"\n{show(rows)}\n\nAll figures: {(folder / 'reports').relative_to(ROOT)}")


if __name__ == "__main__":
    main()
