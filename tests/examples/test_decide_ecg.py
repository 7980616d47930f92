"""The C++ example of decisions at a device's rate gives what Python gives."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from multires_edge.cli.commands.cmake_dir import find_cmake_package
from multires_edge.cli.main import main
from multires_edge.runtime import Bundle, EcgStream
from tests.conftest import ROOT
from tests.runtime.ecg.conftest import CARD, LUDB, beats, ludb, opened, twelve_leads, two_leads

__all__ = ["ludb", "opened", "twelve_leads", "two_leads"]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    cmake = shutil.which("cmake", path=search)
    assert cmake is not None, "cmake is part of the test extra"
    folder = tmp_path_factory.mktemp("decide")
    strict = "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Wpedantic -Wconversion -Werror"
    source = ROOT / "examples" / "cpp"
    for command in (
        (cmake, "-S", source, "-B", folder, f"-Dmultires_DIR={find_cmake_package()}", strict),
        (cmake, "--build", folder, "--target", "decide_ecg"),
    ):
        result = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
    return folder / "decide_ecg"


def csv(leads: list[str], samples: NDArray[np.float64]) -> str:
    lines = [",".join(leads), *(",".join(f"{value:.17g}" for value in row) for row in samples)]
    return "\n".join(lines) + "\n"


def start(program: Path, bundle: Path, text: str, *options: object) -> subprocess.CompletedProcess[str]:
    command = [str(program), str(bundle), *map(str, options)]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def decisions(
    program: Path, bundle: Path, text: str, *options: object
) -> tuple[list[str], NDArray[np.float64]]:
    result = start(program, bundle, text, *options)
    assert (result.returncode, result.stderr) == (0, "")
    header, *lines = result.stdout.splitlines()
    return header.split(","), np.array([[float(x) for x in line.split(",")] for line in lines])


def test_equals_the_command_on_a_real_record(
    program: Path, twelve_leads: Bundle, ludb: tuple[NDArray[np.float64], list[str]]
) -> None:
    samples, names = ludb
    header, printed = decisions(program, twelve_leads.path, csv(names, samples), 500)
    result = CliRunner().invoke(main, ["stream", str(twelve_leads.path), str(LUDB)])
    entries = [json.loads(line) for line in result.stdout.splitlines()]
    expected = np.array([[e["time"], *e["probabilities"].values()] for e in entries])
    assert header == ["time", *entries[0]["probabilities"]]
    assert printed.shape == expected.shape == (20, 6)
    assert np.abs(printed - expected).max() < 1e-4


@pytest.mark.parametrize("rate", [50, 100, 128, 250, 257, 333.3, 360, 1000])
@pytest.mark.parametrize("window", [0, 1])
def test_equals_the_library_at_any_rate(program: Path, opened: Bundle, rate: float, window: int) -> None:
    samples = beats(4.3, rate, seed=3)
    _, printed = decisions(
        program, opened.path, csv(["x", "II", "i"], samples[:, [0, 1, 0]]), rate, 0.3, window
    )
    pool = f"window:{window}s" if window else "cumulative"
    stream = EcgStream(opened, leads=["I", "II"], rate=rate, every=0.3, pool=pool)
    expected = stream.feed(samples) + stream.finish()
    assert len(printed) == len(expected) == 14
    assert np.abs(printed[:, 0] - [d.time for d in expected]).max() < 1e-6
    assert np.abs(printed[:, 1:] - [list(d.probabilities.values()) for d in expected]).max() < 1e-5


@pytest.mark.parametrize(
    ("text", "options", "complaint"),
    [
        ("I\n1\n", (500,), "line 1: names no lead II; it has I"),
        ("", (500,), "line 1: names no lead"),
        ("I,II\n1,2\n1\n", (500,), "line 3: has 1 columns, expected 2"),
        ("I,II\n1,\n", (500,), "line 2: column 2 is not a finite number"),
        ("I,II\n", (5,), "rate must be 50 to 2000 Hz"),
        ("I,II\n", ("x",), "RATE is x"),
        ("I,II\n", (500, 0.005), "EVERY is no whole number"),
        ("I,II\n", (500, 0), "EVERY is less than a sample"),
        ("I,II\n", (), "usage"),
    ],
)
def test_bad_input_is_one_line(
    program: Path, opened: Bundle, text: str, options: tuple[object, ...], complaint: str
) -> None:
    result = start(program, opened.path, text, *options)
    assert result.returncode == 2
    assert complaint in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_output_that_cannot_be_written_is_an_error(program: Path, opened: Bundle) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [str(program), str(opened.path), "500"],
            input=csv(["I", "II"], beats(1, 500)),
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert result.returncode == 2
    assert "standard output cannot be written" in result.stderr


def test_outputs_without_labels_have_numbers(program: Path, opened: Bundle, tmp_path: Path) -> None:
    from multires_edge.export import export_bundle

    (tmp_path / "card.json").write_text(json.dumps({"preprocessing": CARD["preprocessing"]}))
    checkpoint = opened.path.parent / "ckpt.pth"
    bare = export_bundle(checkpoint, tmp_path / "bare.bundle", card=tmp_path / "card.json").path
    header, printed = decisions(program, bare, csv(["I", "II"], beats(1, 500)), 500)
    assert header == ["time", "0", "1", "2"] and printed.shape == (2, 4)
