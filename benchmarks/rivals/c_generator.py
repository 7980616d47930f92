"""emx-onnx-cgen: our step graph as one C function, by a generator that knows nothing of rings."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.rivals.fixed_shape import dtype_of, shape_of, with_fixed_shape


class GeneratedC:
    """That function, compiled for this CPU; it reads one set of states and writes the other, in turn."""

    def __init__(self, step_graph: Path, folder: Path) -> None:
        graph = with_fixed_shape(step_graph, folder / "fixed.onnx").graph
        self._function = _compiled(folder / "fixed.onnx")
        _, *states = graph.input
        logits, *new_states = graph.output
        self._x = np.zeros(shape_of(graph.input[0]), np.float32)
        self._logits = np.zeros(shape_of(logits), np.float32)
        first, second = ({state.name: _zeros(state) for state in states} for _ in range(2))
        names = [state.name for state in states]
        new_names = [state.name.removeprefix("next_") for state in new_states]
        # Arrays are kept by the tuples below; ctypes keeps only addresses.
        self._turns = [
            [self._x, *(old[name] for name in names), self._logits, *(new[name] for name in new_names)]
            for old, new in ((first, second), (second, first))
        ]
        self._arguments = [[array.ctypes.data_as(ctypes.c_void_p) for array in turn] for turn in self._turns]
        self._turn = 0

    def step(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Feed one sample (1, d_input); logits (1, d_output)."""
        self._x[...] = x
        self._function(*self._arguments[self._turn])
        self._turn = 1 - self._turn
        return self._logits.copy()


def _zeros(value: onnx.ValueInfoProto) -> NDArray[np.generic]:
    return np.zeros(shape_of(value), dtype_of(value))


def _compiled(graph: Path) -> ctypes._NamedFuncPointer:
    """The generated function ``model``: pointers to all inputs, then to all outputs."""
    source, library = graph.with_suffix(".c"), graph.with_suffix(".so")
    generator = [sys.executable, "-m", "emx_onnx_cgen", "compile", str(graph), str(source)]
    # Weights and intermediate values in the program: no file to read, no allocation in a step.
    generator += ["--large-weight-threshold", "0", "--large-temp-threshold", "0"]
    subprocess.run(generator, check=True, stdout=subprocess.DEVNULL)
    compiler = [os.environ.get("CC", "cc"), "-O3", "-march=native", "-shared", "-fPIC"]
    # Sums may be reordered, as in every other candidate; NaN and infinity keep their meaning.
    compiler += ["-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"]
    subprocess.run([*compiler, str(source), "-o", str(library), "-lm"], check=True)
    function = ctypes.CDLL(str(library)).model
    function.restype = None
    return function
