"""Where ONNX Runtime's CUDA provider runs step graphs: its own library, on a CUDA without a GPU."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from multires_edge.format.targets import FORMS
from tests.conftest import random_net, variant
from tests.export.every_graph import INT8_QUEUES, KINDS, unproven_bundle
from tests.runtime.cpp.programs import cxx, needed_wheels, needs, run

pytestmark = [pytest.mark.slow, pytest.mark.native]

HERE = Path(__file__).parent
_LOAD = """
import sys
import onnxruntime
for path in sys.argv[1:]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = options.log_verbosity_level = 0
    options.logid = path
    session = onnxruntime.InferenceSession(path, options, providers=["CUDAExecutionProvider"])
    assert session.get_providers()[0] == "CUDAExecutionProvider"
"""
_ON_CPU = re.compile(r"placed on \[CPUExecutionProvider\]\. Number of nodes: (\d+)\n.*?\] +(\w+) \(")
_COPIES = re.compile(r"(\d+) Memcpy nodes are added")


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with ONNX Runtime for GPUs."""
    folder = tmp_path_factory.mktemp("onnxruntime_gpu")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    what = ["--target", str(folder), "--require-hashes", "-r", str(HERE / "onnxruntime_gpu.txt")]
    done = subprocess.run([*pip, *what], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs the package of onnxruntime_gpu.txt: {done.stderr[-200:]}")
    yield folder
    shutil.rmtree(folder)  # 330 MB


@pytest.fixture(scope="module")
def cuda(provider: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the libraries that its CUDA provider links with."""
    needs("nm")
    folder = tmp_path_factory.mktemp("cuda")
    library = provider / "onnxruntime" / "capi" / "libonnxruntime_providers_cuda.so"
    wanted = run("nm", "-D", "--undefined-only", library)
    ours = (HERE / "cudart.cpp").read_text()
    names = re.findall(r" U ((?:__cuda|cuda|cublas|cublasLt|cu[A-Z])\w+)(?:@lib\S+)?$", wanted, re.MULTILINE)
    (folder / "missing.h").write_text(
        "".join(
            f'extern "C" int stub_{name}() __asm__("{name}");\nint stub_{name}() {{ return 0; }}\n'
            for name in names
            if f" {name}(" not in ours
        )
    )
    headers = [f"-I{folder}", f"-isystem{needed_wheels().cuda_headers}"]
    command = [cxx(), "-std=c++17", "-shared", "-fPIC", "-w", *headers]
    libraries = set(re.findall(r"@(lib(?:cuda|cublas)\S+)", wanted)) | {"libcuda.so.1", "libcurand.so.10"}
    for name in libraries:
        (folder / "versions").write_text(f"{name} {{ global: *; }};\n")
        run(*command, HERE / "cudart.cpp", "-o", folder / name, f"-Wl,--version-script={folder / 'versions'}")
    return folder


def load(
    names: Sequence[str], precision: str, form: str, provider: Path, cuda: Path, folder: Path
) -> list[str]:
    """What ONNX Runtime says while it loads the step graphs of some kinds of networks."""
    paths = []
    for number, name in enumerate(names):
        (folder / str(number)).mkdir()
        changes, pooling = KINDS[name]
        unproven_bundle(random_net(variant(**changes)), pooling, precision, FORMS[form], folder / str(number))
        paths.append(folder / str(number) / "step.onnx")
    here = {"LD_LIBRARY_PATH": str(cuda), "PYTHONPATH": str(provider)}
    lines = run(sys.executable, "-c", _LOAD, *paths, **here).splitlines()
    return ["\n".join(line for line in lines if f":{path}, " in line) for path in paths]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("form", FORMS)
def test_every_step_runs_on_the_gpu(
    form: str, precision: str, provider: Path, cuda: Path, tmp_path: Path
) -> None:
    """Without a copy. In opset 17 the CPU takes the number of streams from a shape, which it has."""
    for name, said in zip(KINDS, load(list(KINDS), precision, form, provider, cuda, tmp_path), strict=True):
        assert "placed on [CUDAExecutionProvider]" in said and not _COPIES.search(said), name
        on_cpu = _ON_CPU.findall(said)
        assert on_cpu == [] or (form, on_cpu) == ("opset17", [("1", "Squeeze")]), (name, on_cpu)


@pytest.mark.parametrize("form", FORMS)
def test_queues_in_int8_would_be_copied(form: str, provider: Path, cuda: Path, tmp_path: Path) -> None:
    """Which is why the backend refuses them."""
    (said,) = load(["fading"], INT8_QUEUES, form, provider, cuda, tmp_path)
    assert int(_COPIES.findall(said)[0]) > 3 and int(_ON_CPU.findall(said)[0][0]) > 3
