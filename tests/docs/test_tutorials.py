"""The tutorials run as they are printed, from the first block to the last, in a clone."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from tests.conftest import ROOT

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
FENCED = re.compile(
    r"^```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<body>.*?)^```$", re.M | re.S
)
# A file of a program has its name as title. These titles say why a block cannot run here.
ELSEWHERE = {"on the Jetson", "with the report of a Jetson", "in another environment", "until Ctrl-C"}
# What a clone has and a tutorial reads.
OF_THE_CLONE = ("examples", "models", "tests")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    title: str | None
    body: str

    @property
    def is_file(self) -> bool:
        """Whether the reader saves it under its title."""
        return self.title is not None and self.title not in ELSEWHERE


def blocks(page: Path) -> list[Block]:
    """All fenced blocks."""
    return [Block(**match.groupdict()) for match in FENCED.finditer(page.read_text())]


def clone(folder: Path) -> None:
    """What the readers of a tutorial have around them."""
    for name in OF_THE_CLONE:
        (folder / name).symlink_to(ROOT / name)


def run(block: Block, folder: Path, output: IO[str], groups: list[int]) -> None:
    """Run a block as a shell or Python would, and fail as it fails. Adds the group of its processes."""
    scripts = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    # The package is installed already: tests do not install into their own environment.
    body = re.sub(r"^pip install .*\n", "", block.body, flags=re.M)
    program = {"sh": ["bash", "-euo", "pipefail", "-c", body], "python": [sys.executable, "-c", body]}
    ran = subprocess.Popen(
        program[block.language],
        cwd=folder,
        env=environment,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    groups.append(ran.pid)
    if ran.wait(timeout=900):
        output.flush()
        pytest.fail(f"{block.body}\n{Path(output.name).read_text()}")


@pytest.mark.slow
@pytest.mark.native
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_runs_as_printed(page: Path, tmp_path: Path) -> None:
    if page.stem == "cpp" and shutil.which("cmake") is None:
        pytest.skip("needs cmake")
    clone(tmp_path)
    groups: list[int] = []
    with (tmp_path / "output").open("w") as output:
        try:
            for block in blocks(page):
                if block.is_file:
                    assert block.title is not None
                    (tmp_path / block.title).write_text(block.body)
                elif block.title is None:
                    run(block, tmp_path, output, groups)
        finally:
            for group in groups:  # what a failed tutorial left running
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGKILL)


def test_every_block_is_known() -> None:
    """No block is passed over because of its language or a title with a typing error."""
    for page in TUTORIALS:
        found = blocks(page)
        assert len(found) == len(re.findall(r"^```\w", page.read_text(), re.M))
        for block in found:
            assert block.is_file or block.language in ("sh", "python"), (page.name, block.title)
            assert not block.is_file or re.fullmatch(r"[\w/]+\.\w+", block.title or ""), block.title
