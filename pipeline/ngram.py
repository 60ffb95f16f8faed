"""Count n-grams, estimate and score every order and smoothing: models/ngram, reports/ngram.json."""

from nextword.config import load_params
from nextword.evaluation.ngrams import study_ngrams
from nextword.files import write_json
from nextword.paths import IDS, MODELS, NATS, REPORTS, RUNS
from nextword.report.plots import ngram_order_figure, sparsity_figure
from nextword.stage import run_stage
from nextword.text import load_ids
from nextword.tracking import stage_run


def main() -> None:
    """Run the stage."""
    params = load_params()
    with stage_run(params.tracking, "ngram", params.ngram.model_dump(), RUNS / "ngram.json") as run:
        run.ids(load_ids(IDS), "train", "valid", "test")
        report = study_ngrams(params.ngram, IDS, MODELS / "ngram", NATS / "ngram")
        write_json(REPORTS / "ngram.json", report)
        run.artifact(REPORTS / "ngram.json")
        run.figure(ngram_order_figure(report), "perplexity_by_order.svg")
        run.figure(sparsity_figure(report), "sparsity.svg")
        for row in report["models"].values():
            figures = {name: split["reset"] for name, split in row["splits"].items()}
            run.metrics({row["smoothing"]: figures}, step=row["order"])
        run.table([{"order": order, **row} for order, row in report["orders"].items()], "orders.json")
        best = report["models"][report["best"]]["splits"]["test"]["reset"]
        run.metrics({"best_test_perplexity": best["perplexity"]})
        if params.tracking.register_models:
            run.log_model("ngram", MODELS / "ngram", IDS)
        print(f"best on valid: {report['best']}, test perplexity {best['perplexity']:.2f}")


if __name__ == "__main__":
    run_stage(main)
