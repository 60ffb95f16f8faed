"""Leaderboard, GRU against LSTM, LSTM ablations, RNN variants, bidirectional models: tables, plots and report page.

Writes reports/compare and reports/metrics.json. Tables of variants and of bidirectional models are there where
params.yaml names such models.
"""

from nextword.config import load_params
from nextword.paths import REPORTS, RUNS
from nextword.report import compare
from nextword.stage import run_stage
from nextword.tracking import git_commit, stage_run


def main() -> None:
    """Run the stage."""
    params = load_params()
    with stage_run(params.tracking, "compare", params.compare.model_dump(), RUNS / "compare.json") as run:
        result = compare(params, REPORTS, git_commit())
        run.metrics(result.metrics)
        for name, rows in result.tables.items():
            run.table(rows, f"{name}.json")
        run.artifact(result.folder, "report")
        run.note(result.short)
        print(result.summary)
        print(f"report: {result.page}")


if __name__ == "__main__":
    run_stage(main)
