"""The recorded inputs and outputs of a bundle as a C header, for the golden test."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.export.mcu.cpus import Cpu
from multires_edge.format.comparison import LIMITS, Limit
from multires_edge.runtime.bundle import Bundle

# The example's board has half a megabyte for program and data.
_MOST_BYTES = 160 << 10


def golden_data(bundle: Bundle, precision: str, cpu: Cpu) -> str:
    """The header: as many steps of each recorded stream as fit. Raises BundleError."""
    golden, limit = bundle.golden(), LIMITS[precision]
    inputs = golden.inputs if golden.inputs.ndim == 3 else golden.inputs[:, None]
    steps = inputs.shape[-1]
    steps = min(steps, bundle.manifest.calibrated_steps(precision) or steps)
    each = inputs[..., 0].nbytes + golden.stepwise[..., 0].nbytes
    steps = max(1, min(steps, _MOST_BYTES // each))
    return golden_header(inputs[..., :steps], golden.stepwise[..., :steps], limit, cpu)


def golden_header(inputs: NDArray[Any], outputs: NDArray[np.float64], limit: Limit, cpu: Cpu) -> str:
    """Inputs (rows, d_input, steps) or tokens (rows, 1, steps), and their outputs (rows, d_output, steps)."""
    rows, _, steps = inputs.shape
    kind = "float" if inputs.dtype == np.float32 else "int64_t"
    return (
        "/* Written by multires-edge: inputs, and the outputs of PyTorch in float64 for them. */\n"
        f"#define GOLDEN_ROWS {rows}\n#define GOLDEN_STEPS {steps}\n"
        f"#define GOLDEN_LIMIT {limit.value!r}\n"
        f"#define GOLDEN_MEAN {int(limit.measure == 'mean')} /* whether the limit is on the mean error */\n"
        f"#define NANOSECONDS_A_TICK {cpu.nanoseconds} /* of the timer on the emulated board */\n\n"
        f"static const {kind} golden_inputs[GOLDEN_ROWS][GOLDEN_STEPS][MULTIRES_INPUTS] = "
        f"{_initializer(inputs.swapaxes(1, 2))};\n"
        f"static const double golden_outputs[GOLDEN_ROWS][GOLDEN_STEPS][MULTIRES_OUTPUTS] = "
        f"{_initializer(outputs.swapaxes(1, 2))};\n"
    )


def _initializer(array: NDArray[Any]) -> str:
    if array.ndim > 1:
        return "{" + ",\n".join(_initializer(part) for part in array) + "}"
    exact = (value.hex() if isinstance(value, float) else str(value) for value in array.tolist())
    return "{" + ", ".join(exact) + "}"
