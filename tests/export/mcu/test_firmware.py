"""The files of a program for a microcontroller, and the devices that it fits."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from multires_edge.base.errors import BackendError, BundleError, ConfigError, OutputError
from multires_edge.export.mcu import sizes as sizes_module
from multires_edge.export.mcu.cpus import CPUS
from multires_edge.export.mcu.firmware import STACK, Firmware, make_firmware
from multires_edge.export.mcu.golden_data import golden_data
from multires_edge.export.mcu.sizes import COMPILER, Sizes, check_fits, sizes_of
from multires_edge.export.mcu.writing import write_firmware
from multires_edge.runtime import open_bundle
from multires_edge.runtime.bundle import Bundle
from tests.runtime.cpp.programs import needs

M7 = CPUS["cortex-m7"]


@pytest.fixture(scope="module")
def opened(exported: Path) -> Bundle:
    return open_bundle(exported)


@pytest.fixture(scope="module")
def firmware(opened: Bundle) -> Firmware:
    return make_firmware(opened, M7, None, 1 << 20, 1 << 18)


class TestFiles:
    def test_it_is_complete(self, firmware: Firmware) -> None:
        assert {"Makefile", "README.md", "main.c", "board.c", "network.cpp"} <= firmware.files.keys()
        for name, content in firmware.files.items():
            for header in re.findall(rb'^ *#include "([\w.]+)"', content, re.MULTILINE):
                here = Path(name).parent / header.decode()
                places = {str(here), header.decode(), f"engine/{header.decode()}"}
                # Each kind of CPU has one source of kernels, and hosts have others.
                assert places & firmware.files.keys(), (name, header)

    def test_it_has_nothing_that_needs_a_system(self, firmware: Firmware) -> None:
        code = b"\n".join(content for name, content in firmware.files.items() if name.startswith("engine/"))
        code = re.sub(rb"//[^\n]*|/\*.*?\*/", b"", code, flags=re.DOTALL)
        system = rb"#include <(sys/.*|unistd\.h|fcntl\.h|vector|string|map|memory|thread|mutex|iostream)>"
        assert not re.search(system, code)
        assert not re.search(
            rb"\b(throw|try|catch|malloc|free|std::vector|std::string|std::function)\b", code
        )

    def test_every_field_is_filled_in(self, firmware: Firmware) -> None:
        for name in ("Makefile", "README.md", "link.ld"):
            assert not re.search(rb"@[A-Z]+@", firmware.files[name]), name
        assert b"LENGTH = 1048576" in firmware.files["link.ld"]
        assert f"{firmware.weights:,} bytes".encode() in firmware.files["README.md"]

    def test_weights_are_exact(self, firmware: Firmware, opened: Bundle) -> None:
        source = firmware.files["network.cpp"].decode()
        bias = re.search(r"float kArray1\[\] = \{([^}]*)\}", source)
        assert bias is not None
        values = [float.fromhex(text.strip().rstrip("f")) for text in bias[1].split(",") if text.strip()]
        content = opened.read(opened.manifest.native["fp32"].file)
        d_model = opened.manifest.model.d_model
        assert np.asarray(values[:d_model], np.float32).tobytes() in content
        assert not any(values[d_model:])

    def test_golden_data_are_those_of_the_bundle(self, opened: Bundle) -> None:
        header = golden_data(opened, "fp32", M7)
        recorded = opened.golden()
        numbers = re.findall(r"-?0x[01]\.[0-9a-f]+p[+-]\d+|-?0x0\.0p\+0", header)
        values = np.array([float.fromhex(number) for number in numbers])
        inputs = recorded.inputs.swapaxes(1, 2).ravel().astype(np.float64)
        assert (values == np.concatenate([inputs, recorded.stepwise.swapaxes(1, 2).ravel()])).all()


class TestRefusals:
    def test_a_precision_that_the_bundle_lacks(self, opened: Bundle) -> None:
        with pytest.raises(BackendError, match="no native weights in 'int8'; it has: fp32"):
            make_firmware(opened, M7, "int8", 1 << 20, 1 << 20)

    def test_a_network_without_native_weights(self, opened: Bundle) -> None:
        other = Bundle(opened.path, replace(opened.manifest, native={}))
        with pytest.raises(BundleError, match="no weights for the native engine"):
            make_firmware(other, M7, None, 1 << 20, 1 << 20)

    def test_an_unknown_cpu(self, opened: Bundle, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="did you mean cortex-m7"):
            write_firmware(opened, tmp_path / "out", cpu="cortex-m8")

    @pytest.mark.parametrize(
        ("precision", "queues", "hint"),
        [
            ("fp32", "float32", "--quantize mixing,output,queues"),
            ("int8", "int8", "; train a network with less depth"),
        ],
    )
    def test_too_little_memory(self, precision: str, queues: str, hint: str, firmware: Firmware) -> None:
        given = replace(firmware, precision=precision, queues=queues, ram=5_000)
        check_fits(given, Sizes(1, 5_000, None))
        with pytest.raises(ConfigError, match=re.escape(hint)) as refused:
            check_fits(given, Sizes(1, 5_001, None))
        assert "needs 5,001 bytes of RAM and the device has 5,000" in str(refused.value)

    @pytest.mark.parametrize(
        ("precision", "hint"), [("fp16", "give --precision int8"), ("int8", "train a smaller")]
    )
    def test_too_little_flash(self, precision: str, hint: str, firmware: Firmware) -> None:
        given = replace(firmware, precision=precision, flash=9_000)
        with pytest.raises(ConfigError, match=f"needs 9,001 bytes of flash.*{hint}"):
            check_fits(given, Sizes(9_001, 1, None))

    def test_nothing_is_written_then(self, opened: Bundle, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="of RAM"):
            write_firmware(opened, tmp_path / "deep" / "out", ram=STACK)
        assert not list(tmp_path.iterdir())

    def test_force_replaces_programs_only(
        self, opened: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sizes_module, "COMPILER", "no-such-compiler")
        out = tmp_path / "out"
        write_firmware(opened, out)
        with pytest.raises(OutputError, match="exists already"):
            write_firmware(opened, out)
        (out / "board.c").write_text("mine")
        write_firmware(opened, out, force=True)
        assert (out / "board.c").read_text() != "mine"
        (out / "network_kinds.h").unlink()
        with pytest.raises(OutputError, match="is not a program that mcu wrote"):
            write_firmware(opened, out, force=True)


def put(firmware: Firmware, folder: Path) -> Path:
    for name, content in firmware.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.native
class TestSizes:
    def test_without_a_compiler(
        self, firmware: Firmware, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        expected = Sizes(firmware.weights, firmware.stream + STACK, None)
        assert sizes_of(firmware, put(firmware, tmp_path / "program")) == expected

    def test_they_are_those_of_the_linked_program(self, opened: Bundle, tmp_path: Path) -> None:
        needs(COMPILER, "make")
        written, sizes = write_firmware(opened, tmp_path / "out")
        assert not (tmp_path / "out" / "build").exists()
        subprocess.run(["make", "-s", "-C", tmp_path / "out"], check=True, capture_output=True)
        program = tmp_path / "out" / "build" / "firmware.elf"
        headers = subprocess.run(
            ["arm-none-eabi-readelf", "-SW", program], check=True, capture_output=True, text=True
        )
        section = re.compile(r"\] (\S+) +(\w+) +([0-9a-f]{8}) [0-9a-f]+ ([0-9a-f]+) \d+ +\w*A")
        flash = ram = 0
        for _, kind, address, size in section.findall(headers.stdout):
            in_ram = int(address, 16) >= 0x20000000
            ram += int(size, 16) if in_ram else 0
            flash += int(size, 16) if kind != "NOBITS" else 0
        assert (sizes.flash, sizes.ram) == (flash, ram)
        assert sizes.flash > written.weights and sizes.ram > written.stream + STACK
        self.just_fits(opened, tmp_path, sizes)

    def just_fits(self, opened: Bundle, tmp_path: Path, sizes: Sizes) -> None:
        again = write_firmware(opened, tmp_path / "same", flash=sizes.flash, ram=sizes.ram)[1]
        assert again == sizes
        # The linker reports how much is missing.
        with pytest.raises(ConfigError, match=f"needs {sizes.flash:,} bytes of flash"):
            write_firmware(opened, tmp_path / "less", flash=sizes.flash - 16, ram=sizes.ram)
        with pytest.raises(ConfigError, match=f"needs {sizes.ram:,} bytes of RAM"):
            write_firmware(opened, tmp_path / "less", flash=sizes.flash, ram=sizes.ram - 16)
        assert not (tmp_path / "less").exists()

    def test_a_program_that_does_not_compile(self, firmware: Firmware, tmp_path: Path) -> None:
        needs(COMPILER, "make")
        folder = put(firmware, tmp_path / "program")
        shutil.rmtree(folder / "engine")
        with pytest.raises(BackendError, match="could not compile the program"):
            sizes_of(firmware, folder)
