"""Fetch, clean and split the corpus: data/corpus, reports/corpus.json."""

from nextword.config import load_params
from nextword.files import write_json
from nextword.paths import CORPUS, REPORTS, RUNS
from nextword.stage import run_stage
from nextword.text import describe_corpus, prepare_corpus
from nextword.tracking import stage_run


def main() -> None:
    """Run the stage."""
    params = load_params()
    with stage_run(params.tracking, "prepare", params.corpus.model_dump(), RUNS / "prepare.json") as run:
        report = prepare_corpus(params.corpus, CORPUS)
        write_json(REPORTS / "corpus.json", report)
        run.artifact(REPORTS / "corpus.json")
        for name, split in report["splits"].items():
            run.metrics({name: split})
            run.dataset(f"{report['source']}/{name}", split["sha256"], CORPUS / f"{name}.txt", split["num_lines"])
        print(describe_corpus(report))


if __name__ == "__main__":
    run_stage(main)
