"""``multires-edge doctor``: the abilities of this machine."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

from multires_edge.base.installation import pip_install
from multires_edge.cli.command import Command
from multires_edge.cli.options import json_option
from multires_edge.cli.terminal import print_json, print_table

_PACKAGES = (
    "multires-edge",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnx",
    "torch",
    "tensorrt",
    "tensorrt-rtx-cu13",
)
# The features that a step uses, as /proc/cpuinfo names them on x86-64 and on aarch64.
_CPU_FEATURES = (
    "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8",
    "asimd", "asimdhp", "asimddp", "i8mm", "sve",
)  # fmt: skip


@click.command(cls=Command)
@json_option
def doctor(as_json: bool) -> None:
    """Show the abilities of this machine and installation."""
    findings = examine()
    if as_json:
        print_json(findings)
        return
    packages = {name: found or "not installed" for name, found in findings["packages"].items()}
    rows = [("python", findings["python"]), ("machine", findings["machine"]), *packages.items()]
    rows.append(("cpu", f"{findings['cpu']['name']}, {findings['cpu']['cores']} cores"))
    rows.append(("cpu features", " ".join(findings["cpu"]["features"]) or "none known"))
    rows.append(("providers", ", ".join(findings["providers"]) or "none: no onnxruntime"))
    rows.append(("gpu", findings["gpu"] or "none found"))
    print_table(rows)
    for capability, missing in findings["capabilities"].items():
        click.echo(f"-[{'x' if missing else '✓'}] {capability}" + (f": {missing}" if missing else ""))


def examine() -> dict[str, Any]:
    """All findings; ``capabilities`` maps each ability to what is missing for it, or to None."""
    from multires_edge.runtime.backends.device.gpu import find_gpu, why_no_gpu
    from multires_edge.runtime.backends.registry import backend_named, backend_names

    packages = {name: _version(name) for name in _PACKAGES}
    providers = _providers()
    no_gpu = why_no_gpu()
    export_missing = [name for name in ("torch", "onnx", "onnxruntime") if not packages[name]]
    capabilities = {
        "export checkpoints": f"{pip_install('export')} ({', '.join(export_missing)})"
        if export_missing
        else None,
        **{backend.ability: backend.missing() for backend in map(backend_named, backend_names())},
        "run the ONNX graphs on an NVIDIA GPU": _missing_cuda(),
        "build TensorRT-RTX engines ahead of time": None
        if packages["tensorrt-rtx-cu13"]
        else pip_install("rtx"),
        "build TensorRT engines for this device": no_gpu or _missing_tensorrt(),
    }
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "packages": packages,
        "cpu": _cpu(),
        "providers": providers,
        "gpu": None if no_gpu else str(find_gpu()),
        "capabilities": capabilities,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _providers() -> list[str]:
    from multires_edge.base.errors import MissingExtraError
    from multires_edge.runtime.backends.providers import load_onnxruntime

    try:
        return list(load_onnxruntime().get_available_providers())
    except MissingExtraError:
        return []


def _missing_cuda() -> str | None:
    from multires_edge.base.errors import MissingExtraError
    from multires_edge.runtime.backends.providers import install_cuda, why_no_cuda

    try:
        return why_no_cuda()
    except MissingExtraError:
        return install_cuda()


def _missing_tensorrt() -> str | None:
    from multires_edge.base.errors import BackendError
    from multires_edge.runtime.backends.tensorrt.api import load_api

    try:
        load_api("tensorrt")
    except BackendError as error:
        return str(error)
    return None


def _cpu() -> dict[str, Any]:
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", errors="replace")
    except OSError:
        text = ""
    name = re.search(r"^(?:model name|Model|Processor)\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    present = set(flags[1].split()) if flags else set()
    return {
        "name": name[1] if name else platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 1,
        "features": [feature for feature in _CPU_FEATURES if feature in present],
    }
