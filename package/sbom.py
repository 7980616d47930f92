"""The bill of materials of a wheel, in CycloneDX's JSON, from the files that are in the wheel."""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
import zipfile
from email import message_from_bytes
from pathlib import Path, PurePosixPath
from typing import Any

from wheel_file import rewrite

NAME = "multires-edge.cdx.json"
_PAGE = "multires_edge/runtime/monitor/page/"
_DEMO = "multires_edge/models/demo/"
# Kinds of files that are this project's own texts. All others are entered one by one.
_TEXTS = {
    ".c",
    ".cmake",
    ".cpp",
    ".css",
    ".h",
    ".hpp",
    ".html",
    ".j2",
    ".js",
    ".json",
    ".ld",
    ".md",
    ".mk",
    ".pc",
    ".py",
    ".pyi",
    ".svg",
    ".txt",
    ".typed",
}
Component = dict[str, Any]


def add_to(wheel: Path) -> None:
    """Add the bill to a wheel. The wheel is replaced whole."""
    with zipfile.ZipFile(wheel) as old:
        bill = bill_of(old)
    text = json.dumps(bill, indent=2, ensure_ascii=False).encode() + b"\n"
    rewrite(wheel, wheel, {f"sboms/{NAME}": text})


def bill_of(wheel: zipfile.ZipFile) -> dict[str, Any]:
    """The bill of a wheel. Raises ValueError for a file of a kind that it knows nothing of."""
    files = {name: wheel.read(name) for name in wheel.namelist() if not name.endswith("/")}
    (metadata,) = (data for name, data in files.items() if name.endswith(".dist-info/METADATA"))
    about = message_from_bytes(metadata)
    own, version = about["License-Expression"], about["Version"]
    components: list[Component] = [_uplot(files)]
    for name, data in files.items():
        path = PurePosixPath(name)
        if path.parts[0].endswith(".dist-info") or name.startswith(f"{_PAGE}uplot/"):
            continue
        if path.suffix in {".so", ".pyd"} and path.name.startswith("_engine."):
            components.append(_file(name, data, own) | {"components": _compiled_in()})
        elif path.name in {"libmultires.a", "libmultires_cuda.a"} or path.suffix in {".lib", ".cu"}:
            components.append(_file(name, data, own))
        elif path.suffix == ".ptx":
            compiler = re.search(rb"release ([0-9.]+), V([0-9.]+)", data)
            assert compiler is not None
            tool = {"name": "compiler", "value": f"NVIDIA CUDA compilation tools {compiler[2].decode()}"}
            components.append(_file(name, data, own) | {"properties": [tool]})
        elif name in {f"{_DEMO}ckpt.pth", f"{_DEMO}small.pth"}:
            components.append(_file(name, data, "Apache-2.0") | {"type": "machine-learning-model"})
        elif name == f"{_DEMO}records.npz":
            origin = {"name": "origin", "value": "PTB-XL 1.0.3, doi:10.13026/kfzx-aw45; see ATTRIBUTION.md"}
            components.append(_file(name, data, "CC-BY-4.0") | {"type": "data", "properties": [origin]})
        elif path.suffix not in _TEXTS:
            raise ValueError(f"{name}: a file of an unknown kind; say in package/sbom.py where it comes from")
    reference = f"pkg:pypi/multires-edge@{version}"
    bill: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "library",
                "bom-ref": reference,
                "name": about["Name"],
                "version": version,
                "description": about["Summary"],
                "licenses": [{"expression": own}],
                "purl": reference,
            }
        },
        "components": components,
        "dependencies": [
            {"ref": reference, "dependsOn": [component["bom-ref"] for component in components]},
            *(
                {"ref": outer["bom-ref"], "dependsOn": [inner["bom-ref"] for inner in outer["components"]]}
                for outer in components
                if "components" in outer
            ),
        ],
    }
    # The same contents have the same number.
    number = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(bill, sort_keys=True))
    return {"bomFormat": bill.pop("bomFormat"), "serialNumber": f"urn:uuid:{number}", **bill}


def _uplot(files: dict[str, bytes]) -> Component:
    """uPlot as it was taken over. Its version is in its own files, too."""
    folder = f"{_PAGE}uplot/"
    found = re.search(rb"uPlot ([0-9.]+),", files[f"{folder}NOTICE"])
    assert found is not None
    version = found[1].decode()
    if f"v{version}".encode() not in files[f"{folder}uPlot.iife.min.js"][:300]:
        raise ValueError(f"{folder}: NOTICE says {version}, and uPlot.iife.min.js another version")
    parts = [_file(name, data, "MIT") for name, data in files.items() if name.startswith(folder)]
    return _library("uplot", version, "npm", "MIT", files[f"{folder}LICENSE"].decode()) | {
        "components": parts
    }


def _compiled_in() -> list[Component]:
    """What the compiler put into the engine. Zig links its copy of LLVM's C++ library statically."""
    zig = os.environ.get("MULTIRES_ZIG")
    return [_library("ziglang", zig, "pypi", "MIT AND Apache-2.0 WITH LLVM-exception", None)] if zig else []


def _library(name: str, version: str, origin: str, license_id: str, text: str | None) -> Component:
    purl = f"pkg:{origin}/{name}@{version}"
    terms: dict[str, Any] = {"expression": license_id}
    if text:
        terms = {"license": {"id": license_id, "text": {"content": text}}}
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "licenses": [terms],
        "purl": purl,
    }


def _file(name: str, data: bytes, license_id: str) -> Component:
    return {
        "type": "file",
        "bom-ref": name,
        "name": name,
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(data).hexdigest()}],
        "licenses": [{"license": {"id": license_id}}],
    }
