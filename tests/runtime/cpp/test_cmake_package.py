"""The engine as an installed library: what other projects in C and C++ see of it.

Built and installed once, then moved: everything below finds it where it has been moved to.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from multires_edge.export.folding import fold
from multires_edge.export.native_weights import native_weights
from multires_edge.format.card import read_card
from multires_edge.format.pooling import Cumulative
from multires_edge.models import load_checkpoint
from multires_edge.runtime.backends import _native
from tests.conftest import DEMO, ROOT, native_model
from tests.runtime.backends.device.fake_driver import on_driver

ENGINE = ROOT / "runtime" / "cpp"
SEARCH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
STRICT = ["-pedantic", "-Wall", "-Wextra", "-Werror"]


def tool(*names: str) -> str:
    """The first of these programs that is here; the test is skipped without."""
    for name in names:
        if name and (path := shutil.which(name, path=SEARCH)):
            return path
    pytest.skip(f"no {' or '.join(filter(None, names))} on this machine")


def cxx() -> str:
    return tool(os.environ.get("CXX", ""), "c++")


def cc() -> str:
    return tool(os.environ.get("CC", ""), "cc")


def run(*command: object, input: str | None = None, env: dict[str, str] | None = None) -> str:
    """Standard output of a command that must succeed."""
    arguments = [str(part) for part in command]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False, input=input, env=env)
    assert result.returncode == 0, f"{arguments}\n{result.stdout}{result.stderr}"
    return result.stdout


def cmake_build(source: Path, folder: Path, *options: str) -> None:
    run(tool("cmake"), "-S", source, "-B", folder, *options)
    run(tool("cmake"), "--build", folder)


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    layout = ["-DCMAKE_INSTALL_LIBDIR=lib", f"-DCMAKE_INSTALL_PREFIX={folder / 'first'}"]
    cmake_build(ENGINE, folder / "build", *layout)
    run(tool("cmake"), "--install", folder / "build")
    shutil.rmtree(folder / "build")
    return (folder / "first").rename(folder / "moved here")


@pytest.fixture(scope="module", params=["cpp", "c"])
def example(request: pytest.FixtureRequest, prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An example's program, built from a copy that sees nothing of the source tree."""
    folder = tmp_path_factory.mktemp("example")
    shutil.copytree(ROOT / "examples" / request.param, folder / "source")
    cmake_build(folder / "source", folder / "build", f"-Dmultires_DIR={prefix / 'lib/cmake/multires'}")
    return folder / "build" / "classify_csv"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration network, as much of a bundle as these programs read."""
    folder = tmp_path_factory.mktemp("demo.bundle")
    net = load_checkpoint(DEMO / "ckpt.pth")
    card = read_card(DEMO / "card.json", net.config)
    (folder / "native").mkdir()
    (folder / "native" / "weights.safetensors").write_bytes(native_weights(fold(net), Cumulative(), card))
    return folder


def stream_logits(weights: Path, x: np.ndarray) -> np.ndarray:
    """What Python's engine gives at each step for x (steps, channels), normalised."""
    model = native_model(weights)
    y = np.empty((len(x), 1, 5), np.float32)
    _native.State(model, 1).run(np.ascontiguousarray(x[:, None]), y)
    return y[:, 0]


def csv(samples: np.ndarray) -> str:
    return "".join(",".join(f"{value:.9g}" for value in sample) + "\n" for sample in samples)


def numbers(text: str, separator: str | None = ",") -> np.ndarray:
    return np.array([[float(value) for value in line.split(separator)] for line in text.splitlines()])


def test_an_example_builds_from_a_copy(example: Path, bundle: Path) -> None:
    assert numbers(run(example, bundle, input=csv(np.zeros((1, 12))))).shape == (1, 5)


@pytest.mark.parametrize("example", ["cpp"], indirect=True)
def test_a_ward_on_the_gpu_is_that_on_the_cpu(example: Path, bundle: Path, tmp_path: Path) -> None:
    program = example.with_name("stream_ward")
    x = csv(np.random.default_rng(0).standard_normal((10, 12)))
    on_cpu = run(program, bundle, 3, "cpu", input=x)
    on_gpu = run(program, bundle, 3, "gpu", input=x, env=on_driver(tmp_path))
    assert numbers(on_cpu).shape == (3, 5) and len(set(on_cpu.splitlines())) == 3
    assert np.abs(numbers(on_gpu) - numbers(on_cpu)).max() < 1e-5


