"""Build the wheels of all platforms here, with Zig as the cross compiler, and the sdist.

    python package/wheels.py DIST [PLATFORM ...]

The wheels depend on the sources and SOURCE_DATE_EPOCH alone. They have no headers and libraries for C++
programs (`multires-edge cmake-dir`): those of Zig fit no other compiler. An installation from source has
them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from wheel_file import rewrite

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Platform:
    """Zig's name of a platform, and CMake's names of its system and processor."""

    target: str
    system: str
    processor: str
    options: tuple[str, ...] = ()


# Zig names instruction sets in its own way.
_TOOL = """#!/bin/sh
for argument do
  shift
  [ "$argument" = -march=armv8.2-a+dotprod ] && argument=-mcpu=generic+v8_2a+dotprod
  set -- "$@" "$argument"
done
exec {python} -m ziglang {tool} "$@"
"""

# By the platform tag of the wheel. glibc 2.17 is that of manylinux2014; Zig has musl 1.2.
PLATFORMS = {
    "manylinux_2_17_x86_64": Platform("x86_64-linux-gnu.2.17", "Linux", "x86_64"),
    "manylinux_2_17_aarch64": Platform("aarch64-linux-gnu.2.17", "Linux", "aarch64"),
    "musllinux_1_2_x86_64": Platform("x86_64-linux-musl", "Linux", "x86_64"),
    "musllinux_1_2_aarch64": Platform("aarch64-linux-musl", "Linux", "aarch64"),
    "macosx_13_0_x86_64": Platform("x86_64-macos.13.0", "Darwin", "x86_64"),
    "macosx_13_0_arm64": Platform("aarch64-macos.13.0", "Darwin", "arm64"),
    # CUDA by this package is for Linux.
    "win_amd64": Platform("x86_64-windows-gnu", "Windows", "AMD64", ("-DMULTIRES_CUDA=OFF",)),
}


def main(out: Path, names: list[str]) -> None:
    """Build the sdist and the wheels of some platforms, or of all."""
    out.mkdir(parents=True, exist_ok=True)
    if unknown := set(names) - set(PLATFORMS):
        sys.exit(f"unknown platform {min(unknown)}, expected one of {', '.join(PLATFORMS)}")
    if not os.environ.get("SOURCE_DATE_EPOCH", "").isdecimal():
        sys.exit("SOURCE_DATE_EPOCH is not set; `make dist` sets it to the time of the commit")
    print(build_sdist(out))
    for name in names or PLATFORMS:
        print(build_wheel(name, out), flush=True)


def build_sdist(out: Path) -> Path:
    """Build the sdist; returns its path."""
    code = (
        "import sys; sys.path.insert(0, 'package'); import backend; print(backend.build_sdist(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(out.resolve())],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return out / done.stdout.splitlines()[-1]


def build_wheel(name: str, out: Path) -> Path:
    """Build the wheel of a platform; returns its path."""
    platform = PLATFORMS[name]
    with tempfile.TemporaryDirectory() as folder:
        tools = Path(folder, "tools")
        tools.mkdir()
        for tool in ("cc", "c++", "ar", "ranlib"):
            target = f" -target {platform.target}" if tool in ("cc", "c++") else ""
            script = tools / tool
            script.write_text(_TOOL.format(python=sys.executable, tool=tool + target))
            script.chmod(0o755)
        options = {  # without paths of this machine in the library
            "CMAKE_SYSTEM_NAME": platform.system,
            "CMAKE_SYSTEM_PROCESSOR": platform.processor,
            "CMAKE_CXX_COMPILER": tools / "c++",
            "CMAKE_AR": tools / "ar",
            "CMAKE_RANLIB": tools / "ranlib",
            "CMAKE_CXX_FLAGS": f"-ffile-prefix-map={ROOT}=.",
            "CMAKE_SHARED_LINKER_FLAGS": "-s",
            "MULTIRES_SDK": "OFF",
        }
        # CMake would ask for Apple's tools.
        more = (
            ("-DCMAKE_OSX_SYSROOT=", "-DCMAKE_OSX_DEPLOYMENT_TARGET=") if platform.system == "Darwin" else ()
        )
        environment = os.environ | {
            "CMAKE_ARGS": " ".join(
                [*(f"-D{key}={value}" for key, value in options.items()), *platform.options, *more]
            ),
            "MULTIRES_ZIG": version("ziglang"),  # for the bill of materials
            "ZIG_GLOBAL_CACHE_DIR": str(Path(sysconfig.get_path("data"), "zig-cache")),
        }
        command = [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            str(ROOT),
        ]
        command += ["--wheel-dir", folder, "--config-settings", "install.strip=false"]
        subprocess.run(command, env=environment, check=True)
        (built,) = Path(folder).glob("*.whl")
        return retagged(built, name, out)


def retagged(wheel: Path, platform: str, out: Path) -> Path:
    """The wheel with the tag of a platform: its builder knows only this machine's."""
    distribution, release, python, abi, _ = wheel.stem.split("-")
    assert (python, abi) == ("py3", "none"), wheel.name
    final = out / f"{distribution}-{release}-py3-none-{platform}.whl"
    with zipfile.ZipFile(wheel) as file:
        text = file.read(f"{distribution}-{release}.dist-info/WHEEL").decode()
    tagged = re.sub(r"(?m)^Tag: .*$", f"Tag: py3-none-{platform}", text)
    copy = wheel.with_name(final.name)
    rewrite(wheel, copy, {"WHEEL": tagged.encode()})
    shutil.move(copy, final)
    return final


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
