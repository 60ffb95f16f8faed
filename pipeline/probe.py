"""Gradient flow, use of context and embeddings of a model: reports/probe/NAME.json.  Usage: pipeline.probe NAME"""

from concurrent.futures import ThreadPoolExecutor

from nextword.config import load_params
from nextword.files import write_json
from nextword.paths import IDS, MODELS, REPORTS, RUNS
from nextword.probes.model import describe_probe, figures, probe_model
from nextword.report.tables import finite
from nextword.stage import progress_bar, run_stage
from nextword.text import load_ids
from nextword.tracking import stage_run


def main(name: str) -> None:
    """Run the stage for all seeds of model ``name``."""
    params = load_params()
    params.require_model(name)
    folders = [MODELS / name / f"seed-{seed}" for seed in params.seeds_of(name)]
    out = REPORTS / "probe" / f"{name}.json"
    config = params.probe.model_dump()
    with progress_bar(f"probe {name}") as progress, ThreadPoolExecutor(1) as pool:
        measured = pool.submit(probe_model, folders, IDS, params.probe, progress)  # begins while the tracking is opened
        with stage_run(params.tracking, f"probe@{name}", config, RUNS / "probe" / f"{name}.json") as run:
            run.ids(load_ids(IDS), "test")
            report = measured.result()
            write_json(out, finite(report))
            run.artifact(out)
            run.metrics(figures(report))
            print(describe_probe(report))


if __name__ == "__main__":
    run_stage(main)
