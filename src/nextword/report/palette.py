"""One palette for all plots, and the colours of the page on a light and on a dark background.

Figures are drawn in the light colours. :func:`inline_svg` replaces each by a CSS variable, so that the page can show
the same figure on a dark background.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Light and dark form of each colour. Hues are those of Okabe & Ito (2008), told apart by colour-blind readers; the
# dark form is lighter, so that both keep a contrast of 3:1 against their background.
SERIES: tuple[tuple[str, str], ...] = (
    ("#0072b2", "#56a9e8"),  # blue
    ("#d55e00", "#ff8a3d"),  # vermilion
    ("#00805d", "#2fc79a"),  # green
    ("#b8578f", "#e08fbe"),  # purple
    ("#a87400", "#e6b422"),  # ochre
    ("#2b8fc4", "#8fd3ff"),  # sky
    ("#6b5bd2", "#a79bff"),  # violet
    ("#7a5c3e", "#c7a27c"),  # brown
)
INK, MUTED, GRID, PAPER = ("#1b1f24", "#e6e8eb"), ("#59626d", "#a4adb8"), ("#dfe3e8", "#343b44"), ("#ffffff", "#15191e")
MARKERS = "osD^vPX*"
DASHES = ("-", "--", ":", "-.")

VARIABLES = {"ink": INK, "muted": MUTED, "grid": GRID, "paper": PAPER} | {
    f"series-{index}": pair for index, pair in enumerate(SERIES)
}
"""CSS variable to its light and dark value."""


@dataclass(frozen=True)
class Looks:
    """A colour, marker and dash for each name; the same in every plot."""

    names: tuple[str, ...]
    """All names, in the order in which they take colours."""

    def colour(self, name: str) -> str:
        """Colour of ``name``."""
        return SERIES[self.names.index(name) % len(SERIES)][0]

    def marker(self, name: str) -> str:
        """Marker of ``name``."""
        return MARKERS[self.names.index(name) % len(MARKERS)]

    def dash(self, name: str) -> str:
        """Line style of ``name``: solid until the colours are used up."""
        return DASHES[self.names.index(name) // len(SERIES) % len(DASHES)]


def inline_svg(text: str, name: str, label: str) -> str:
    """SVG for the inside of a page: colours as CSS variables, ids that are unique in the page, a label to read out.

    Args:
        text: what :func:`svg` gave.
        name: prefix of the ids: letters, digits, hyphens.
        label: what the picture shows, without characters that HTML reserves.
    """
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'"#([^"]+)"', rf'"#{name}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    body = re.sub(
        r"font: ([^;\"]*?)[\d.]+px [^;\"]*", lambda match: match.group(0).split("px")[0] + "px var(--font)", body
    )
    for variable, (light, _) in VARIABLES.items():
        body = re.sub(rf"{light}\b", f"var(--{variable})", body, flags=re.IGNORECASE)
    opening = body[: body.index(">")]
    fitted = re.sub(r' (width|height)="[^"]*"', "", opening)
    return f'{fitted} role="img" aria-label="{label}"' + body[len(opening) :]


def css_variables() -> dict[str, str]:
    """Declarations of the colours by scheme, ``light`` and ``dark``."""
    return {
        scheme: " ".join(f"--{name}: {pair[index]};" for name, pair in VARIABLES.items())
        for index, scheme in enumerate(("light", "dark"))
    }
