"""ONNX Runtime's execution providers: their names and default options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from multires_edge.base.errors import BackendError
from multires_edge.base.installation import pip_install

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
SHORT_NAMES = {"cpu": CPU, "cuda": CUDA}
_EXTRAS = {CPU: "onnxruntime", CUDA: "gpu"}
_DEFAULTS = {CUDA: {"use_tf32": "0"}}  # TF32 rounds float32 factors to ten bits


def full_name(provider: str, available: Sequence[str], release: str) -> str:
    """ONNX Runtime's name of a provider. Raises BackendError with the available providers."""
    name = SHORT_NAMES.get(provider, provider)
    if name not in available:
        short = {full: short for short, full in SHORT_NAMES.items()}
        has = ", ".join(short.get(full, full) for full in available)
        install = f": {pip_install(_EXTRAS[name])}" if name in _EXTRAS else ""
        raise BackendError(
            f"provider {provider!r} is not in this onnxruntime {release}, which has only {has}{install}"
        )
    return name


def options_of(name: str, given: Mapping[str, str] | None) -> dict[str, str]:
    """The options of a provider: the given options, then the defaults."""
    return _DEFAULTS.get(name, {}) | dict(given or {})
