"""One self-contained page: inline style and pictures, no link to anything outside, no script."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from ruamel.yaml import YAML

from nextword.report.collect import Reports
from nextword.report.palette import css_variables, inline_svg
from nextword.report.provenance import SHORT, Origin, origin
from nextword.report.section import CHAPTERS, Section
from nextword.report.tables import count, number

_LONGEST_LIST = 6


@dataclass(frozen=True)
class Picture:
    """A drawn plot as the page shows it."""

    name: str
    title: str
    caption: str
    svg: str
    chapter: str = "models"
    sources: tuple[str, ...] = ()
    """As in :class:`nextword.report.section.Section`."""

    @property
    def rows(self) -> int:
        """Rows of the page's grid that it takes: 1 unless it is tall."""
        size = re.search(r'viewBox="0 0 (\S+) (\S+)"', self.svg)
        return max(1, round(float(size[2]) / float(size[1]) / 0.7)) if size else 1


def render_page(
    reports: Reports,
    summary: Sequence[str],
    sections: Sequence[Section],
    pictures: Sequence[Picture],
    commit: str | None,
) -> str:
    """The whole page as HTML; every text is escaped.

    Args:
        reports: for the corpus, the params and the run ids.
        summary: sentences for the top of the page.
        sections: tables in the order in which they are shown.
        pictures: in the order in which they are shown.
        commit: of the project, or None where it is not known.
    """
    environment = Environment(
        loader=PackageLoader("nextword.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html.j2").render(
        summary=summary,
        chapters=list(_chapters(sections, pictures, lambda sources: origin(sources, reports, commit))),
        colours={scheme: Markup(text) for scheme, text in css_variables().items()},
        facts={"Corpus": list(facts(reports.corpus)), "Ids": list(facts(reports.ids))},
        commit=commit,
        runs={stage: str(run["run_id"]) for stage, run in reports.runs.items() if run.get("run_id")},
        short=SHORT,
        params=_yaml(reports.params.model_dump(mode="json")),
        num_targets=count(reports.num_targets),
        models=len(reports.neural),
    )


def _chapters(
    sections: Sequence[Section], pictures: Sequence[Picture], origin_of: Callable[[Sequence[str]], Origin]
) -> Iterator[dict[str, Any]]:
    """Anchor, title, tables by anchor and figures of every chapter that has any."""
    for name, title in CHAPTERS.items():
        figures = [
            {
                "name": picture.name,
                "title": picture.title,
                "caption": picture.caption,
                "svg": _inline(picture),
                "rows": picture.rows,
                "origin": origin_of(picture.sources),
            }
            for picture in pictures
            if picture.chapter == name
        ]
        tables = {
            section.name.replace("_", "-"): (section.table, origin_of(section.sources))
            for section in sections
            if section.chapter == name
        }
        if figures or tables:
            yield {"anchor": f"chapter-{name}", "title": title, "tables": tables, "figures": figures}


def facts(report: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Name and text of every short value of a report, whatever its shape; curves and long lists are left out."""
    for key, value in ((str(key), value) for key, value in report.items()):
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from facts(value, f"{name} · ")
        elif isinstance(value, list | tuple):
            if (
                value
                and len(value) <= _LONGEST_LIST
                and not any(isinstance(item, list | tuple | dict) for item in value)
            ):
                yield name, ", ".join(map(_fact, value))
        elif value is not None:
            yield name, str(value) if key.endswith("year") else _fact(value)


def _fact(value: Any) -> str:
    if isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef"):
        return f"{value[:12]}…"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, float):
        return number(value)
    return count(value)


def _inline(picture: Picture) -> Markup:
    label = Markup.escape(f"{picture.title}. {picture.caption}")
    return Markup(inline_svg(picture.svg, f"plot-{picture.name.replace('_', '-')}", str(label)))


def _yaml(tree: Mapping[str, Any]) -> str:
    buffer = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(dict(tree), buffer)
    return buffer.getvalue()
