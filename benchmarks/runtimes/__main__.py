"""What other runtimes compute from a bundle's graphs, as a table in Markdown.

    python -m benchmarks.runtimes BUNDLE onnxruntime==1.18.1 openvino tract onnx onnxruntime-node ...

Each runtime is installed into a virtual environment, or a folder of npm, that is thrown away. Each graph
runs in a process of its own, because some runtimes abort. A cell is the largest difference, relative to
values above 1, to the float64 reference in the bundle; for int8, to the native engine in int8. A dash is a
graph that the runtime refused; there is no row if it refused them all. ``--python`` is for releases that the
running Python has no wheels of.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.runtime import Bundle, open_bundle

HERE = Path(__file__).parent
STEPS = 200
LIMITS = {"fp32": 1e-5, "fp16": 5e-2, "int8": 1e-2}
# Packages that more is installed with.
_WITH = {"tract": ["onnx"], "openvino": ["onnx"]}
_JAVASCRIPT = ("onnxruntime-node", "onnxruntime-web")
# One package, tried in several ways.
_WAYS = {"openvino": ("openvino", "openvino-f32")}


@dataclass(frozen=True)
class Work:
    """One graph to run; ``shape`` is that of the inputs (rows, channels, steps)."""

    file: str
    kind: str
    precision: str
    form: str
    shape: tuple[int, ...]
    input: str
    outputs: tuple[str, ...]
    states: tuple[dict[str, Any], ...]


def main() -> None:
    """Install, run, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("runtimes", nargs="+", help="as pip or npm takes them: openvino, onnxruntime==1.18.1")
    parser.add_argument("--python", default=sys.executable, help="the Python of the virtual environments")
    arguments = parser.parse_args()
    bundle = open_bundle(arguments.bundle)
    steps = min([STEPS, *(q.calibrated_steps or STEPS for q in bundle.manifest.quantization.values())])
    x = np.ascontiguousarray(bundle.golden().inputs[..., :steps])
    wanted = {
        (kind, precision): reference(bundle, kind, precision, x)
        for kind in ("full", "step")
        for precision in bundle.manifest.graphs["step"]
    }
    columns = list(wanted)
    print("| runtime | opset |", " | ".join(f"{kind} {precision}" for kind, precision in columns), "|")
    print("| --- | --- |", " | ".join("---:" for _ in columns), "|")
    refusals: list[str] = []
    for requirement in arguments.runtimes:
        with tempfile.TemporaryDirectory() as name:
            command, version = install(requirement, Path(name), arguments.python)
            package = requirement.partition("==")[0]
            for way in _WAYS.get(package, (package,)):
                for form in bundle.manifest.by_form:
                    cells = []
                    for kind, precision in columns:
                        work = work_of(bundle, form, kind, precision, x.shape)
                        found = run([*command, way], work, x, wanted[kind, precision], Path(name))
                        if isinstance(found, str):
                            refusals.append(f"{way} {version}, {Path(work.file).name}: {found}")
                            cells.append("-")
                        else:
                            wrong = not found <= LIMITS[precision]
                            cells.append(f"**{found:.0e}**" if wrong else f"{found:.0e}")
                    if set(cells) != {"-"}:
                        opset = form.removeprefix("opset")
                        print(f"| {way} {version} | {opset} |", " | ".join(cells), "|", flush=True)
    print("\n" + "\n".join(refusals), file=sys.stderr)


def reference(bundle: Bundle, kind: str, precision: str, x: NDArray[Any]) -> NDArray[Any]:
    """The right outputs: (rows, outputs) of the full graph, (steps, rows, outputs) of the step graph."""
    if precision == "int8":
        stream = bundle.stream(len(x), backend="native", precision=precision)
        steps = stream.run(x)
    else:
        steps = bundle.golden().stepwise[..., : x.shape[-1]]
    # Without a window, the mean of the whole sequence is the stream's last output.
    return steps[..., -1] if kind == "full" else np.moveaxis(steps, -1, 0)


def work_of(bundle: Bundle, form: str, kind: str, precision: str, shape: tuple[int, ...]) -> Work:
    """A description that a worker understands."""
    spec = bundle.manifest.in_form(form).graph(kind, precision)
    states = tuple(
        {"input": s.input, "output": s.output, "dtype": s.dtype, "shape": list(s.shape)} for s in spec.states
    )
    outputs = (spec.outputs[0].name, *(state.output for state in spec.states))
    file = str((bundle.path / spec.file).resolve())
    return Work(file, kind, precision, form, shape, spec.inputs[0].name, outputs, states)


def install(requirement: str, folder: Path, python: str) -> tuple[list[str], str]:
    """Install a runtime into a folder. Returns the start of the worker's command, and the version."""
    package, _, version = requirement.partition("==")
    if package in _JAVASCRIPT:
        npm = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run([*npm, requirement.replace("==", "@")], cwd=folder, check=True)
        installed = json.loads((folder / "node_modules" / package / "package.json").read_text())["version"]
        return ["node", str(HERE / "worker.mjs")], installed
    if python == sys.executable:
        venv.create(folder / "venv", with_pip=True)
    else:
        subprocess.run([python, "-m", "venv", folder / "venv"], check=True)
    interpreter = str(folder / "venv" / "bin" / "python")
    # Before 1.19, ONNX Runtime was built for numpy 1.
    old = package == "onnxruntime" and version and tuple(map(int, version.split(".")[:2])) < (1, 19)
    wanted = [requirement, "numpy<2" if old else "numpy", *_WITH.get(package, [])]
    pip = [interpreter, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *wanted]
    subprocess.run(pip, check=True, stderr=subprocess.DEVNULL)
    ask = f"from importlib.metadata import version; print(version({package!r}))"
    installed = subprocess.run([interpreter, "-c", ask], check=True, capture_output=True, text=True).stdout
    return [interpreter, str(HERE / "worker.py")], installed.strip()


def run(
    command: Sequence[str], work: Work, x: NDArray[Any], wanted: NDArray[Any], folder: Path
) -> float | str:
    """The largest difference of a graph in a process of its own, or why it did not run."""
    for name in ("work.json", "x.bin", "y.bin"):
        (folder / name).unlink(missing_ok=True)
    (folder / "work.json").write_text(json.dumps(asdict(work)))
    x.tofile(folder / "x.bin")
    try:
        ran = subprocess.run(
            [*command, "work.json", "x.bin", "y.bin"],
            cwd=folder, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "timed out"
    if ran.returncode != 0 or not (folder / "y.bin").is_file():
        lines = [line for line in (ran.stderr + ran.stdout).splitlines() if line.strip()]
        return f"exit code {ran.returncode}: {' / '.join(lines[-3:])[-300:]}"
    y = np.fromfile(folder / "y.bin", np.float32).reshape(wanted.shape)
    error = np.abs(y - wanted) / np.maximum(1, np.abs(wanted))
    return float(error.max()) if np.isfinite(error).all() else float("nan")


if __name__ == "__main__":
    main()
