"""Every path and name in the page on the architecture exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGE = ROOT / "docs" / "architecture.md"
PATH = re.compile(r"[\w@.-]+(/[\w@.-]+)*/|[\w@.-]+(/[\w@.-]+)+|\w+\.(toml|txt)")
NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*")
# Not a file of the project, and the names that imports use.
OUTSIDE = re.compile(r"args\.txt|multires_edge(\.\w+)*")


def defined(path: Path) -> set[str]:
    """What a Python file defines: names, and those in its classes as Class.name; any word of another file."""
    text = path.read_text("utf-8")
    if path.suffix != ".py":
        return set(re.findall(r"\w+", text))
    names: set[str] = set()

    def collect(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(prefix + node.name)
                if isinstance(node, ast.ClassDef):
                    collect(node.body, f"{node.name}.")
            targets = node.targets if isinstance(node, ast.Assign) else []
            targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
            names.update(prefix + target.id for target in targets if isinstance(target, ast.Name))

    collect(ast.parse(text).body, "")
    return names


def named(line: str) -> list[str]:
    """What stands in backquotes and is code of the project."""
    return [span for span in re.findall(r"`([^`]+)`", line) if not OUTSIDE.fullmatch(span)]


def lines() -> list[str]:
    return [line for line in PAGE.read_text().splitlines() if named(line)]


@pytest.mark.parametrize("line", lines())
def test_paths_and_names_exist(line: str) -> None:
    paths = [span for span in named(line) if PATH.fullmatch(span)]
    for path in paths:
        assert (ROOT / path).exists(), path
    files = [ROOT / path for path in paths if (ROOT / path).is_file()]
    there = set().union(*map(defined, files))
    for name in named(line):
        if NAME.fullmatch(name) and name not in paths and files:
            assert name in there, f"{name} is in none of {paths}"


def test_the_five_questions_are_answered() -> None:
    answers = PAGE.read_text().partition("## Where is")[2]
    for question in (
        "a norm is folded", "a lead is renamed", "an engine is opened", "a window is parsed",
        "a decision is written",
    ):  # fmt: skip
        assert re.search(rf"^\| {question} \|.*`.*\.py`", answers, re.MULTILINE), question
