"""IREE: our graphs compiled for this CPU after its ONNX importer, on one thread."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import iree.compiler
import iree.runtime
import numpy as np
from numpy.typing import NDArray

from benchmarks.rivals.fixed_shape import dtype_of, shape_of, with_fixed_shape


class IreeFull:
    """The full graph at one fixed length."""

    def __init__(self, full_graph: Path, folder: Path, *, steps: int) -> None:
        with_fixed_shape(full_graph, folder / "fixed.onnx", steps=steps)
        self._function = _compiled(folder / "fixed.onnx")

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """x (1, d_input, steps) to logits (1, d_output)."""
        logits: NDArray[np.float32] = self._function(x).to_host()
        return logits


class IreeStep:
    """The step graph in opset 17, which IREE imports; the states stay in arrays of its own."""

    def __init__(self, step_graph: Path, folder: Path) -> None:
        graph = with_fixed_shape(step_graph, folder / "fixed.onnx").graph
        _, *states = graph.input
        _, *new_states = graph.output
        self._new_states = [state.name.removeprefix("next_") for state in new_states]
        self._function = _compiled(folder / "fixed.onnx")
        # In the order of the inputs, which is not that of the outputs.
        self._states: dict[str, Any] = {
            state.name: np.zeros(shape_of(state), dtype_of(state)) for state in states
        }

    def step(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Feed one sample (1, d_input); logits (1, d_output)."""
        logits, *states = self._function(x, *self._states.values())
        self._states.update(zip(self._new_states, states, strict=True))
        found: NDArray[np.float32] = logits.to_host()
        return found


def _compiled(graph: Path) -> Any:
    """The one function of a graph."""
    mlir = graph.with_suffix(".mlir")
    importer = [sys.executable, "-m", "iree.compiler.tools.import_onnx", str(graph), "-o", str(mlir)]
    subprocess.run(importer, check=True)
    binary = iree.compiler.compile_file(
        str(mlir),
        input_type="onnx",
        target_backends=["llvm-cpu"],
        extra_args=["--iree-llvmcpu-target-cpu=host"],
    )
    # "local-sync" computes on the calling thread.
    config = iree.runtime.Config("local-sync")
    module = iree.runtime.VmModule.copy_buffer(config.vm_instance, binary)
    (name,) = (name for name in module.function_names if not name.startswith("__") and "$" not in name)
    return iree.runtime.load_vm_module(module, config)[name]
