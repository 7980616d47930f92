"""The backends by name, and the choice between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from multires_edge.base.errors import BackendError
from multires_edge.format.manifest import Manifest
from multires_edge.format.pooling import Pooling
from multires_edge.runtime.backends.protocol import Runner, Stepper

BACKENDS = ("native", "onnxruntime")
STREAM_BACKENDS = (*BACKENDS, "tensorrt")


def installed_backends() -> list[str]:
    """Those that this installation can run."""
    found = {
        "native": find_spec("multires_edge.runtime.backends._native"),
        "onnxruntime": find_spec("onnxruntime"),
    }
    return [name for name in BACKENDS if found[name] is not None]


def make_stepper(
    backend: str,
    folder: Path,
    manifest: Manifest,
    precision: str,
    batch: int,
    threads: int,
    provider: str | None,
    provider_options: Mapping[str, str] | None = None,
    pooling: Pooling | None = None,
) -> Stepper:
    """Make the stepper of a backend; "auto" is native, unless threads or a provider are asked for.

    ``pooling`` is another than the bundle's, which only the native backend can give.
    Raises BackendError for one that is not here.
    """
    _check_name(backend, STREAM_BACKENDS)
    _check_options(provider, provider_options)
    plain = threads == 1 and provider is None
    if backend == "native" or (backend == "auto" and plain and precision in manifest.native):
        if not plain:
            raise BackendError(
                "the native backend runs a stream on one thread of the CPU, without a provider"
            )
        from multires_edge.runtime.backends.native import NativeStepper

        return NativeStepper(folder / _native_file(manifest, precision), batch, pooling)
    if pooling is not None:
        raise BackendError(
            f"the step graph pools {manifest.pooling}, and only the native backend can change that; export "
            f"the bundle with --pool {pooling}, or use backend native"
        )
    if backend == "tensorrt":
        if not plain:
            raise BackendError(
                "the tensorrt backend runs on the first device of CUDA_VISIBLE_DEVICES, without threads or a "
                "provider"
            )
        from multires_edge.runtime.backends.tensorrt.opening import open_stepper

        return open_stepper(folder, manifest, precision, batch)
    from multires_edge.runtime.backends.onnxruntime import OnnxRuntimeStepper, in_runnable_form

    manifest = in_runnable_form(manifest)
    spec = manifest.graph("step", precision)
    n_tokens = manifest.model.n_tokens
    return OnnxRuntimeStepper(folder / spec.file, spec, batch, threads, provider, provider_options, n_tokens)


def make_runner(
    backend: str,
    folder: Path,
    manifest: Manifest,
    precision: str,
    threads: int | None,
    provider: str | None,
    provider_options: Mapping[str, str] | None = None,
) -> Runner:
    """Make the runner of a backend; "auto" is ONNX Runtime, or native where that is not installed.

    Raises BackendError for one that is not here.
    """
    _check_name(backend, BACKENDS)
    _check_options(provider, provider_options)
    if backend == "auto" and "onnxruntime" not in installed_backends() and provider is None:
        backend = "native"
    if backend == "native":
        if provider is not None or threads not in (None, 1):
            raise BackendError("the native backend runs on one thread of the CPU, without a provider")
        from multires_edge.runtime.backends.native import NativeRunner

        return NativeRunner(folder / _native_file(manifest, precision), manifest)
    from multires_edge.runtime.backends.onnxruntime import OnnxRuntimeRunner, in_runnable_form

    manifest = in_runnable_form(manifest)
    spec = manifest.graph("full", precision)
    return OnnxRuntimeRunner(folder / spec.file, spec, threads, provider, provider_options)


def _native_file(manifest: Manifest, precision: str) -> str:
    if precision not in manifest.native:
        has = ", ".join(manifest.native) or "none"
        raise BackendError(f"the bundle has no native weights in {precision!r}; it has: {has}")
    return manifest.native[precision].file


def _check_options(provider: str | None, provider_options: Mapping[str, str] | None) -> None:
    if provider_options and provider is None:
        raise BackendError("provider_options are given without a provider; give provider too")


def _check_name(backend: str, known: Sequence[str]) -> None:
    if backend in ("auto", *known):
        return
    if backend in STREAM_BACKENDS:
        raise BackendError(f"backend {backend!r} runs streams; a whole sequence takes {', '.join(known)}")
    raise BackendError(f"backend {backend!r} is not in this release; expected auto or {', '.join(known)}")
