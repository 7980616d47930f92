"""The commands and figures of docs/microcontrollers.md."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.runtime.cpp.programs import needs, run

PAGE = (ROOT / "docs" / "microcontrollers.md").read_text()
# Another version of the compiler makes other code.
TOLERANCE = 0.03


def figures(cpu: str) -> list[int]:
    """Flash, RAM and instructions of a CPU in int8."""
    row = re.search(rf"^\| {cpu} \| int8 \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", PAGE, re.MULTILINE)
    assert row is not None
    return [int(cell.replace(",", "")) for cell in row.groups()]


@pytest.mark.native
@pytest.mark.slow
def test_the_commands_and_figures(tmp_path: Path) -> None:
    needs("arm-none-eabi-g++", "make", "qemu-system-arm")
    (tmp_path / "models").symlink_to(ROOT / "models")
    (commands,) = (block for block in re.findall(r"(?:^    .*\n)+", PAGE, re.MULTILINE))
    other = commands[commands.index("multires-edge mcu") :]
    script = commands + other.replace("cortex-m7", "cortex-m55").replace("small.mcu", "other.mcu")
    places = f'export PATH="{Path(sys.executable).parent}:$PATH"\ncd "{tmp_path}"\n'
    output = run("bash", "-e", "-c", places + script)
    pattern = r"flash ([\d,]+) bytes.*?RAM   ([\d,]+) bytes.*?passed: .*?(\d+) instructions a step"
    found = re.findall(pattern, output, re.DOTALL)
    assert len(found) == 2, output
    for cpu, measured in zip(("cortex-m7", "cortex-m55"), found, strict=True):
        for figure, stated in zip(measured, figures(cpu), strict=True):
            assert int(figure.replace(",", "")) == pytest.approx(stated, rel=TOLERANCE)
