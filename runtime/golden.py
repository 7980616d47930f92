"""``golden.npz``: inputs with the outputs that the float64 reference gave for them.

They let any machine prove a bundle against PyTorch without PyTorch. Arrays: ``x`` float32
(rows, d_input, time) or ``tokens`` int64 (rows, time); ``stepwise`` float64 (rows, d_output, time),
what a stream must give at each step; ``full`` float64, what the full graph must give.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.runtime.backends import installed_backends
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.comparison import LIMITS, Check
from multires_edge.runtime.errors import BundleError
from multires_edge.runtime.state import StreamState
from multires_edge.runtime.stream import Stream
from multires_edge.runtime.window import window_of

FILE_NAME = "golden.npz"
TAPS = "taps"  # beside the backends: the taps graph on the host, rings around it


@dataclass(frozen=True)
class Golden:
    """Recorded inputs and reference outputs; ``full`` is None where it is not known."""

    inputs: NDArray[Any]
    stepwise: NDArray[np.float64]
    full: NDArray[np.float64] | None

    def first(self, steps: int, pool: str | None) -> Golden:
        """Only the first steps, of a model that pools so."""
        if steps >= self.inputs.shape[-1]:
            return self
        stepwise = self.stepwise[..., :steps]
        full: NDArray[np.float64] | None
        if pool is None:
            # Shifted by one inside, so not what a stream gives for the same input.
            full = None if self.full is None else self.full[..., :steps]
        elif (window_of(pool) or steps) < steps:
            full = None
        else:
            full = stepwise[..., -1]  # a stream's logits, until its window is shorter than the sequence
        return Golden(np.ascontiguousarray(self.inputs[..., :steps]), stepwise, full)

    def save(self, path: Path) -> None:
        name = "x" if self.inputs.dtype.kind == "f" else "tokens"
        arrays: dict[str, Any] = {name: self.inputs, "stepwise": self.stepwise, "full": self.full}
        np.savez_compressed(path, **arrays)

    @classmethod
    def load(cls, path: Path) -> Golden:
        """Read the file. Raises BundleError."""
        try:
            with np.load(path, allow_pickle=False) as file:
                inputs = file["x"] if "x" in file.files else file["tokens"]
                return cls(inputs, file["stepwise"], file["full"])
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise BundleError(f"{path}: cannot be read ({error})") from error


def verify_bundle(bundle: Bundle) -> list[Check]:
    """Run a bundle on its recorded inputs, in every form and precision and by every backend that is here,
    and compare with the recorded reference."""
    whole = Golden.load(bundle.path / FILE_NAME)
    further = bundle.manifest.form_names()[1:]
    checks = _verify_form(bundle, whole, installed_backends(), "")
    for form in further:
        if "onnxruntime" in installed_backends():
            checks += _verify_form(bundle.in_form(form), whole, ["onnxruntime"], f"{form}, ")
    return checks


def _verify_form(bundle: Bundle, whole: Golden, installed: list[str], form: str) -> list[Check]:
    checks = []
    for precision in bundle.manifest.graphs["full"]:
        usable = [name for name in installed if name != "native" or precision in bundle.manifest.native]
        if not usable:
            continue  # a device without ONNX Runtime has the native engine's precisions only
        prefix = form if precision == "fp32" else f"{form}{precision}: "
        calibrated = bundle.manifest.calibrated_steps(precision)
        golden = whole if calibrated is None else whole.first(calibrated, bundle.manifest.pool)
        rows, steps = golden.inputs.shape[0], golden.inputs.shape[-1]
        if golden.full is not None:
            full = Check(f"{prefix}full graph", "full", f"{rows} rows of {steps} steps", LIMITS[precision])
            full.compare(bundle.full(precision=precision)(golden.inputs), golden.full)
            checks.append(full)
        if "onnxruntime" in usable and precision in bundle.manifest.graphs.get("taps", {}):
            usable.append(TAPS)
        for backend, what in (
            ("onnxruntime", "step graph"),
            (TAPS, "taps graph"),
            ("native", "native engine"),
        ):
            if backend in usable:
                checks += _verify_streams(bundle, golden, backend, f"{prefix}{what}", precision)
    return checks


def open_stream(bundle: Bundle, rows: int, backend: str, precision: str) -> Stream:
    """A stream of a backend, or of the taps graph as the TensorRT backend runs it, on the host."""
    if backend != TAPS:
        return bundle.stream(rows, backend=backend, precision=precision)
    from multires_edge.runtime.tensorrt.host import host_stepper

    stepper = host_stepper(bundle.path, bundle.manifest, TAPS, precision, rows)
    return bundle.stream_of(stepper, rows, precision)


def _verify_streams(bundle: Bundle, golden: Golden, backend: str, what: str, precision: str) -> list[Check]:
    limit = LIMITS[precision]
    rows, steps = golden.inputs.shape[0], golden.inputs.shape[-1]
    stream = open_stream(bundle, rows, backend, precision)
    step = Check(f"{what}, every prefix", "step", f"{rows} rows of {steps} steps", limit)
    half = steps // 2
    step.compare(stream.run(golden.inputs[..., :half]), golden.stepwise[..., :half], over_time=True)
    saved = stream.save_state().to_bytes()
    late = golden.stepwise[..., half:]
    step.compare(stream.run(golden.inputs[..., half:]), late, start=half, over_time=True)

    resumed = Check(f"{what}, resumed", "step", f"saved and loaded at step {half}", limit)
    other = open_stream(bundle, rows, backend, precision)
    other.load_state(StreamState.from_bytes(saved))
    resumed.compare(other.run(golden.inputs[..., half:]), late, start=half, over_time=True)

    restarted = Check(f"{what}, one row restarted", "step", "the other rows go on", limit)
    last = rows - 1
    stream.reset(rows=[last])
    restarted.compare(
        stream.run(golden.inputs[..., :half])[last], golden.stepwise[last][:, :half], over_time=True
    )
    return [step, resumed, restarted]
