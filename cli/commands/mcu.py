"""``multires-edge mcu``: a program for a microcontroller with the network of a bundle."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from multires_edge.cli.command import Command
from multires_edge.cli.options import (
    OUTPUT_FOLDER,
    PRECISION,
    Name,
    bundle_argument,
    flag,
    json_option,
    option,
)
from multires_edge.cli.paths import beside
from multires_edge.cli.terminal import Progress, print_json


class _Bytes(click.ParamType):  # type: ignore[type-arg]
    """A number of bytes, such as 262144, 256K or 1M."""

    name = "SIZE"

    def get_metavar(self, *_: Any, **__: Any) -> str:
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"([1-9][0-9]{0,9})([KM]?)", str(value))
        if match is None:
            self.fail(f"{value!r}, expected bytes, such as 262144, 256K or 1M", param, ctx)
        size = int(match[1]) << {"": 0, "K": 10, "M": 20}[match[2]]
        if size >= 1 << 32:
            self.fail(f"{value!r} is not below 4096M", param, ctx)
        return size


def _cpus() -> tuple[str, ...]:
    from multires_edge.export.mcu.cpus import CPUS

    return tuple(CPUS)


@click.command(cls=Command)
@bundle_argument
@option("-o --output", OUTPUT_FOLDER, "Folder to write  [default: BUNDLE with the suffix .mcu]")
@option("--cpu", Name("cpu", _cpus, metavar=None), "CPU of the device.", default="cortex-m7")
@option("--precision", PRECISION, "Precision of the weights  [default: the smallest of the bundle]")
@option("--flash", _Bytes(), "Flash of the device, such as 512K  [default: that of the emulated board]")
@option("--ram", _Bytes(), "Memory of the device, such as 128K  [default: that of the emulated board]")
@flag("--force", "Replace an existing program.")
@json_option
def mcu(bundle: Path, output: Path | None, force: bool, as_json: bool, **given: Any) -> None:
    """Write BUNDLE's network as a program for a microcontroller.

    The folder has the weights as constants, the engine's sources, a main loop, and a golden test that runs
    under qemu: `make test`. There is no heap. With arm-none-eabi-g++ the program is compiled, and the figures
    of flash and memory are those of the linked program.
    """
    from multires_edge.export.bundle_folder import check_output
    from multires_edge.export.mcu.sizes import COMPILER
    from multires_edge.export.mcu.writing import PROGRAM, write_firmware
    from multires_edge.runtime.bundle import open_bundle

    final = output or beside(bundle, ".mcu")
    check_output(final, force=force, kind=PROGRAM)
    with Progress() as progress:
        progress("checking digests")
        firmware, sizes = write_firmware(open_bundle(bundle), final, force=force, progress=progress, **given)
    if as_json:
        print_json(
            {
                "bundle": str(bundle),
                "program": str(final),
                "cpu": given["cpu"],
                "precision": firmware.precision,
                "queues": firmware.queues,
                "weight_bytes": firmware.weights,
                "stream_bytes": firmware.stream,
                "flash_bytes": sizes.flash,
                "ram_bytes": sizes.ram,
                "compiler": sizes.compiler,
            }
        )
        return
    click.echo(f"{final}: {given['cpu']}, weights in {firmware.precision}, queues in {firmware.queues}")
    if sizes.compiler is None:
        click.echo(
            f"flash {sizes.flash:,} bytes of weights; the code is not counted: {COMPILER} was not found"
        )
    else:
        code = sizes.flash - firmware.weights
        click.echo(f"flash {sizes.flash:,} bytes: {firmware.weights:,} of weights, {code:,} of code")
    click.echo(f"RAM   {sizes.ram:,} bytes: {firmware.stream:,} of the stream, the rest is stack")
    click.echo(f"next: make -C {final} test")
