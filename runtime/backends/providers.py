"""ONNX Runtime's execution providers: which are here, their options, and the engines that they keep.

The TensorRT providers build an engine when a session is made. It is kept in the bundle's ``engines/``, as an
EP context (an ONNX file with the engine inside) where the shapes are known, so that the next session starts
at once. A folder of its own for each graph, provider, release and device makes that no stale one is taken.
"""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from multires_edge.base.errors import BackendError
from multires_edge.format.manifest import Manifest
from multires_edge.format.specs import GraphSpec
from multires_edge.format.targets import FIRST_ONNXRUNTIME, FORMS, Version
from multires_edge.runtime.backends.tensorrt.gpu import find_gpu

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "rtx": "NvTensorRTRTXExecutionProvider",
}
# What None means, the first that works. "tensorrt" is in every onnxruntime-gpu, with its libraries or
# without, and takes minutes for an engine: it is for those who ask.
BEST_FIRST = ("rtx", "cuda", "cpu")
# These bind no buffer as input and output at once (NVIDIA/TensorRT#4681).
COPIES_STATES = ("tensorrt", "rtx")
_INSTALL = {
    "cpu": "pip install 'multires-edge[onnxruntime]'",
    "cuda": "pip install 'multires-edge[gpu]'",
    "tensorrt": "pip install 'multires-edge[gpu]', and NVIDIA's TensorRT libraries",
    "rtx": "pip install onnxruntime-trt-rtx in the place of onnxruntime",
}


def check_provider(provider: str, available: Sequence[str], release: str) -> str:
    """ONNX Runtime's name of a provider. Raises BackendError with what this ONNX Runtime has."""
    if provider not in PROVIDERS:
        raise BackendError(f"provider is {provider!r}, expected one of {', '.join(PROVIDERS)}")
    if PROVIDERS[provider] not in available:
        has = [name for name, full in PROVIDERS.items() if full in available]
        raise BackendError(
            f"provider {provider!r} needs {PROVIDERS[provider]}, which this onnxruntime {release} does not "
            f"have (it has {', '.join(has)}): {_INSTALL[provider]}"
        )
    return PROVIDERS[provider]


def in_runnable_form(manifest: Manifest, kind: str, provider: str | None, release: Version) -> Manifest:
    """The manifest with the graphs first that a provider of this release of ONNX Runtime runs.

    Raises BackendError when the bundle has none for a provider that copies states.
    """
    copies = kind == "step" and provider in COPIES_STATES
    for form in manifest.form_names():
        if copies and form in FORMS and FORMS[form].queue_update != "ScatterND":
            continue
        if release >= FIRST_ONNXRUNTIME.get(form, (0,)):
            return manifest.in_form(form)
    if copies:
        raise BackendError(
            f"provider {provider!r} copies the queues of a step graph, and this bundle's graphs "
            f"({', '.join(manifest.form_names())}) update them in place: export it with --target cpu,portable"
        )
    return manifest  # what is wrong with it, loading says


@dataclass(frozen=True)
class EngineCache:
    """Where a provider keeps its engine of one graph; ``context`` is the EP context, once it is there."""

    folder: Path

    @property
    def context(self) -> Path:
        return self.folder / "context.onnx"

    @classmethod
    def of(cls, graph: Path, spec: GraphSpec, provider: str, release: str, batch: int | None) -> EngineCache:
        """The cache in a bundle. ``batch`` is that of a step graph, which is fixed."""
        gpu = find_gpu()
        device = "no-device" if gpu is None else re.sub(r"[^A-Za-z0-9]+", "-", gpu.name).strip("-")
        name = f"{spec.sha256[:16]}" + ("" if batch is None else f"-batch{batch}")
        return cls(graph.parent / "engines" / "onnxruntime" / f"{provider}-{release}-{device}" / name)

    def make(self) -> bool:
        """Make the folder; where that cannot be, engines are built anew each time, with a warning."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                return True
        except OSError as error:
            warnings.warn(
                f"{self.folder}: cannot be written ({error.strerror}), so the engine is not kept",
                stacklevel=2,
            )
            return False


def provider_options(
    provider: str, spec: GraphSpec, batch: int | None, cache: EngineCache | None
) -> dict[str, str]:
    """Options of a provider; every value is a string, as ONNX Runtime passes them on."""
    if provider == "cuda":
        return {"use_tf32": "0"}  # float32 means float32
    prefix = {"tensorrt": "trt", "rtx": "nv"}.get(provider)
    if prefix is None:
        return {}
    options: dict[str, str] = {}
    if batch is not None:
        shapes = _shapes(spec, batch)
        options |= {f"{prefix}_profile_{end}_shapes": shapes for end in ("min", "opt", "max")}
    if cache is not None and provider == "rtx":
        options["nv_runtime_cache_path"] = str(cache.folder)
    if cache is not None and provider == "tensorrt":
        options |= {"trt_timing_cache_enable": "1", "trt_timing_cache_path": str(cache.folder)}
        if not keeps_context(provider, batch):
            options |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(cache.folder)}
    return options


def keeps_context(provider: str, batch: int | None) -> bool:
    """Whether the engine is complete when a session is made. TensorRT's waits for shapes it is not told."""
    return provider == "rtx" or (provider == "tensorrt" and batch is not None)


def _shapes(spec: GraphSpec, batch: int) -> str:
    """The shapes of all inputs, as the TensorRT providers read them: x:1x12,queue_00:1x1x2x256."""
    inputs = [(tensor.name, tensor.shape) for tensor in spec.inputs]
    inputs += [(state.input, state.shape) for state in spec.states]
    texts = []
    for name, shape in inputs:
        sizes = [str(batch) if isinstance(size, str) else str(size) for size in shape]
        texts.append(f"{name}:{'x'.join(sizes)}")
    return ",".join(texts)
