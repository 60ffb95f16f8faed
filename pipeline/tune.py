"""Search learning rate and dropout of one neural model: reports/tune/NAME.json.  Usage: pipeline.tune NAME"""

from nextword.config import load_params, read_params
from nextword.files import write_json
from nextword.paths import IDS, REPORTS, RUNS, WORK
from nextword.stage import progress_bar, run_stage
from nextword.tuning import not_searched

# Each worker process imports this file anew, and most models are not searched: what is slow to import is so imported
# where it is used.


def main(name: str) -> None:
    """Run the stage for model ``name``."""
    params = read_params()
    params.require_model(name)
    if name in params.tune.models:
        search(name)
        return
    write_json(REPORTS / "tune" / f"{name}.json", not_searched(name))
    write_json(RUNS / "tune" / f"{name}.json", {})


def search(name: str) -> None:
    """Search, report, track."""
    from nextword.report.tables import finite
    from nextword.text import load_ids
    from nextword.tracking import stage_run
    from nextword.tuning.outcome import describe, figures, rows
    from nextword.tuning.search import close_study, tune_model

    params = load_params()
    out, studies = REPORTS / "tune" / f"{name}.json", WORK / "tune"
    config = {"tune": params.tune.model_dump(), "model": params.models[name].model_dump()}
    with stage_run(params.tracking, f"tune@{name}", config, RUNS / "tune" / f"{name}.json") as run:
        run.ids(load_ids(IDS), "train", "valid")
        with progress_bar(f"tune {name}") as progress:
            report = finite(tune_model(params, name, IDS, studies, progress))
        write_json(out, report)
        run.artifact(out)
        run.table(rows(report), "trials.json")
        run.metrics(figures(report))
        run.params({"best": report["settings"]})
        print(describe(report))
    close_study(params, name, IDS, studies)


if __name__ == "__main__":
    run_stage(main)
