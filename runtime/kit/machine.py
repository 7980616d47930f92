"""Facts about the device that affect the measured times: model, power mode, clocks, temperatures."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from multires_edge.base.names import printable
from multires_edge.runtime.kit.report import Clock, Machine


def machine(root: Path = Path("/")) -> Machine:
    """Read facts that affect the measured times."""
    found: dict[str, Any] = {
        "model": _text(root / "proc/device-tree/model"),
        "l4t_release": _text(root / "etc/nv_tegra_release", first=True),
        "power_mode": _command("nvpmodel", "-q") or _text(root / "var/lib/nvpmodel/status"),
        "gpu_clocks": _clocks(root / "sys/class/devfreq", "*", ("min_freq", "cur_freq", "max_freq")),
        "cpu_clocks": _clocks(
            root / "sys/devices/system/cpu/cpufreq",
            "policy*",
            ("scaling_min_freq", "scaling_cur_freq", "scaling_max_freq"),
        ),
        "temperatures": {
            _text(zone / "type") or zone.name: int(degrees) / 1000
            for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*"))
            for degrees in [_text(zone / "temp") or ""]
            if degrees.lstrip("-").isdigit()
        }
        or None,
    }
    return Machine(
        machine=platform.machine(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        numpy=np.__version__,
        cores=os.cpu_count(),
        **found,
        absent=tuple(sorted(name for name, value in found.items() if value is None)),
    )


def _lines(text: str) -> str | None:
    """The printable lines of a text; None without text. Commands may write colours."""
    return "\n".join(printable(line) for line in text.split("\n")).strip() or None


def _text(path: Path, *, first: bool = False) -> str | None:
    try:
        # Strings of the device tree end with a zero byte.
        text = path.read_text("utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return None
    return _lines(text.split("\n")[0] if first else text) if text else None


def _command(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError, UnicodeError):
        return None
    return _lines(done.stdout) if done.returncode == 0 and done.stdout.strip() else None


def _clocks(folder: Path, pattern: str, names: tuple[str, str, str]) -> dict[str, Clock] | None:
    """Clocks by device, in the units of the files. ``locked``: the minimum equals the maximum."""
    clocks: dict[str, Clock] = {}
    for device in sorted(folder.glob(pattern)):
        low, now, high = (_text(device / name) for name in names)
        if low and now and high:
            clocks[device.name] = Clock(low, now, high, locked=low == high)
    return clocks or None
