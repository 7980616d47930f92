"""A hook of MkDocs: what the pages in ``docs`` are in a site and not in a repository.

The README, the changelog and the like become pages, and so do the notebooks with their outputs. A link whose
text is the name of a page gets the title of the page, and a link to another file of the repository becomes
its name. A page can include a file, and the help of the commands.
"""

from __future__ import annotations

import os
import posixpath
import re
import sys
from pathlib import Path

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))  # a hook is loaded by itself
from notebooks import NotebookError, page_of, run_notebook

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "examples" / "notebooks"
OF_THE_ROOT = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "RELEASING.md", "CHANGELOG.md")
LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)]*)?\)")
INCLUDE = re.compile(r"^@include (?P<file>\S+) (?P<language>\w+)$", re.MULTILINE)
HELP = "@help of all commands"
ROLE = re.compile(r":(func|meth|class):(?=<code>)")
TITLE = re.compile(r"^# (.*)$", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root. The index is for readers of the repository; here is a menu."""
    for name in OF_THE_ROOT:
        files.append(File.generated(config, name, content=(ROOT / name).read_text(encoding="utf-8")))
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        _add_notebook(path, files, config)
    index = files.get_file_from_path("index.md")
    assert index is not None
    files.remove(index)
    return files


def _add_notebook(path: Path, files: Files, config: MkDocsConfig) -> None:
    """Run a notebook and add its page and its figures."""
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        page, figures = page_of(run_notebook(path), path.stem)
    except NotebookError as error:
        raise PluginError(str(error)) from error
    finally:
        os.chdir(before)
    files.append(File.generated(config, f"notebooks/{path.stem}.md", content=page))
    for name, content in figures.items():
        files.append(File.generated(config, f"notebooks/{name}", content=content))


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to pages, and put files in whole."""
    here = page.file.src_uri
    # A page of the root is in the root, and the others are in docs.
    folder = "" if here in OF_THE_ROOT else posixpath.join("docs", posixpath.dirname(here))

    def linked(match: re.Match[str]) -> str:
        target = match["target"]
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        path = posixpath.normpath(posixpath.join(folder, target))
        name = posixpath.relpath(path, "docs") if path.startswith("docs/") else path
        name = "README.md" if name == "index.md" else name
        if files.get_file_from_path(name) is None:
            if not (ROOT / path).exists():
                raise PluginError(f"{here}: {target} does not exist")
            return f"{match['text']} (`{path}`)"
        text = match["text"]
        if text.endswith(".md"):
            title = TITLE.search((ROOT / path).read_text(encoding="utf-8"))
            text = title[1] if title else text
        relative = posixpath.relpath(name, posixpath.dirname(here) or ".")
        return f"[{text}]({relative}{match['anchor'] or ''})"

    def included(match: re.Match[str]) -> str:
        text = (ROOT / match["file"]).read_text(encoding="utf-8").rstrip()
        return f"````{match['language']}\n{text}\n````"

    markdown = INCLUDE.sub(included, LINK.sub(linked, markdown))
    return markdown.replace(HELP, _help()) if HELP in markdown else markdown


def on_page_content(html: str, **_: object) -> str:
    """Names in docstrings without the roles that only other tools know."""
    return ROLE.sub("", html)


def _help() -> str:
    """What every command answers to ``--help``."""
    from multires_edge.cli.main import main

    sections = []
    top = click.Context(main, info_name="multires-edge", max_content_width=100, terminal_width=100)
    for name in main.list_commands(top):
        command = main.get_command(top, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=top)
        sections.append(f"## {name}\n\n````text\n{command.get_help(context)}\n````\n")
    return "\n".join(sections)
