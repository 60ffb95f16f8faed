"""Say stage by stage what of the sections on models and training it depends on: data/plan."""

from nextword.config import read_params
from nextword.config.conditions import plan
from nextword.files import write_json
from nextword.paths import PLAN
from nextword.stage import run_stage


def main() -> None:
    """Run the stage."""
    for place, conditions in plan(read_params()).items():
        write_json(PLAN / place, conditions)


if __name__ == "__main__":
    run_stage(main)
