"""The microcontrollers that a program can be written for."""

from __future__ import annotations

from dataclasses import dataclass

from multires_edge.base.names import check_name


@dataclass(frozen=True)
class Cpu:
    """A kind of CPU: what it is compiled with and runs on.

    ``kernels`` is the engine's source file for its instructions, with ``group`` int8 inputs side by side.
    ``machine`` is the board that qemu emulates, with ``flash`` and ``ram`` in bytes; its timer counts once in
    ``nanoseconds``.
    """

    name: str
    options: str
    kernels: str
    group: int
    machine: str
    nanoseconds: float
    flash: int
    ram: int


_MEGABYTE = 1 << 20
CPUS = {
    cpu.name: cpu
    for cpu in (
        Cpu("cortex-m4", "-mcpu=cortex-m4 -mfpu=fpv4-sp-d16", "kernels_cortexm.cpp", 4,
            "mps2-an386", 40, 4 * _MEGABYTE, 4 * _MEGABYTE),
        Cpu("cortex-m7", "-mcpu=cortex-m7 -mfpu=fpv5-sp-d16", "kernels_cortexm.cpp", 4,
            "mps2-an500", 40, 4 * _MEGABYTE, 4 * _MEGABYTE),
        Cpu("cortex-m55", "-mcpu=cortex-m55", "kernels_mve.cpp", 16,
            "mps3-an547", 31.25, _MEGABYTE // 2, _MEGABYTE // 2),
    )
}  # fmt: skip


def cpu_by_name(name: str) -> Cpu:
    """The CPU of a name. Raises ConfigError."""
    check_name("CPU", name, CPUS)
    return CPUS[name]
