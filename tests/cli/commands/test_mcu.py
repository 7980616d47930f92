"""``multires-edge mcu``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from multires_edge.cli.main import main
from multires_edge.export.mcu import sizes


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "COMPILER", "no-such-compiler")


def mcu(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["mcu", *map(str, arguments)])


def test_it_prints_what_a_program_needs(bundle: Path) -> None:
    result = mcu(bundle)
    assert result.exit_code == 0, result.output
    assert (bundle.with_suffix(".mcu") / "Makefile").is_file()
    assert "cortex-m7, weights in fp32, queues in float32" in result.stdout
    assert "the code is not counted: no-such-compiler was not found" in result.stdout


def test_json(bundle: Path, tmp_path: Path) -> None:
    result = mcu(bundle, "-o", tmp_path / "out", "--cpu", "cortex-m55", "--json")
    entry = json.loads(result.stdout)
    assert entry["cpu"] == "cortex-m55" and entry["compiler"] is None
    assert entry["flash_bytes"] == entry["weight_bytes"] > 0
    assert entry["ram_bytes"] > entry["stream_bytes"] > 0
    assert "-mcpu=cortex-m55" in (tmp_path / "out" / "Makefile").read_text()


@pytest.mark.parametrize(("size", "given"), [("256K", 262144), ("1M", 1 << 20), ("300000", 300000)])
def test_the_memory_of_a_device(size: str, given: int, bundle: Path, tmp_path: Path) -> None:
    assert mcu(bundle, "-o", tmp_path / "out", "--ram", size).exit_code == 0
    assert f"ORIGIN = 0x20000000, LENGTH = {given}" in (tmp_path / "out" / "link.ld").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ram", "1G"], "expected bytes, such as 262144, 256K or 1M"),
        (["--flash", "0"], "expected bytes"),
        (["--ram", "4096M"], "is not below 4096M"),
        (["--ram", "1K"], "bytes of RAM and the device has 1,024"),
        (["--cpu", "avr"], "unknown"),
        (["--precision", "int8"], "it has: fp32"),
    ],
)
def test_errors(arguments: list[str], message: str, bundle: Path, tmp_path: Path) -> None:
    result = mcu(bundle, "-o", tmp_path / "out", *arguments)
    assert result.exit_code == 2 and message in result.stderr
    assert not (tmp_path / "out").exists()
