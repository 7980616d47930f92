"""Bundles with taps graphs, and the TensorRT backend on the host."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from multires_edge.export import export_bundle
from multires_edge.format.specs import GraphSpec
from multires_edge.models.inference import Overrides
from multires_edge.runtime import Bundle, Stream, open_bundle
from multires_edge.runtime.backends.tensorrt.engine_file import engine_path
from multires_edge.runtime.backends.tensorrt.host import host_stepper
from multires_edge.runtime.backends.tensorrt.sidecar import (
    SIDECAR,
    EngineBytes,
    GraphBytes,
    Sidecar,
    TensorRtRelease,
    sidecar_path,
)
from tests.conftest import random_net, save_published, variant
from tests.runtime.backends.device.fake_driver import ORIN

# What an engine of each graph looks like to the backend: (kind, whether queues are updated in place).
FORMS = {"step in place": ("step", True), "step": ("step", False), "taps": ("taps", False)}


def export(folder: Path, target: str = "tensorrt11", pool: str | None = None, **changes: Any) -> Bundle:
    """A small proven bundle with full, step and taps graphs in float32 and float16."""
    checkpoint = save_published(random_net(variant(**changes)), folder / "run")
    path = export_bundle(
        checkpoint,
        folder / "a.bundle",
        target=target,
        pool=pool,
        precisions=("fp32", "fp16"),
        overrides=Overrides(output_activation=changes.get("output_activation")),
    ).path
    return open_bundle(path)


def on_host(bundle: Bundle, form: str, batch: int, precision: str = "fp32") -> Stream:
    """A stream of the TensorRT backend, with everything but the device."""
    kind, in_place = FORMS[form]
    stepper = host_stepper(bundle.path, bundle.manifest, kind, precision, batch, in_place=in_place)
    return bundle.stream_of(stepper, batch, precision)


def put_engine(
    bundle: Bundle | Path, kind: str = "step", target: str = "jetpack7", content: bytes = b"an engine",
    *, in_place: bool = False, **changes: Any,
) -> Path:  # fmt: skip
    """An engine file of a bundle with its sidecar, as a build on an Orin leaves them. Returns its path."""
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    spec = opened.manifest.graph(kind, "fp32")
    path = engine_path(opened.path, kind, "fp32", target)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    updates = {state.input: state.output for state in spec.states if in_place and state.in_place}
    sidecar = replace(sidecar_of(path.name, content, spec, updates), **changes)
    sidecar_path(path).write_bytes(SIDECAR.to_bytes(sidecar))
    return path


def sidecar_of(
    name: str, content: bytes, graph: GraphSpec, in_place: dict[str, str] | None = None
) -> Sidecar:
    """The sidecar of an engine that was built on an Orin."""
    kind, precision, target, _ = name.split(".")
    return Sidecar(
        engine=EngineBytes(name, len(content), hashlib.sha256(content).hexdigest()),
        graph=GraphBytes(kind, precision, "opset24", graph.file, graph.sha256, 9),
        source_sha256="0" * 64,
        target=target,
        tensorrt=TensorRtRelease("tensorrt", "10.16.1"),
        device=ORIN,
        compute_capabilities=(ORIN.compute_capability,),
        profile={"batch": (1, 1, 4)} | ({"time": (1, 8, 40)} if kind == "full" else {}),
        in_place=in_place or {},
        options={"strongly_typed": True, "builder_optimization_level": 3},
        seconds=1.5,
        warnings=(),
        tools={"multires-edge": "0.1.0"},
    )
