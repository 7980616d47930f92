"""The example programs, built against the installed package as a user builds them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import TextIO

import pytest

from multires_edge.cli.commands.cmake_dir import find_cmake_package
from tests.conftest import ROOT
from tests.runtime.conftest import ludb, opened, twelve_leads, two_leads
from tests.runtime.cpp.programs import build

__all__ = ["ludb", "opened", "twelve_leads", "two_leads"]

Start = Callable[..., subprocess.CompletedProcess[str]]


def starter(language: str, name: str, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Start a program with the text of its standard input and its arguments."""
    strict = (
        f"-DCMAKE_{'C' if language == 'c' else 'CXX'}_FLAGS=-Wall -Wextra -Wpedantic -Wconversion -Werror"
    )
    options = (f"-Dmultires_DIR={find_cmake_package()}", strict)
    source = ROOT / "examples" / language
    program = build(f"example-{language}", tmp_path_factory, *options, source=source) / name

    def start(
        text: str, *arguments: object, stdout: int | TextIO = subprocess.PIPE
    ) -> subprocess.CompletedProcess[str]:
        command = [str(program), *map(str, arguments)]
        return subprocess.run(
            command, input=text, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False
        )

    return start


@pytest.fixture(scope="session", params=["c", "cpp"])
def classify(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Start:
    return starter(request.param, "classify_csv", tmp_path_factory)


@pytest.fixture(scope="session")
def decide(tmp_path_factory: pytest.TempPathFactory) -> Start:
    return starter("cpp", "decide_ecg", tmp_path_factory)
