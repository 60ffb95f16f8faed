"""From which stages, runs, commit and data a table or a figure came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from nextword.report.collect import Reports, stage_names

SHORT = 8
"""Characters of an id or a digest that are shown where the whole of it stands elsewhere."""


@dataclass(frozen=True)
class Origin:
    """What something was made from."""

    runs: dict[str, str | None]
    """MLflow run id by stage; None where the stage was not tracked."""
    data: dict[str, str]
    """SHA-256 of the ids by split."""
    commits: dict[str, tuple[str, ...]]
    """Stages by the commit at which they ran, ``(changed)`` after it where files differed; those not known left out."""
    commit: str | None
    """At which they were compared; None where it is not known."""

    @property
    def record(self) -> dict[str, Any]:
        """As written to JSON."""
        return {"commit": self.commit, "commits": self.commits, "data_sha256": self.data, "runs": self.runs}


def stages_of(sources: Sequence[str], reports: Reports) -> tuple[str, ...]:
    """The stages that ``sources`` name, in the order in which they run.

    Args:
        sources: names, or patterns such as ``train@*``; none means all stages.
        reports: for the names of all stages.

    Raises:
        ValueError: a source is no stage of these params.
    """
    names = stage_names(reports.params)
    if missing := [source for source in sources if not any(fnmatchcase(name, source) for name in names)]:
        raise ValueError(f"{', '.join(missing)}: no such stage; there are {', '.join(names)}")
    return tuple(name for name in names if not sources or any(fnmatchcase(name, source) for source in sources))


def origin(sources: Sequence[str], reports: Reports, commit: str | None) -> Origin:
    """What a table or a figure of these sources was made from; a stage that DVC took from its cache ran before.

    Args:
        sources: as :func:`stages_of`.
        reports: for the runs and the data.
        commit: at which they are compared.

    Raises:
        ValueError: as :func:`stages_of`.
    """
    runs = {stage: reports.runs.get(stage, {}) for stage in stages_of(sources, reports)}
    commits: dict[str, tuple[str, ...]] = {}
    for stage, run in runs.items():
        if run.get("commit"):
            at = f"{run['commit']} (changed)" if run.get("dirty") else run["commit"]
            commits[at] = (*commits.get(at, ()), stage)
    splits = reports.ids.get("splits", {})
    data = {name: split["sha256"] for name, split in splits.items() if "sha256" in split}
    return Origin({stage: run.get("run_id") for stage, run in runs.items()}, data, commits, commit)
