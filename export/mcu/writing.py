"""Writing a program for a microcontroller, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from multires_edge.export.bundle_folder import Kind, atomic_folder
from multires_edge.export.mcu.cpus import cpu_by_name
from multires_edge.export.mcu.firmware import Firmware, make_firmware
from multires_edge.export.mcu.sizes import Sizes, check_fits, sizes_of
from multires_edge.runtime.bundle import Bundle

PROGRAM = Kind("a program that mcu wrote", "network_kinds.h")


def write_firmware(
    bundle: Bundle,
    output: Path,
    *,
    cpu: str = "cortex-m7",
    precision: str | None = None,
    flash: int | None = None,
    ram: int | None = None,
    force: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Firmware, Sizes]:
    """Write the program of a bundle's network to a folder.

    ``flash`` and ``ram`` are those of the device in bytes, by default those of the board that qemu emulates.
    ``precision`` None is the smallest of the bundle. Nothing is written if the program does not fit. Raises
    BackendError, BundleError, ConfigError or OutputError.
    """
    chosen = cpu_by_name(cpu)
    progress("laying out the weights")
    firmware = make_firmware(bundle, chosen, precision, flash or chosen.flash, ram or chosen.ram)
    with atomic_folder(output, force=force, kind=PROGRAM) as folder:
        for name, content in firmware.files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        progress("compiling")
        sizes = sizes_of(firmware, folder)
        check_fits(firmware, sizes)
    return firmware, sizes
