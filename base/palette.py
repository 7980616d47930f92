"""The colours of the bedside page, the report and the plots, for light and dark screens and for print.

The colours of the series are Okabe and Ito's, which the colour-blind can tell apart. On light ground they are
darker, to be seen on white.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Palette:
    """Colours as #rrggbb. ``on`` is the colour of text on ``good``, ``warn`` and ``bad``."""

    ground: str
    panel: str
    control: str
    edge: str
    text: str
    quiet: str
    good: str
    warn: str
    bad: str
    on: str
    focus: str
    trace: str
    paper: str
    paper_strong: str
    series: tuple[str, ...]

    def variables(self) -> dict[str, str]:
        """The colours by the names of their custom properties in CSS, such as ``--series-0``."""
        names = {name.replace("_", "-"): value for name, value in vars(self).items() if name != "series"}
        series = {f"series-{i}": value for i, value in enumerate(self.series)}
        return {f"--{name}": value for name, value in (names | series).items()}


LIGHT = Palette(
    ground="#eef2f4",
    panel="#ffffff",
    control="#f7fafb",
    edge="#b9c7cf",
    text="#10181d",
    quiet="#4a5a65",
    good="#116a35",
    warn="#855400",
    bad="#b3001e",
    on="#fffffe",
    focus="#0a5fb4",
    trace="#10181e",
    paper="#f6e0dc",
    paper_strong="#ebc4be",
    series=("#0072b2", "#8f3a00", "#a57e12", "#8a2f6c", "#11966f", "#d0452b", "#5c6b75"),
)
DARK = Palette(
    ground="#05080a",
    panel="#0a1116",
    control="#16232b",
    edge="#2c424e",
    text="#f4f8fa",
    quiet="#a9bcc7",
    good="#3df28b",
    warn="#ffc043",
    bad="#ff6a5e",
    on="#160300",
    focus="#7fd4ff",
    trace="#3df28c",
    paper="#15242d",
    paper_strong="#20363f",
    series=("#56b4e9", "#e69f00", "#f0e442", "#cc79a7", "#00b887", "#e0703a", "#b9c4cc"),
)


def css() -> str:
    """The palette as custom properties: dark if the system asks for it, and light in print."""
    light, dark = (
        "".join(f"{name}:{value};" for name, value in palette.variables().items())
        for palette in (LIGHT, DARK)
    )
    return (
        f":root{{color-scheme:light dark;{light}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
    )


def themed(svg: str) -> str:
    """An SVG that was drawn in the colours of LIGHT, with the custom properties in their place."""
    names = {value: name for name, value in LIGHT.variables().items()}
    pattern = re.compile("|".join(names))
    return pattern.sub(lambda match: f"var({names[match[0]]},{match[0]})", svg)


def standalone(svg: str) -> str:
    """An SVG for a file of its own, which has the palette with it."""
    head, tag, rest = themed(svg).partition("<svg")
    opening, end, content = rest.partition(">")
    return f"{head}{tag}{opening}{end}<style>{css()}</style>{content}"


def plot_style() -> dict[Any, Any]:
    """Settings of matplotlib for SVG in the colours of LIGHT, on which :func:`themed` works."""
    names = ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.labelcolor", "ytick.labelcolor")
    return {
        **dict.fromkeys(names, LIGHT.text),
        **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), LIGHT.quiet),
        "grid.color": LIGHT.edge,
        "axes.prop_cycle": f"cycler('color', {list(LIGHT.series)})",
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "legend.facecolor": LIGHT.panel,
        "legend.edgecolor": LIGHT.edge,
        "svg.fonttype": "none",
        "svg.hashsalt": "multires-edge",
    }
