"""Leaderboard, GRU against LSTM, report page: reports/compare, reports/metrics.json."""

from nextword.config import load_params
from nextword.paths import REPORTS, RUNS
from nextword.report import compare
from nextword.stage import run_stage
from nextword.tracking import stage_run


def main() -> None:
    params = load_params()
    with stage_run(params.tracking, "compare", params.compare.model_dump(), RUNS / "compare.json") as run:
        result = compare(params, REPORTS)
        run.artifact(REPORTS / "compare", "report")
        run.note(result.markdown)
        print(result.summary)


if __name__ == "__main__":
    run_stage(main)