class TestHeaders:
    def test_the_usage_example_compiles_and_runs(self, prefix: Path, bundle: Path, tmp_path: Path) -> None:
        """With the shared library, which must be found through the targets too."""
        header = (prefix / "include" / "multires.hpp").read_text()
        found = re.search(r"// @code\n(.*?)// @endcode\n", header, re.DOTALL)
        assert found is not None
        program = "".join(line[3:] or "\n" for line in found[1].splitlines(keepends=True))
        (tmp_path / "main.cpp").write_text(program)
        (tmp_path / "CMakeLists.txt").write_text(
            "cmake_minimum_required(VERSION 3.18)\nproject(usage LANGUAGES CXX)\n"
            "find_package(multires CONFIG REQUIRED)\nadd_executable(usage main.cpp)\n"
            "target_link_libraries(usage PRIVATE multires::multires_shared)\n"
            f"target_compile_options(usage PRIVATE {' '.join(STRICT)})\n"
        )
        cmake_build(tmp_path, tmp_path / "build", f"-DCMAKE_PREFIX_PATH={prefix}")
        x = np.random.default_rng(0).standard_normal((30, 12), dtype=np.float32)
        printed = run(tmp_path / "build" / "usage", bundle, input=csv(x).replace(",", " "))
        expected = stream_logits(bundle / "native" / "weights.safetensors", x)
        assert np.abs(numbers(printed, None) - expected).max() < 1e-5

    def test_the_c_interface_is_plain_c(self, prefix: Path, tmp_path: Path) -> None:
        (tmp_path / "main.c").write_text(
            "#include <multires.h>\nint main(void) { return !multires_version(); }\n"
        )
        run(
            cc(),
            "-std=c11",
            *STRICT,
            f"-I{prefix / 'include'}",
            "-c",
            tmp_path / "main.c",
            "-o",
            tmp_path / "o",
        )
        shutil.copy(tmp_path / "main.c", tmp_path / "main.cpp")
        run(
            cxx(),
            "-std=c++17",
            *STRICT,
            f"-I{prefix / 'include'}",
            "-c",
            tmp_path / "main.cpp",
            "-o",
            tmp_path / "o",
        )


class TestLibraries:
    def test_only_the_c_interface_is_exported(self, prefix: Path) -> None:
        table = run(tool("nm"), "-D", "--defined-only", prefix / "lib" / "libmultires.so")
        names = {line.split()[-1] for line in table.splitlines()}
        declared = re.findall(
            r"^MULTIRES_API .*?(multires_\w+)\(", (ENGINE / "include/multires.h").read_text(), re.M
        )
        assert names == set(declared)

    def test_the_shared_library_carries_its_version(self, prefix: Path) -> None:
        version = re.search(r"VERSION ([\d.]+) LANGUAGES", (ENGINE / "CMakeLists.txt").read_text())
        assert version is not None and version[1] == metadata.version("multires-edge")
        minor = version[1].rpartition(".")[0]
        library = prefix / "lib" / "libmultires.so"
        assert library.resolve().name == f"libmultires.so.{version[1]}"
        assert f"libmultires.so.{minor}]" in run(tool("readelf"), "-d", library)

    def test_they_are_small_and_need_the_system_alone(self, prefix: Path) -> None:
        """What README and docs/cpp.md say."""
        assert (prefix / "lib" / "libmultires.a").stat().st_size < 1_250_000
        dynamic = run(tool("readelf"), "-d", prefix / "lib" / "libmultires.so")
        needed = {name.split(".so")[0] for name in re.findall(r"NEEDED.*\[(.*)\]", dynamic)}
        loaders = {"ld-linux-x86-64", "ld-linux-aarch64"}
        assert {"libc"} <= needed <= {"libc", "libm", "libgcc_s", "libstdc++", *loaders}

    def test_nothing_tells_of_where_it_was_built(self, prefix: Path) -> None:
        for path in prefix.rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                assert str(ROOT).encode() not in content and str(prefix.parent).encode() not in content, path

    @pytest.mark.parametrize("static", [False, True])
    def test_pkg_config_knows_how_to_link(
        self, static: bool, prefix: Path, bundle: Path, tmp_path: Path
    ) -> None:
        environment = os.environ | {"PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig")}
        kind = ["--static"] if static else []
        flags = shlex.split(run(tool("pkg-config"), "--cflags", "--libs", *kind, "multires", env=environment))
        # Where both libraries lie, a linker takes the shared one unless it is told.
        flags = ["-l:libmultires.a" if static and flag == "-lmultires" else flag for flag in flags]
        program = tmp_path / "classify"
        run(cc(), "-std=c11", ROOT / "examples" / "c" / "main.c", *flags, "-lm", "-o", program)
        search = {} if static else {"LD_LIBRARY_PATH": str(prefix / "lib")}
        printed = run(program, bundle, input=csv(np.zeros((1, 12))), env=os.environ | search)
        assert numbers(printed).shape == (1, 5)
