"""Draw ``images/architecture.svg``: the folders of the package on floors, and the imports between them.

    python docs/architecture.py            # writes the picture
    python docs/architecture.py --check    # exits with 1 if the picture is out of date

The left half has the top-level folders, the right half the rooms inside ``runtime/``. An arrow points to
what is imported. An import that follows from others along the arrows is not drawn.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "architecture.svg"
PACKAGE = "multires_edge"
INSIDE = "runtime"
ENGINE = "cpp"  # the library that _native calls is compiled from it

NOTE = "Arrows are imports; those that follow are omitted."

Edges = dict[str, set[str]]


@dataclass(frozen=True)
class Box:
    """A room: its lines of text, its size, and the middle of its upper side."""

    title: str
    lines: list[str]
    x: float
    y: float
    width: float
    height: float


def folders() -> list[str]:
    """The subpackages that pyproject.toml lays out."""
    table = (ROOT / "pyproject.toml").read_text("utf-8")
    return re.findall(rf'^"{PACKAGE}/(\w+)" = "\1"$', table, re.MULTILINE)


def imports(path: Path) -> Iterator[list[str]]:
    """The parts of the names within the package that a file imports, deferred imports too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1:] for name in names if name.startswith(f"{PACKAGE}."))


def floors_of_the_package() -> Edges:
    """The folders, and which of the others each imports."""
    names = folders()
    edges: Edges = {name: set() for name in names}
    for name in names:
        for path in sorted((ROOT / name).rglob("*.py")):
            edges[name] |= {parts[0] for parts in imports(path)} & edges.keys() - {name}
    return edges


def rooms_of_the_runtime() -> Edges:
    """The folders and loose modules of the runtime, and which of the others each imports."""
    folder = ROOT / INSIDE
    homes = {path: path.relative_to(folder).parts[0] for path in sorted(folder.rglob("*.py"))}
    homes = {path: name.removesuffix(".py") for path, name in homes.items() if name != "__init__.py"}
    edges: Edges = {name: set() for name in (*homes.values(), ENGINE)}
    for path, home in homes.items():
        for parts in imports(path):
            if parts[0] == INSIDE and len(parts) > 1:
                edges[home].add(ENGINE if "_native" in parts else parts[1])
        edges[home] = edges[home] & edges.keys() - {home}
    return edges


def reachable(edges: Edges, start: str) -> set[str]:
    """Everything that a room imports, also by way of others."""
    found: set[str] = set()
    waiting = list(edges[start])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += edges[name]
    if start in found:
        sys.exit(f"{start} imports itself in a circle; `make lint` names the imports")
    return found


def reduced(edges: Edges) -> Edges:
    """Without the edges that follow from others."""
    far = {name: reachable(edges, name) for name in edges}
    return {a: {b for b in direct if not any(b in far[c] for c in direct)} for a, direct in edges.items()}


def levels(edges: Edges) -> dict[str, int]:
    """Each room above all that it imports, and directly below the lowest room that imports it."""
    depth: dict[str, int] = {}

    def height(name: str) -> int:
        if name not in depth:
            depth[name] = 1 + max((height(other) for other in edges[name]), default=-1)
        return depth[name]

    for name in sorted(edges, key=height, reverse=True):
        users = [depth[other] for other in edges if name in edges[other]]
        depth[name] = min(users) - 1 if users else depth[name]
    return depth


def arranged(edges: Edges) -> list[list[str]]:
    """Rows from the top: rooms stand under those that import them, and unused ones at the sides."""
    depth = levels(edges)
    rows: list[list[str]] = []
    place: dict[str, float] = {}
    for level in range(max(depth.values()), -1, -1):
        names = sorted(name for name in edges if depth[name] == level)
        users = {name: [place[o] for o in edges if name in edges[o] and o in place] for name in names}
        row = sorted((n for n in names if users[n]), key=lambda n: (sum(users[n]) / len(users[n]), n))
        for i, name in enumerate(n for n in names if not users[n]):
            row.insert(0 if i % 2 else len(row), name)
        place |= {name: i - (len(row) - 1) / 2 for i, name in enumerate(row)}
        rows.append(row)
    return rows


def purpose(folder: Path) -> str:
    """The first sentence of a folder's docstring."""
    docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))) or ""
    return docstring.split("\n\n")[0].partition(". ")[0].replace("\n", " ").rstrip(".")


def contents(folder: Path) -> list[str]:
    """The folders in a folder."""
    return sorted(path.parent.name + "/" for path in folder.glob("*/__init__.py"))


def house(left: float, top: float, width: float, height: float) -> dict[str, Box]:
    """The boxes of the left half."""
    edges = floors_of_the_package()
    rows = arranged(reduced(edges))
    pitch, gap = height / len(rows), 16
    boxes = {}
    for r, row in enumerate(rows):
        each = (width - gap * (len(row) - 1)) / len(row)
        for c, name in enumerate(row):
            lines = textwrap.wrap(purpose(ROOT / name), int((each - 24) / 6.6))
            inner = [] if name == INSIDE else contents(ROOT / name)
            lines += [" ".join(inner)] if inner else []
            x = left + c * (each + gap) + each / 2
            boxes[name] = Box(f"{name}/", lines, x, top + r * pitch, each, pitch - 34)
    return boxes


