"""The engine on microcontrollers: cross-compiled, run by qemu, on the same networks as here.

Instructions are those that qemu counts. A time would be that of the emulator.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from multires_edge.export.mcu.cpus import CPUS
from multires_edge.export.mcu.firmware import STACK, make_firmware, sizes_header
from multires_edge.export.mcu.golden_data import golden_header
from multires_edge.format.comparison import Limit
from multires_edge.runtime import open_bundle
from multires_edge.runtime.backends.native import load_engine
from tests.conftest import random_inputs, variant
from tests.runtime.cpp.networks import CARD, NETWORKS, Network, expected_outputs
from tests.runtime.cpp.programs import needs, run

# One of each source file of kernels.
PROGRAMS = ("cortex-m7", "cortex-m55")
ROWS, STEPS = 2, 60


class Program:
    """A program whose kernels can run any network."""

    def __init__(self, folder: Path, bundle: Path, cpu: str) -> None:
        needs("arm-none-eabi-g++", "make", "qemu-system-arm")
        self.folder, self.cpu = folder, CPUS[cpu]
        firmware = make_firmware(open_bundle(bundle), self.cpu, "fp32", self.cpu.flash, self.cpu.ram)
        for name, content in firmware.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        self.make("all")

    def make(self, target: str) -> str:
        output = run("make", "-s", "-C", self.folder, "KINDS=", target)
        assert "warning:" not in output, output
        return output

    def put(self, network: Network) -> None:
        """Replace the network, and the outputs that are expected."""
        config = variant(**network.changes)
        inputs = random_inputs(config, ROWS, STEPS, seed=6)
        outputs = expected_outputs(network, inputs).astype(np.float64)
        content = network.weights(CARD)
        source = load_engine().network_source(content, self.cpu.group)[0]
        rows = inputs if inputs.ndim == 3 else inputs[:, None]
        header = golden_header(rows, outputs, Limit(network.limit), self.cpu)
        for name, text in (
            ("network.cpp", source),
            ("sizes.h", sizes_header(config)),
            ("test/golden_data.h", header),
        ):
            (self.folder / name).write_text(text)


@pytest.fixture(scope="module", params=PROGRAMS)
def program(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, exported: Path
) -> Program:
    return Program(tmp_path_factory.mktemp("program"), exported, request.param)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str, program: Program) -> None:
    program.put(NETWORKS[name])
    output = program.make("test")
    assert output.startswith(f"passed: {ROWS * STEPS} steps, max error "), output
    error, stack = re.search(r"error ([\d.]+)", output), re.search(r"(\d+) bytes of stack", output)
    assert error is not None and stack is not None
    assert 0 < float(error[1]) <= NETWORKS[name].limit
    assert 500 < int(stack[1]) < STACK


def test_a_wrong_weight_is_noticed(program: Program) -> None:
    program.put(NETWORKS["fading"])
    path = program.folder / "network.cpp"
    text = path.read_text()
    path.write_text(re.sub(r"(float kArray1\[\] = \{\s+)[^,]+", r"\g<1>0x1p+0f", text))
    assert path.read_text() != text
    with pytest.raises(AssertionError, match="FAILED: 120 steps"):
        program.make("test")


def test_an_engine_of_another_version_does_not_start(program: Program) -> None:
    program.put(NETWORKS["fading"])
    path = program.folder / "network.cpp"
    path.write_text(re.sub(r"(kArenaBytes = )\d+", r"\g<1>16", path.read_text()))
    with pytest.raises(AssertionError, match="FAILED"):
        program.make("test")


def instructions_of_int8(program: Program) -> float:
    """Per multiply-add of a product, with the inputs' quantization, the scales and the bias."""
    program.put(Network({"d_model": 32}, precision="int8", limit=1))
    golden = program.folder / "test" / "golden.c"
    measuring = golden.with_name("mcu_products.cpp")
    shutil.copy(Path(__file__).parent / "sources" / measuring.name, measuring)
    golden.rename(golden.with_suffix(".not"))
    try:
        found = re.search(r"(\d+) instructions +(\d+) multiply-adds", program.make("test"))
    finally:
        measuring.unlink()
        golden.with_suffix(".not").rename(golden)
    assert found is not None and int(found[2]) == 2 * 32 * 32
    return int(found[1]) / int(found[2])


def test_instructions_of_int8(program: Program) -> None:
    assert 0.1 < instructions_of_int8(program) <= {"cortex-m55": 0.9}.get(program.cpu.name, 2.5)


def test_instructions_of_int8_on_a_cortex_m4(tmp_path: Path, exported: Path) -> None:
    assert 1 < instructions_of_int8(Program(tmp_path, exported, "cortex-m4")) <= 2.5
