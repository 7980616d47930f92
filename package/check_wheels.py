"""Check the finished wheels: their tags, contents, and that their engines compute the recorded outputs.

    python package/check_wheels.py DIST BUNDLE

auditwheel compares the tags with the libraries. The libraries for Linux and Windows run a bundle's weights,
if what runs them is here: the loader of their libc, qemu for another processor, and Wine for Windows.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from wheels import PLATFORMS

from multires_edge.runtime import open_bundle
from multires_edge.runtime.backends._native_interface import INTERFACE
from multires_edge.runtime.backends.native import open_weights

ROOT = Path(__file__).resolve().parents[1]
_ENGINES = ("multires_edge/runtime/backends/_engine.so", "multires_edge/runtime/backends/_engine.pyd")
_CALLERS = "multires_edge/runtime/backends/_native_*.py"
# By the start of a tag: the first bytes of a library.
_KINDS = {"manylinux": b"\x7fELF", "musllinux": b"\x7fELF", "macosx": b"\xcf\xfa\xed\xfe", "win": b"MZ"}
# What a program of a platform needs, and what runs it. Debian's packages are libc6-arm64-cross, musl,
# musl:arm64, qemu-user and wine64.
_RUNNERS: dict[str, tuple[str, list[str]]] = {
    "manylinux_2_17_x86_64": ("/lib64/ld-linux-x86-64.so.2", []),
    "manylinux_2_17_aarch64": (
        "/usr/aarch64-linux-gnu/lib/ld-linux-aarch64.so.1",
        ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"],
    ),
    "musllinux_1_2_x86_64": ("/lib/ld-musl-x86_64.so.1", []),
    "musllinux_1_2_aarch64": ("/lib/ld-musl-aarch64.so.1", ["qemu-aarch64"]),
    "win_amd64": ("/usr/lib/wine/wine64", ["/usr/lib/wine/wine64"]),
}


def main(dist: Path, bundle: Path) -> None:
    """Check all wheels of a folder; ends with a message at the first that is wrong."""
    wheels = sorted(dist.glob("*.whl"))
    if not wheels or not list(dist.glob("*.tar.gz")):
        sys.exit(f"{dist}: has no wheels and sdist; run make dist")
    for wheel in wheels:
        tag = wheel.stem.rpartition("-")[2]
        with tempfile.TemporaryDirectory() as folder:
            checks = [check_contents(wheel, tag, Path(folder))]
            if "linux" in tag:
                checks.append(check_tag(wheel, tag))
            if tag in _RUNNERS:
                checks.append(check_engine(bundle, tag, Path(folder)))
        print(f"{wheel.name}: {', '.join(checks)}", flush=True)


def check_contents(wheel: Path, tag: str, folder: Path) -> str:
    """The engine is of the platform, has what Python calls, and names no folder of this machine.

    It is left in ``folder``.
    """
    with zipfile.ZipFile(wheel) as file:
        (engine,) = (name for name in file.namelist() if name in _ENGINES)
        content = file.read(engine)
        callers = fnmatch.filter(file.namelist(), _CALLERS)
        if "-DMULTIRES_CUDA=OFF" in PLATFORMS[tag].options:
            callers = [path for path in callers if "cuda" not in path]
        called = {name for path in callers for name in re.findall(rb'function\(\s*"(\w+)"', file.read(path))}
    if not content.startswith(_KINDS[tag.partition("_")[0]]):
        sys.exit(f"{wheel}: {engine} is not for {tag}")
    if INTERFACE.encode() not in content:
        sys.exit(f"{wheel}: {engine} was built from other sources than this package")
    if lacks := {name.decode() for name in called if name + b"\0" not in content}:
        sys.exit(f"{wheel}: {engine} has no function {min(lacks)}")
    for path in (ROOT, Path.home(), Path(tempfile.gettempdir())):
        if len(path.parts) > 1 and str(path).encode() + b"/" in content:
            sys.exit(f"{wheel}: {engine} names the folder {path}")
    (folder / "_engine.so").write_bytes(content)
    return f"engine of {len(content):,} bytes with {len(called)} functions"


def check_tag(wheel: Path, tag: str) -> str:
    """The library needs no newer system than the tag says."""
    # No library of this machine: it may be that of another libc, under the same name.
    command = [sys.executable, "-m", "auditwheel", "show", "--ldpaths", "", str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = " ".join(done.stdout.split())
    if tag.startswith("musl"):
        # auditwheel knows musl by the name that Alpine links. The loader takes this one for itself, too.
        good = 'required by the wheel: { "libc.so": null }' in found and "references no external" in found
    else:
        good = f'platform tag: "{tag}"' in found
    if not good:
        sys.exit(f"{wheel}: auditwheel does not agree with its tag\n{done.stdout}{done.stderr}")
    return "auditwheel agrees"


def check_engine(path: Path, tag: str, folder: Path) -> str:
    """The library computes a bundle's recorded outputs within the limit of exports."""
    loader, runner = _RUNNERS[tag]
    if not Path(loader).exists() or (runner and shutil.which(runner[0]) is None):
        return f"not run ({' or '.join([loader, *runner[:1]])} is missing)"
    program = folder / "program"
    source, include = ROOT / "package" / "golden_program.c", ROOT / "runtime" / "cpp" / "include"
    platform = PLATFORMS[tag]
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", platform.target, "-dynamic"]
    libraries = [] if platform.system == "Windows" else ["-ldl"]
    subprocess.run([*zig, "-O1", f"-I{include}", source, *libraries, "-o", program], check=True)
    environment = os.environ | {"WINEPREFIX": str(folder / "wine"), "WINEDEBUG": "-all"}
    bundle = open_bundle(path)
    golden = bundle.golden()
    (folder / "weights").write_bytes(bundle.read(bundle.manifest.native["fp32"].file))
    worst = 0.0
    for x, expected in zip(golden.inputs, golden.stepwise, strict=True):
        np.ascontiguousarray(x.T).tofile(folder / "x")
        command = [*runner, "./program", "./_engine.so", "weights", "x", "y"]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{tag}: {done.stderr}")
        y = np.fromfile(folder / "y", np.float32).reshape(expected.T.shape)
        worst = max(worst, float(np.max(np.abs(y - expected.T) / np.maximum(1, np.abs(expected.T)))))
    if not worst < 1e-5:
        sys.exit(f"{tag}: the recorded outputs differ by {worst:.1e}, expected less than 1e-5")
    isa, here = done.stdout.strip(), open_weights(path, bundle.manifest, "fp32").isa
    if not runner and isa != here:
        sys.exit(f"{tag}: the engine runs as {isa}, but the installed one as {here}")
    return f"recorded outputs within {worst:.1e} ({isa})"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
