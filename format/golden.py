"""``golden.npz``: inputs, and their outputs by the float64 reference in PyTorch.

With them any machine can check a bundle without PyTorch. Arrays: ``x`` float32 (rows, d_input, time) or
``tokens`` int64 (rows, time); ``stepwise`` float64 (rows, d_output, time), the outputs of a stream at each
step; ``full`` float64, the outputs of the full graph.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import BundleError
from multires_edge.format.arrays import check_array, check_inputs, npz_bytes, read_npz
from multires_edge.format.config import ModelConfig
from multires_edge.format.pooling import Pooling

GOLDEN_FILE = "golden.npz"


@contextlib.contextmanager
def golden_errors(path: Path, exported: str) -> Iterator[None]:
    """Raise a BundleError for a file that misses an array or cannot be read, and say what to export again."""
    try:
        yield
    except KeyError as error:
        raise BundleError(f"{path}: has no {error}; export the {exported} again") from error
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: cannot be read ({error}); export the {exported} again") from error


@dataclass(frozen=True)
class Golden:
    """Recorded inputs and reference outputs; ``full`` is None if it is not known."""

    inputs: NDArray[Any]
    stepwise: NDArray[np.float64]
    full: NDArray[np.float64] | None

    def first(self, steps: int, pooling: Pooling | None) -> Golden:
        """The first steps only. ``pooling`` is the model's; None if it does not pool."""
        if steps >= self.inputs.shape[-1]:
            return self
        stepwise = self.stepwise[..., :steps]
        full: NDArray[np.float64] | None
        if pooling is None:
            # A full graph may shift its input by one. Then its outputs are not those of a stream.
            full = None if self.full is None else self.full[..., :steps]
        else:
            full = stepwise[..., -1] if pooling.equals_full(steps) else None
        return Golden(np.ascontiguousarray(self.inputs[..., :steps]), stepwise, full)

    def save(self, path: Path) -> None:
        name = "x" if self.inputs.dtype.kind == "f" else "tokens"
        arrays: dict[str, Any] = {name: self.inputs, "stepwise": self.stepwise, "full": self.full}
        path.write_bytes(npz_bytes(**arrays))

    @classmethod
    def parse(cls, content: bytes, path: Path, model: ModelConfig) -> Golden:
        """Read the content of a file, and check that it is for a network. Raises BundleError."""
        with golden_errors(path, "checkpoint"):
            arrays = read_npz(io.BytesIO(content))
            golden = cls(
                arrays["x" if model.encoder == "linear" else "tokens"], arrays["stepwise"], arrays["full"]
            )
            golden._check(model)
        return golden

    def _check(self, model: ModelConfig) -> None:
        rows, steps, float64 = len(self.inputs), self.inputs.shape[-1], np.dtype(np.float64)
        check_inputs(self.inputs, model, rows, steps)
        check_array(self.stepwise, "stepwise", float64, (rows, model.d_output, steps))
        time = (steps,) if model.per_step else ()
        check_array(self.full, "full", float64, (rows, model.d_output, *time))
