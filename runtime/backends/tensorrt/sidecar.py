"""The sidecar of an engine: which graph it was built from, by what, and where it runs (docs/tensorrt.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from multires_edge.base.errors import BackendError, BundleError
from multires_edge.format.fields import (
    Between,
    Count,
    Document,
    FileName,
    Line,
    Name,
    Natural,
    OneOf,
    Pattern,
    Sha256,
    Text,
)
from multires_edge.format.specs import Kind, Precision
from multires_edge.runtime.backends.device.gpu import Capability, Gpu


@dataclass(frozen=True)
class EngineBytes:
    """The engine file beside the sidecar."""

    file: FileName
    bytes: Natural
    sha256: Sha256


@dataclass(frozen=True)
class GraphBytes:
    """The graph of the bundle that an engine was built from."""

    kind: Kind
    precision: Precision
    form: Name
    file: FileName
    sha256: Sha256
    bytes: Natural


@dataclass(frozen=True)
class TensorRtRelease:
    """The package that built an engine."""

    package: Annotated[str, OneOf(("tensorrt", "tensorrt_rtx"))]
    version: Annotated[str, Pattern(r"[0-9]+(\.[0-9]+)*", "a version such as 10.3.0")]


@dataclass(frozen=True)
class Warned:
    """A warning, how often it was given, and its meaning (None if unknown)."""

    text: Text
    explanation: Text | None
    count: Count = 1

    def line(self) -> str:
        """The warning as one line of text."""
        times = f" ({self.count} times)" if self.count > 1 else ""
        return f"{self.text}{times}: {self.explanation or 'an unknown warning, please report it'}"


@dataclass(frozen=True)
class Sidecar:
    """``profile`` has MIN, OPT and MAX of batch and time. ``in_place`` has the states that the engine updates
    in place, input to output: both must have the same address."""  # fmt: skip

    engine: EngineBytes
    graph: GraphBytes
    source_sha256: Sha256
    target: Name
    tensorrt: TensorRtRelease
    device: Gpu | None
    compute_capabilities: tuple[Capability, ...]
    profile: dict[Annotated[str, OneOf(("batch", "time"))], tuple[Count, Count, Count]]
    in_place: dict[Name, Name]
    options: dict[Name, bool | int | Line]
    seconds: Annotated[float, Between(0, 1e9)]
    warnings: tuple[Warned, ...]
    tools: dict[Line, Line]

    def __post_init__(self) -> None:
        for name, sizes in self.profile.items():
            if list(sizes) != sorted(sizes):
                raise ValueError(f"profile.{name} is {list(sizes)}, expected MIN <= OPT <= MAX")
        sizes_of = {"batch", "time"} if self.graph.kind == "full" else {"batch"}
        if set(self.profile) != sizes_of or not self.compute_capabilities:
            needed = " and ".join(sorted(sizes_of))
            raise ValueError(f"profile needs {needed}, and compute_capabilities at least one")
        named = f"{self.graph.kind}.{self.graph.precision}.{self.target}.engine"
        if self.engine.file != named:
            raise ValueError(f"engine.file is {self.engine.file}, expected {named}")


SIDECAR = Document(
    "sidecar", "multires-engine", 1, Sidecar, BundleError, "build the engine again with --force"
)


def sidecar_path(engine: Path) -> Path:
    """The path of an engine's sidecar."""
    return engine.with_suffix(".json")


def read_sidecar(engine: Path) -> Sidecar:
    """Read an engine's sidecar. Raises BackendError if it is missing, BundleError if it is damaged."""
    path = sidecar_path(engine)
    try:
        sidecar = SIDECAR.read(path)
    except FileNotFoundError:
        what = "its sidecar is missing" if engine.exists() else "it has not been built"
        raise BackendError(
            f"{engine}: {what}; multires-edge build {engine.parent.parent} --target NAME"
        ) from None
    if sidecar.engine.file != engine.name:
        raise BundleError(f"{path}: is the sidecar of {sidecar.engine.file}; {SIDECAR.remedy}")
    return sidecar
