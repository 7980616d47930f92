"""The flash and memory of a program for a microcontroller."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from multires_edge.base.errors import BackendError, ConfigError
from multires_edge.export.mcu.firmware import STACK, Firmware

COMPILER = "arm-none-eabi-g++"


@dataclass(frozen=True)
class Sizes:
    """Bytes of flash and RAM. ``compiler`` None: without the engine's code, which was not compiled."""

    flash: int
    ram: int
    compiler: str | None


def sizes_of(firmware: Firmware, folder: Path) -> Sizes:
    """The sizes of a program in ``folder``, compiled if the compiler is installed.

    Raises BackendError if it does not compile.
    """
    if shutil.which(COMPILER) is None or shutil.which("make") is None:
        return Sizes(firmware.weights, firmware.stream + STACK, None)
    version = _run(COMPILER, "-dumpfullversion").stdout.strip()
    with tempfile.TemporaryDirectory() as build:
        made = _run("make", "-s", "-C", str(folder), f"BUILD={build}")
        over = {name: int(count) for name, count in _OVERFLOWED.findall(made.stderr)}
        if made.returncode and not over:
            raise BackendError(f"{COMPILER} could not compile the program: {made.stderr.strip()[-300:]}")
        if over:
            return Sizes(
                firmware.flash + over["FLASH"] if "FLASH" in over else 0,
                firmware.ram + over["RAM"] if "RAM" in over else 0,
                version,
            )
    text, data, bss = (int(word) for word in made.stdout.splitlines()[-1].split()[:3])
    return Sizes(text + data, data + bss, version)


_OVERFLOWED = re.compile(r"region [`'](FLASH|RAM)' overflowed by (\d+) bytes")


def check_fits(firmware: Firmware, sizes: Sizes) -> None:
    """Raise ConfigError if a program does not fit its device."""
    if sizes.ram > firmware.ram:
        remedy = "train a network with less depth, fewer layers or channels"
        if firmware.queues != "int8":
            remedy = f"export it with --precision int8 --quantize mixing,output,queues, or {remedy}"
        raise ConfigError(
            f"the program needs {sizes.ram:,} bytes of RAM and the device has {firmware.ram:,}: its stream "
            f"takes {firmware.stream:,}, most of it queues in {firmware.queues}; {remedy}"
        )
    if sizes.flash > firmware.flash:
        remedy = "train a smaller network"
        if firmware.precision != "int8":
            remedy = f"give --precision int8, or {remedy}"
        raise ConfigError(
            f"the program needs {sizes.flash:,} bytes of flash and the device has {firmware.flash:,}: its "
            f"weights take {firmware.weights:,} in {firmware.precision}; {remedy}"
        )


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)
