"""The colours: readable on every ground they stand on, and different for the colour-blind too."""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from multires_edge.base.palette import DARK, LIGHT, Palette, css, plot_style, standalone, themed

# Machado, Oliveira and Fernandes, 2009: linear RGB as seen without red, green or blue cones.
SEEN = {
    "all": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}
_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> NDArray[np.float64]:
    x = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def contrast(a: str, b: str) -> float:
    """That of WCAG 2."""
    dark, light = sorted(float(_TO_XYZ[1] @ linear(colour)) for colour in (a, b))
    return (light + 0.05) / (dark + 0.05)


def lab(colour: str, seen: str) -> NDArray[np.float64]:
    """CIE L*a*b*, in which 2.3 is a difference that can just be seen."""
    xyz = _TO_XYZ @ np.clip(np.asarray(SEEN[seen]) @ linear(colour), 0, 1) / (_TO_XYZ @ np.ones(3))
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
class TestPalette:
    def test_text_is_readable(self, palette: Palette) -> None:
        for ground in (palette.ground, palette.panel, palette.control):
            for name in ("text", "quiet", "good", "warn", "bad", "focus"):
                assert contrast(getattr(palette, name), ground) >= 4.5, (name, ground)
        for name in ("good", "warn", "bad"):
            assert contrast(palette.on, getattr(palette, name)) >= 4.5, name

    def test_curves_and_traces_are_seen(self, palette: Palette) -> None:
        for colour in palette.series:
            assert contrast(colour, palette.panel) >= 3, colour
        for paper in (palette.panel, palette.paper, palette.paper_strong):
            assert contrast(palette.trace, paper) >= 7

    @pytest.mark.parametrize("seen", SEEN)
    def test_series_can_be_told_apart(self, palette: Palette, seen: str) -> None:
        for a, b in combinations(palette.series[:5], 2):
            assert np.linalg.norm(lab(a, seen) - lab(b, seen)) > 15, (a, b)

    def test_every_colour_has_a_value_of_its_own(self, palette: Palette) -> None:
        values = list(palette.variables().values())
        assert len(set(values)) == len(values), "or `themed` could not tell which it is"
        assert all(re.fullmatch("#[0-9a-f]{6}", value) for value in values)


def test_the_style_sheet_is_dark_on_dark_screens_only() -> None:
    always, dark = css().split("@media screen and (prefers-color-scheme:dark)")
    assert f"--panel:{LIGHT.panel};" in always and f"--panel:{DARK.panel};" in dark


def test_a_drawing_takes_the_colours_of_the_page() -> None:
    assert themed(f'<path style="stroke: {LIGHT.series[1]}; fill: #abcdef"/>') == (
        f'<path style="stroke: var(--series-1,{LIGHT.series[1]}); fill: #abcdef"/>'
    )


def test_a_file_of_its_own_has_the_palette() -> None:
    svg = standalone(f'<?xml?><svg width="9"><path fill="{LIGHT.text}"/></svg>')
    assert svg.startswith('<?xml?><svg width="9"><style>:root{') and svg.endswith("</svg>")
    assert f'fill="var(--text,{LIGHT.text})"' in svg and DARK.text in svg


def test_matplotlib_takes_the_style() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    with matplotlib.rc_context(plot_style()):
        assert matplotlib.rcParams["axes.prop_cycle"].by_key()["color"] == list(LIGHT.series)
