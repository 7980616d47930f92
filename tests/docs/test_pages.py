"""The pages agree with each other and with the commands."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import click
import pytest

from multires_edge.cli.main import main
from tests.conftest import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
BLOCK = re.compile(
    r"^```[^\n]*\n(?P<fenced>.*?)^```$|(?P<indented>(?:^    [^\n]*\n)+)", re.MULTILINE | re.DOTALL
)
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def anchors(page: Path) -> set[str]:
    """The anchors that the headings of a page get."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def calls(text: str) -> list[list[str]]:
    """The words of every call of a command, in blocks of code and in sentences."""
    blocks = [block["fenced"] or block["indented"] for block in BLOCK.finditer(text)]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += [span.replace("\n", " ") for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", BLOCK.sub("", text))]
    found = []
    for line in lines:
        # A call: at the start, or after the folder of a virtual environment.
        match = re.match(r"\s*(?:\S*/bin/)?(multires-(?:edge|export)(?: .*)?$)", line)
        if match:
            found.append(shlex.split(re.split(r" +#| && | \| ", match[1])[0]))
    return found


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@pages
def test_commands_and_options_exist(page: Path) -> None:
    for words in calls(page.read_text()):
        rest = ["export", *words[1:]] if words[0] == "multires-export" else words[1:]
        command: click.Command = main
        if rest and not rest[0].startswith("-"):
            assert rest[0] in main.commands, words
            command, rest = main.commands[rest[0]], rest[1:]
        options = ([*parameter.opts, *parameter.secondary_opts] for parameter in command.params)
        known = {"--help", "--version", *itertools.chain.from_iterable(options)}
        given = {word.partition("=")[0] for word in rest if word.startswith("-") and len(word) > 1}
        assert given <= known, words


def test_the_index_has_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    linked = re.findall(r"\]\(([\w/-]+\.md)\)", index)
    docs = ROOT / "docs"
    pages = (str(page.relative_to(docs)) for page in docs.rglob("*.md") if page.name != "index.md")
    assert sorted(linked) == sorted(pages)


def test_the_menu_of_the_site_has_every_page() -> None:
    menu = (ROOT / "mkdocs.yml").read_text()
    assert sorted(re.findall(r"^ +- (?:Home: )?(\S+\.md)$", menu, re.MULTILINE)) == sorted(
        str(page.relative_to(ROOT if page.parent == ROOT else ROOT / "docs"))
        for page in (*PAGES, *(ROOT / "docs" / "notebooks" / f"{each.stem}.md" for each in NOTEBOOKS))
        if page != ROOT / "docs" / "index.md"
    )


@pages
def test_targets_of_make_exist(page: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"^    make ([a-z-]+)|`make ([a-z-]+)`", page.read_text(), re.MULTILINE)
    assert {first or second for first, second in named} <= set(targets)
