"""Compare a bundle with its own recorded reference, on this machine."""

from __future__ import annotations

from multires_edge.format.comparison import LIMITS, Check
from multires_edge.format.golden import GOLDEN_FILE, Golden
from multires_edge.runtime.backends.registry import installed_backends
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.state import StreamState
from multires_edge.runtime.stream import Stream

TAPS = "taps"  # not a backend: the taps graph on the host, with its rings


def verify_bundle(bundle: Bundle) -> list[Check]:
    """Compare a bundle's outputs for its recorded inputs with the recorded reference.

    It runs every form and precision by every installed backend.
    """
    whole = Golden.load(bundle.path / GOLDEN_FILE)
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
            continue  # without ONNX Runtime, only precisions with native weights can run
        prefix = form if precision == "fp32" else f"{form}{precision}: "
        calibrated = bundle.manifest.calibrated_steps(precision)
        golden = whole if calibrated is None else whole.first(calibrated, bundle.manifest.pooling)
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
    """A stream of a backend, or of the taps graph in the TensorRT backend on the host."""
    if backend != TAPS:
        return bundle.stream(rows, backend=backend, precision=precision)
    from multires_edge.runtime.backends.tensorrt.host import host_stepper

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

    restarted = Check(f"{what}, one row restarted", "step", "the other rows continue", limit)
    last = rows - 1
    stream.reset(rows=[last])
    restarted.compare(
        stream.run(golden.inputs[..., :half])[last], golden.stepwise[last][:, :half], over_time=True
    )
    return [step, resumed, restarted]
