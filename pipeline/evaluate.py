"""Score all seeds of one neural model: reports/evaluate/NAME.json, reports/nats/NAME.  Usage: pipeline.evaluate NAME"""

from typing import Any

from nextword.config import load_params
from nextword.evaluation.neural import evaluate_model
from nextword.evaluation.rule import describe
from nextword.files import write_json
from nextword.paths import IDS, MODELS, NATS, REPORTS, RUNS
from nextword.stage import run_stage
from nextword.text import load_ids
from nextword.tracking import stage_run


def main(name: str) -> None:
    """Run the stage for model ``name``."""
    params = load_params()
    params.require_model(name)
    config = params.evaluate.model_dump()
    with stage_run(params.tracking, f"evaluate@{name}", config, RUNS / "evaluate" / f"{name}.json") as run:
        run.ids(load_ids(IDS), "train", "valid", "test")

        def on_result(seed: int, result: dict[str, Any]) -> None:
            adaptive = {way: one["splits"]["test"] for way, one in result["adaptive"].items()}
            with run.child(f"{name} seed {seed}", {"seed": seed}) as child:
                child.metrics(result["splits"])
                child.metrics(result["adaptive"])
            print(f"{describe(result['splits']['test'] | adaptive)} test perplexity ({name} seed {seed})")

        report = evaluate_model(params, name, IDS, MODELS / name, NATS / name, on_result)
        write_json(REPORTS / "evaluate" / f"{name}.json", report)
        run.artifact(REPORTS / "evaluate" / f"{name}.json")


if __name__ == "__main__":
    run_stage(main)