def rooms(left: float, top: float, width: float, height: float) -> dict[str, Box]:
    """The boxes of the right half."""
    rows = arranged(reduced(rooms_of_the_runtime()))
    pitch, gap = height / len(rows), 10
    boxes = {}
    for r, row in enumerate(rows):
        inner = {ENGINE, *(path.name for path in (ROOT / INSIDE).iterdir() if path.is_dir())}
        titles = [f"{name}/" if name in inner else f"{name}.py" for name in row]
        lines = [["C++ engine"] if name == ENGINE else contents(ROOT / INSIDE / name) for name in row]
        sizes = [
            max(64, 8 * len(title) + 16, *(7 * len(line) + 14 for line in below))
            for title, below in zip(titles, lines, strict=True)
        ]
        x = left + (width - sum(sizes) - gap * (len(row) - 1)) / 2
        for name, title, below, size in zip(row, titles, lines, sizes, strict=True):
            boxes[name] = Box(title, below, x + size / 2, top + r * pitch, size, pitch - 34)
            x += size + gap
    return boxes


def arrows(edges: Edges, boxes: dict[str, Box]) -> Iterator[str]:
    """From the lower side of what imports to the upper side of what is imported."""
    users = {name: [other for other in edges if name in edges[other]] for name in edges}
    for name in sorted(edges):
        for target in sorted(edges[name]):
            start, end = boxes[name], boxes[target]
            x1, x2 = port(start, target, edges[name], boxes), port(end, name, users[target], boxes)
            y1, y2 = start.y + start.height, end.y - 3
            half = (y1 + y2) / 2
            yield (
                f'<path class="arrow" d="M{x1:.1f} {y1:.1f} C{x1:.1f} {half:.1f} '
                f'{x2:.1f} {half:.1f} {x2:.1f} {y2:.1f}"/>'
            )


def port(box: Box, other: str, others: Iterable[str], boxes: dict[str, Box]) -> float:
    """Where on its side a box meets the arrow to or from another: in the order of the others."""
    ordered = sorted(others, key=lambda name: boxes[name].x)
    apart = min(20, box.width / (len(ordered) + 1))
    return box.x + (ordered.index(other) - (len(ordered) - 1) / 2) * apart


def drawn(box: Box, kind: str) -> Iterator[str]:
    """A box as SVG."""
    left, middle = box.x - box.width / 2, box.y + box.height / 2
    size = f'width="{box.width:.1f}" height="{box.height:.1f}"'
    yield f'<rect class="{kind}" x="{left:.1f}" y="{box.y:.1f}" {size} rx="6"/>'
    first = middle - 7.5 * len(box.lines) + 4.5
    yield f'<text class="name" x="{box.x:.1f}" y="{first:.1f}">{escape(box.title)}</text>'
    for i, line in enumerate(box.lines):
        style = "inner" if line.endswith("/") else "line"
        y = first + 15 * (i + 1)
        yield f'<text class="{style}" x="{box.x:.1f}" y="{y:.1f}">{escape(line)}</text>'


STYLE = """
text { font-family: "DejaVu Sans", Verdana, sans-serif; text-anchor: middle; fill: #1f2933; }
.name { font-size: 12.5px; font-weight: bold; }
.line { font-size: 11px; fill: #52606d; }
.inner { font-size: 11px; fill: #3e5c76; font-style: italic; }
.title { font-size: 12px; fill: #52606d; text-anchor: start; }
.floor { fill: #eef3f8; stroke: #8fa7bf; }
.open { fill: #fdf3e1; stroke: #d9a441; }
.frame { fill: #fffaf0; stroke: #d9a441; stroke-dasharray: 5 4; }
.room { fill: #ffffff; stroke: #d9a441; }
.arrow { fill: none; stroke: #627d98; stroke-width: 1.4; marker-end: url(#head); }
"""


def picture() -> str:
    """The whole picture as SVG."""
    top, bottom, frame = 44, 760, 402
    boxes, inner = house(16, top, 350, bottom - top), rooms(frame + 12, top, 662, bottom - top)
    opened, end = boxes[INSIDE], bottom - 20
    edge = opened.x + opened.width / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1100 {bottom - 8}">',
        f"<title>The folders of {PACKAGE} and the imports between them</title>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0.5 L8 4 L0 7.5 z" fill="#627d98"/></marker></defs>',
        f'<rect width="1100" height="{bottom - 8}" rx="8" fill="#ffffff"/>',
        f'<path class="frame" d="M{edge:.1f} {opened.y:.1f} L{frame} 12 H1088 V{end} H{frame} '
        f'L{edge:.1f} {opened.y + opened.height:.1f} z"/>',
        f'<text class="title" x="16" y="{top - 14}">{NOTE}</text>',
        f'<text class="title" x="{frame + 16}" y="{top - 14}">Inside {INSIDE}/</text>',
        *arrows(reduced(floors_of_the_package()), boxes),
        *arrows(reduced(rooms_of_the_runtime()), inner),
    ]
    for name, box in boxes.items():
        parts += drawn(box, "open" if name == INSIDE else "floor")
    for box in inner.values():
        parts += drawn(box, "room")
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        if not PICTURE.is_file() or PICTURE.read_text("utf-8") != picture():
            sys.exit(f"{PICTURE.relative_to(ROOT)} is out of date: run `make docs` and commit the picture")
    else:
        PICTURE.write_text(picture(), "utf-8")
