"""``nextword probe``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nextword.paths import IDS


def add_commands(commands: Any) -> None:
    """Add it to the parser."""
    command = commands.add_parser(
        "probe",
        help="measure gradient flow, context use and embeddings of a trained model",
        description="Measure gradient flow, context use and embeddings of a trained model.",
    )
    command.add_argument("model", type=Path, metavar="MODEL_DIR", help="folder of one seed, e.g. models/lstm/seed-0")
    command.add_argument("--ids", type=Path, default=IDS, help="folder that `dvc repro encode` wrote (%(default)s)")
    command.add_argument("--split", default="test", choices=("train", "valid", "test"), help="text (%(default)s)")
    command.add_argument("--params", type=Path, help="a params.yaml whose section `probe` is taken (else its defaults)")
    command.add_argument("--out", type=Path, metavar="FILE.json", help="write all numbers there")
    command.set_defaults(run=_probe)


def _probe(given: argparse.Namespace) -> None:
    # imported here, so that --help is quick
    from nextword.config import ProbeParams, load_params
    from nextword.files import write_json
    from nextword.probes.model import describe_probe, probe_model
    from nextword.report.tables import finite
    from nextword.stage import progress_bar

    params = ProbeParams() if given.params is None else load_params(given.params).probe
    with progress_bar("probe") as progress:
        report: dict[str, Any] = probe_model([given.model], given.ids, params, progress, given.split)
    print(describe_probe(report))
    if given.out is not None:
        write_json(given.out, finite(report))
        print(f"numbers: {given.out}")
