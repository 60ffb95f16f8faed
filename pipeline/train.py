"""Train all seeds of one neural model: models/NAME, reports/train/NAME.json.  Usage: pipeline.train NAME [--jobs]

With ``--jobs`` it trains nothing: it writes the job files of the runs that are not done and prints their paths, for
torchrun or SLURM to carry out (slurm/train.sbatch). The stage then takes up their results.
"""

from contextlib import ExitStack
from typing import Any

from nextword.config import load_params
from nextword.paths import IDS, MODELS, REPORTS, RUNS, WORK
from nextword.stage import run_stage
from nextword.text import load_ids
from nextword.tracking import stage_run
from nextword.training.progress import CONDITIONS, OUTCOMES, curves
from nextword.training.run import Training, finish
from nextword.training.worker import Job
from nextword.tuning import tuned


def main(name: str, *options: str) -> None:
    """Run the stage for model ``name``."""
    if options not in ((), ("--jobs",)):
        raise ValueError(f"unknown options {' '.join(options)}; there is --jobs")
    params = load_params()
    params.require_model(name)
    params = tuned(params, name, REPORTS / "tune")
    if options:
        print(*Training(params, name, IDS, MODELS / name, WORK).write_jobs(), sep="\n")
        return
    config = {"train": params.train.model_dump(), "model": params.models[name].model_dump()}
    with (
        Training(params, name, IDS, MODELS / name, WORK) as training,  # begins while the tracking is opened
        stage_run(params.tracking, f"train@{name}", config, RUNS / "train" / f"{name}.json") as run,
        ExitStack() as stack,
    ):
        run.ids(load_ids(IDS), "train", "valid")
        seeds = {s: stack.enter_context(run.child(f"{name} seed {s}", {"seed": s})) for s in params.seeds_of(name)}
        logged: set[int] = set()

        def on_row(job: Job, row: dict[str, Any]) -> None:
            seeds[job.seed].metric_rows([curves(row)])
            logged.add(job.seed)

        report = training.finish(on_row)
        for result in report["runs"]:
            seed = seeds[result["seed"]]
            if result["seed"] not in logged:
                seed.metric_rows(map(curves, result["history"]))
            seed.metrics({key: result[key] for key in OUTCOMES})
            seed.tags({key: result[key] for key in CONDITIONS})
        best = min(report["runs"], key=lambda result: result["valid_perplexity"] or float("inf"))
        run.metrics({"parameters": report["num_parameters"], "best_valid_perplexity": best["valid_perplexity"]})
        if params.tracking.register_models:
            run.log_model(name, MODELS / name / f"seed-{best['seed']}", IDS)
        finish(name, report, REPORTS / "train" / f"{name}.json", WORK)


if __name__ == "__main__":
    run_stage(main)
