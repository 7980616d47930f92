"""A bundle's native weights, which the backends ``native`` and ``cuda`` run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from multires_edge.base.errors import BackendError, BundleError
from multires_edge.format.manifest import Manifest
from multires_edge.format.module import ModuleConfig
from multires_edge.format.native import FRAME_KEYS, frame_metadata
from multires_edge.format.pooling import Pooling
from multires_edge.format.reading import step_states
from multires_edge.format.specs import StateSpec, concrete
from multires_edge.runtime.bundle_files import read_file

_SIZES = ("d_input", "n_tokens", "d_output", "d_model", "n_layers", "kernel_size", "depth")


def read_weights(folder: Path, manifest: Manifest, precision: str) -> tuple[bytes, Path]:
    """The content and the path of a weights file.

    Raises BackendError if the bundle has none that backends can run, BundleError if the file has changed.
    """
    pooling = manifest.pooling
    if pooling is not None and pooling.native_window is None:
        raise BackendError(f"the native engine does not support pool {pooling}; use backend onnxruntime")
    if isinstance(network := manifest.network, ModuleConfig):
        raise BackendError(
            f"this needs native weights, which MultiresNets have, and {network.module} is none: "
            f"{network.unmatched}. Stream it by backend onnxruntime, native or tensorrt"
        )
    if precision not in manifest.native:
        has = ", ".join(manifest.native) or "none"
        raise BackendError(f"the bundle has no native weights in {precision!r}; it has: {has}")
    file = manifest.native[precision]
    return read_file(folder, file.file, file.sha256), folder / file.file


def check_metadata(
    metadata: Callable[[str], str | None], path: Path, manifest: Manifest, precision: str
) -> None:
    """Raise BundleError unless the metadata of a weights file are those of the manifest's network."""
    for key, wanted in _expected_metadata(manifest, precision).items():
        if (found := metadata(key)) != wanted:
            raise BundleError(
                f"{path} does not fit the manifest: its {key} is {found}, expected {wanted}; export the "
                "checkpoint again"
            )


def check_states(
    found: Mapping[str, tuple[DTypeLike, tuple[int, ...]]],
    path: Path,
    states: Sequence[StateSpec],
    batch: int,
) -> None:
    """Raise BundleError unless the weights of a file make the states of the step graph."""
    for state in states:
        if state.input not in found:
            raise BundleError(
                f"{path} does not fit the manifest: it has no {state.input}; export the checkpoint again"
            )
        (dtype, shape), expected = found[state.input], concrete(state.shape, batch)
        if shape != expected or np.dtype(dtype) != np.dtype(state.dtype):
            raise BundleError(
                f"{path} does not fit the manifest: its {state.input} is {np.dtype(dtype)} {shape}, expected "
                f"{state.dtype} {expected}; export the checkpoint again"
            )


def states_of(manifest: Manifest, precision: str, pooling: Pooling | None = None) -> Sequence[StateSpec]:
    """The states of the streams of a bundle, perhaps with another pooling."""
    states = manifest.graph("step", precision).states
    if pooling is None:
        return states
    queues = next(state.dtype for state in states if state.scale is not None)
    return step_states(manifest.model, pooling, queues)


def window_of(pooling: Pooling) -> int:
    """The window of a pooling in steps, 0 for everything so far. Raises BackendError for another kind."""
    if pooling.native_window is None:
        raise BackendError(
            f"the native engine does not support pool {pooling}; export the bundle with --pool {pooling} and "
            "use backend onnxruntime"
        )
    return pooling.native_window


def _expected_metadata(manifest: Manifest, precision: str) -> dict[str, str | None]:
    """What the weights file of a manifest's network says of itself."""
    model = manifest.model
    sizes = {size: getattr(model, size) or 0 for size in _SIZES}
    queues = next(state.dtype for state in states_of(manifest, precision) if state.scale is not None)
    texts = {key: str(value) for key, value in sizes.items()}
    frame = dict.fromkeys(FRAME_KEYS) | frame_metadata(model, manifest.pooling)
    return {**texts, **frame, "precision": precision, "queues": queues}
