"""The backends by name, and the choice between them."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from multires_edge.base.errors import BackendError

if TYPE_CHECKING:
    from multires_edge.format.manifest import Manifest
    from multires_edge.runtime.backends.protocol import Backend, Runner, RunOptions, Stepper

# Where the class of each backend is. A module is imported when its backend is asked for.
_CLASSES = {
    "native": "multires_edge.runtime.backends.native:NativeBackend",
    "onnxruntime": "multires_edge.runtime.backends.onnxruntime:OnnxRuntimeBackend",
    "tensorrt": "multires_edge.runtime.backends.tensorrt.opening:TensorRtBackend",
}
ENTRY_POINTS = "multires_edge.backends"  # the group in which other packages add theirs, in the same way


class FixedPoolingError(BackendError):
    """Another pooling than the bundle's was asked of a backend that cannot change it."""


def backend_names() -> list[str]:
    """All names: those of this package, then those that other packages add."""
    return list(_CLASSES | _added())


def backend_named(name: str) -> Backend:
    """Look a backend up. Raises BackendError with the names that there are."""
    where = _CLASSES.get(name) or _added().get(name)
    if where is None:
        raise BackendError(f"unknown backend {name!r}; expected auto or {', '.join(backend_names())}")
    module, _, attribute = where.partition(":")
    try:
        backend: Backend = getattr(import_module(module), attribute)()
    except (ImportError, AttributeError) as error:
        raise BackendError(f"backend {name!r}: {where} cannot be imported ({error})") from error
    return backend


def whole_sequence_backends() -> list[str]:
    """The names of those that run whole sequences too."""
    return [name for name in backend_names() if backend_named(name).whole_sequences]


def make_stepper(
    backend: str | Backend, folder: Path, manifest: Manifest, batch: int, options: RunOptions
) -> Stepper:
    """Make the stepper of a backend, given or by its name.

    "auto" is the native engine where it takes the options and the bundle has its weights, else ONNX Runtime.
    Raises BackendError for a backend or options that cannot be.
    """
    if backend == "auto":
        native = backend_named("native")
        suits = native.refusal(options) is None and options.precision in native.precisions(folder, manifest)
        backend = "native" if suits else "onnxruntime"
    chosen = backend_named(backend) if isinstance(backend, str) else backend
    _check_options(chosen, options)
    if options.pooling is not None and not chosen.changes_pooling:
        able = [name for name in backend_names() if backend_named(name).changes_pooling]
        raise FixedPoolingError(
            f"the {chosen.name} backend cannot change the pooling, which is {manifest.pooling}; export the "
            f"bundle with --pool {options.pooling}, or use backend {' or '.join(able)}"
        )
    return chosen.make_stepper(folder, manifest, batch, options)


def make_runner(backend: str | Backend, folder: Path, manifest: Manifest, options: RunOptions) -> Runner:
    """Make the runner of a backend, given or by its name.

    "auto" is ONNX Runtime, or the native engine where ONNX Runtime is not installed.
    Raises BackendError for a backend or options that cannot be.
    """
    if backend == "auto":
        without = options.provider is None and backend_named("onnxruntime").missing() is not None
        backend = "native" if without else "onnxruntime"
    chosen = backend_named(backend) if isinstance(backend, str) else backend
    if not chosen.whole_sequences:
        whole = ", ".join(whole_sequence_backends())
        raise BackendError(f"backend {chosen.name!r} runs streams only; a whole sequence takes {whole}")
    _check_options(chosen, options)
    return chosen.make_runner(folder, manifest, options)


def _check_options(backend: Backend, options: RunOptions) -> None:
    if options.provider_options and options.provider is None:
        raise BackendError("provider_options are given without a provider; give provider too")
    refusal = backend.refusal(options)
    if refusal is not None:
        raise BackendError(refusal)


def _added() -> dict[str, str]:
    """Where the classes that other packages register are, by name."""
    from importlib.metadata import entry_points

    return {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
