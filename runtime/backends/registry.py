"""The backends by name, and the choice between them."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from multires_edge.base.errors import BackendError

if TYPE_CHECKING:
    from multires_edge.format.manifest import Manifest
    from multires_edge.runtime.backends.protocol import Backend, Runner, RunOptions, Stepper

# The class of each backend. Its module is imported when the backend is used.
_CLASSES = {
    "native": "multires_edge.runtime.backends.native:NativeBackend",
    "onnxruntime": "multires_edge.runtime.backends.onnxruntime:OnnxRuntimeBackend",
    "cuda": "multires_edge.runtime.backends.cuda.backend:CudaBackend",
    "tensorrt": "multires_edge.runtime.backends.tensorrt.opening:TensorRtBackend",
}
ENTRY_POINTS = "multires_edge.backends"  # the group in which other packages register backends


class FixedPoolingError(BackendError):
    """A backend that cannot change the pooling was given another pooling than the bundle's."""


def backend_names() -> list[str]:
    """The names of all backends: those of this package, then those of other packages."""
    return list(_CLASSES | _added())


def backend_named(name: str) -> Backend:
    """Look up a backend. Raises BackendError with all names if it is unknown."""
    where = _CLASSES.get(name) or _added().get(name)
    if where is None:
        raise BackendError(f"unknown backend {name!r}; expected auto or {', '.join(backend_names())}")
    module, _, attribute = where.partition(":")
    try:
        backend: Backend = getattr(import_module(module), attribute)()
    except (ImportError, AttributeError) as error:
        raise BackendError(f"backend {name!r}: {where} cannot be imported ({error})") from error
    return backend


def make_stepper(
    backend: str | Backend, folder: Path, manifest: Manifest, batch: int, options: RunOptions
) -> Stepper:
    """Make the stepper of a backend, or of the backend of that name.

    "auto" is the native engine if it supports the options and the bundle has its weights, else ONNX Runtime.
    Raises BackendError if the backend is unknown or does not support the options.
    """
    if backend == "auto":
        native = backend_named("native")
        suits = native.refusal(options) is None and options.precision in native.precisions(folder, manifest)
        backend = "native" if suits else "onnxruntime"
    chosen = backend_named(backend) if isinstance(backend, str) else backend
    _check_options(chosen, options)
    if options.pooling is not None and not chosen.changes_pooling:
        able = [each for each in map(backend_named, backend_names()) if each.changes_pooling]
        able = [each for each in able if options.precision in each.precisions(folder, manifest)]
        able = [each for each in able if each.unable(folder, manifest) is None]
        instead = f", or use backend {' or '.join(each.name for each in able)}" if able else ""
        raise FixedPoolingError(
            f"the {chosen.name} backend cannot change the bundle's pooling {manifest.pooling}; export the "
            f"bundle with --pool {options.pooling}{instead}"
        )
    return chosen.make_stepper(folder, manifest, batch, options)


def make_runner(backend: str | Backend, folder: Path, manifest: Manifest, options: RunOptions) -> Runner:
    """Make the runner of a backend, or of the backend of that name.

    "auto" is ONNX Runtime. If it is not installed, or too old for the bundle's graphs, "auto" is the native
    engine, where the bundle has its weights.
    Raises BackendError if the backend is unknown or does not support the options.
    """
    if backend == "auto":
        native = (
            options.provider is None and backend_named("onnxruntime").unable(folder, manifest) is not None
        )
        native = native and options.precision in backend_named("native").precisions(folder, manifest)
        backend = "native" if native else "onnxruntime"
    chosen = backend_named(backend) if isinstance(backend, str) else backend
    if not chosen.whole_sequences:
        whole = ", ".join(name for name in backend_names() if backend_named(name).whole_sequences)
        raise BackendError(f"backend {chosen.name!r} runs only streams; whole sequences need one of {whole}")
    _check_options(chosen, options)
    return chosen.make_runner(folder, manifest, options)


def _check_options(backend: Backend, options: RunOptions) -> None:
    if options.provider_options and options.provider is None:
        raise BackendError("provider_options were given without a provider; give provider too")
    refusal = backend.refusal(options)
    if refusal is not None:
        raise BackendError(refusal)


def _added() -> dict[str, str]:
    """The classes that other packages register, by the backend's name."""
    from importlib.metadata import entry_points

    return {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
