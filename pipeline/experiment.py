"""An experiment with small trainings of its own: reports/experiments/NAME.json.  Usage: pipeline.experiment NAME"""

from typing import Any

from nextword.config import Params, load_params
from nextword.files import write_json
from nextword.paths import IDS, REPORTS, RUNS
from nextword.probes.figures import FIGURES
from nextword.stage import Progress, progress_bar, run_stage
from nextword.tracking import stage_run

# Each worker process imports this file anew: what is slow to import is so imported where it is used.


def memory(params: Params, workers: int, progress: Progress) -> dict[str, Any]:
    """Memory tasks, and the cures for vanishing gradients."""
    from nextword.probes.memory import memory_tasks

    return memory_tasks(params.memory, workers, progress)


def exploding(params: Params, workers: int, progress: Progress) -> dict[str, Any]:
    """Exploding gradients."""
    from nextword.probes.exploding import exploding_gradients

    return exploding_gradients(IDS, params.exploding, workers, progress)


def window(params: Params, workers: int, progress: Progress) -> dict[str, Any]:
    """The NNLM's window."""
    from nextword.probes.window import nnlm_window

    return nnlm_window(IDS, params.window, params.train, workers, progress)


def sparsity(params: Params, workers: int, progress: Progress) -> dict[str, Any]:
    """Sparsity of n-grams."""
    from nextword.probes.sparsity import ngram_sparsity

    return ngram_sparsity(IDS, params.sparsity, params.ngram, progress)


def capacity(params: Params, workers: int, progress: Progress) -> dict[str, Any]:
    """What LSTM and GRU can hold."""
    from nextword.probes.capacity import capacity as measure

    return measure(IDS, params.capacity, params.train, workers, progress)


def throughput(params: Params, workers: int, progress: Progress) -> dict[str, Any]:
    """Training speed of LSTM and GRU, alone on the machine."""
    from nextword.probes.throughput import throughput as measure

    return measure(IDS, params.throughput, params.train, progress)


FUNCTIONS = (memory, exploding, window, sparsity, capacity, throughput)
EXPERIMENTS = {function.__name__: function for function in FUNCTIONS}
"""By name of the stage, and of its section in params.yaml."""


def main(name: str) -> None:
    """Run the experiment ``name``."""
    from nextword.report.tables import finite
    from nextword.training.placement import find_devices

    params = load_params()
    config = getattr(params, name).model_dump()
    out = REPORTS / "experiments" / f"{name}.json"
    with stage_run(params.tracking, name, config, RUNS / "experiments" / f"{name}.json") as run:
        with progress_bar(name) as progress:
            report = EXPERIMENTS[name](params, len(find_devices("cpu").cores), progress)
        write_json(out, finite(report))
        run.artifact(out)
        run.metrics(FIGURES[name](report))


if __name__ == "__main__":
    run_stage(main)
