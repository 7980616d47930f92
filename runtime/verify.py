"""Compare a bundle with its own recorded reference, on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from multires_edge.base.errors import BackendError
from multires_edge.format.comparison import Check
from multires_edge.format.golden import Golden
from multires_edge.format.module import ModuleConfig
from multires_edge.runtime.backends.protocol import Backend
from multires_edge.runtime.backends.registry import backend_named, backend_names
from multires_edge.runtime.backends.tensorrt.host import TapsOnHost
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.state import StreamState
from multires_edge.runtime.stream import Stream
from multires_edge.runtime.verify_module import verify_module


def checked_backends(bundle: Bundle, precision: str, *, graphs_only: bool = False) -> list[Backend]:
    """The backends that check a bundle in one precision: first those that run its graphs, then the others."""
    known = [*map(backend_named, backend_names()), TapsOnHost()]
    able = [
        backend
        for backend in known
        if backend.checked_as
        and (backend.runs_graphs or not graphs_only)
        and precision in backend.precisions(bundle.path, bundle.manifest)
    ]
    return sorted(able, key=lambda backend: not backend.runs_graphs)


def verify_bundle(bundle: Bundle, skip: Callable[[str, str], object] = lambda what, why: None) -> list[Check]:
    """Compare a bundle's outputs for its recorded inputs with the recorded reference.

    It runs every form and precision by every backend that can run it here; :func:`unchecked_files` has the
    rest. ``skip`` gets what a GPU does not take, and why: another program may have all of it.
    """
    own = isinstance(bundle.manifest.network, ModuleConfig)
    whole = None if own else bundle.golden()
    checks = []
    for form in bundle.manifest.by_form:
        first = form == bundle.manifest.form
        # Backends with weights of their own do not depend on the form of the graphs.
        prefix = "" if first else f"{form}, "
        of_form = _of_one_form(bundle, form)
        if whole is not None:
            checks += _verify_form(of_form, whole, prefix, skip, graphs_only=not first)
        elif backend_named("onnxruntime").unable(of_form.path, of_form.manifest) is None:
            checks += verify_module(of_form, prefix, partial(_able_backends, of_form))
    return checks


def _able_backends(bundle: Bundle, precision: str, *, graphs_only: bool = False) -> list[Backend]:
    """The backends that check a bundle in one precision, and that can run it here."""
    backends = checked_backends(bundle, precision, graphs_only=graphs_only)
    return [backend for backend in backends if backend.unable(bundle.path, bundle.manifest) is None]


def unchecked_files(bundle: Bundle) -> dict[str, str]:
    """The graphs and native weights that nothing can run here, each with the reason."""
    found: dict[str, str] = {}
    onnxruntime, native = backend_named("onnxruntime"), backend_named("native")
    for form in bundle.manifest.by_form:
        manifest = _of_one_form(bundle, form).manifest
        if (reason := onnxruntime.unable(bundle.path, manifest)) is not None:
            found |= {spec.file: reason for *_, spec in manifest.every_graph()}
    if (reason := native.unable(bundle.path, bundle.manifest)) is not None:
        found |= {weights.file: reason for weights in bundle.manifest.native.values()}
    return found


def _of_one_form(bundle: Bundle, form: str) -> Bundle:
    """The bundle as if it had no graphs of other forms: a backend must not choose among them."""
    return Bundle(bundle.path, replace(bundle.manifest.in_form(form), forms={}))


def _verify_form(
    bundle: Bundle, whole: Golden, form: str, skip: Callable[[str, str], object], *, graphs_only: bool
) -> list[Check]:
    checks = []
    for precision in bundle.manifest.graphs["full"]:
        backends = _able_backends(bundle, precision, graphs_only=graphs_only)
        prefix = form if precision == "fp32" else f"{form}{precision}: "
        calibrated = bundle.manifest.calibrated_steps(precision)
        golden = whole if calibrated is None else whole.first(calibrated, bundle.manifest.pooling)
        rows, steps = golden.inputs.shape[0], golden.inputs.shape[-1]
        if golden.full is not None and any(backend.name == "onnxruntime" for backend in backends):
            full = Check(f"{prefix}full graph", "full", f"{rows} rows of {steps} steps", precision)
            runner = bundle.full(backend="onnxruntime", precision=precision)
            full.compare(runner(golden.inputs), golden.full)
            checks.append(full)
        for backend in backends:
            what = f"{prefix}{backend.checked_as}"
            try:
                stream = bundle.stream(rows, backend=backend, precision=precision)
            except BackendError as error:
                if not backend.needs_gpu:
                    raise
                skip(what, str(error))
                continue
            checks += _verify_streams(bundle, golden, stream, backend, what, precision)
    return checks


def _verify_streams(
    bundle: Bundle, golden: Golden, stream: Stream, backend: Backend, what: str, precision: str
) -> list[Check]:
    rows, steps = golden.inputs.shape[0], golden.inputs.shape[-1]
    step = Check(f"{what}, every prefix", "step", f"{rows} rows of {steps} steps", precision)
    half = steps // 2
    step.compare(stream.run(golden.inputs[..., :half]), golden.stepwise[..., :half], over_time=True)
    saved = stream.save_state().to_bytes()
    late = golden.stepwise[..., half:]
    step.compare(stream.run(golden.inputs[..., half:]), late, start=half, over_time=True)

    resumed = Check(f"{what}, resumed", "step", f"saved and loaded at step {half}", precision)
    other = bundle.stream(rows, backend=backend, precision=precision)
    other.load_state(StreamState.from_bytes(saved))
    resumed.compare(other.run(golden.inputs[..., half:]), late, start=half, over_time=True)

    restarted = Check(f"{what}, one row restarted", "step", "the other rows continue", precision)
    last = rows - 1
    stream.reset(rows=[last])
    restarted.compare(
        stream.run(golden.inputs[..., :half])[last], golden.stepwise[last][:, :half], over_time=True
    )
    return [step, resumed, restarted]
