"""Build the vocabulary from train and turn text into ids: data/ids, reports/ids.json."""

from nextword.config import load_params
from nextword.files import write_json
from nextword.paths import CORPUS, IDS, REPORTS, RUNS
from nextword.stage import run_stage
from nextword.text import coverage_figure, describe_ids, encode_corpus, load_ids
from nextword.tracking import stage_run


def main() -> None:
    """Run the stage."""
    params = load_params()
    with stage_run(params.tracking, "encode", params.tokenizer.model_dump(), RUNS / "encode.json") as run:
        report = encode_corpus(params.tokenizer, CORPUS, IDS)
        write_json(REPORTS / "ids.json", report)
        run.artifact(REPORTS / "ids.json")
        run.figure(coverage_figure(report), "coverage.svg")
        run.metrics(report["splits"])
        run.ids(load_ids(IDS), "train", "valid", "test")
        print(describe_ids(report))


if __name__ == "__main__":
    run_stage(main)
