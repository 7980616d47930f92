"""Engines: strongly typed, built on this device, and stored with a sidecar that describes each."""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path
from typing import Any

from multires_edge.format.fields import plain, read_fields, read_json
from multires_edge.format.specs import Shape

from .files import KitError, sha256_of, to_json, write_whole
from .kit import Graph
from .report import EngineUsed, Shapes, Wanted


class Engines:
    """Builds the engine of a graph, or loads the stored engine.

    ``used`` has the sidecar of every engine that was requested.
    """

    def __init__(self, trt: Any, folder: Path, capability: str, most_streams: int, *, rebuild: bool) -> None:
        self._trt, self._folder, self._capability = trt, folder, capability
        self._most, self._rebuild = most_streams, rebuild
        self._logger = trt.Logger(trt.Logger.WARNING)
        self._runtime = trt.Runtime(self._logger)
        self._loaded: dict[Path, Any] = {}
        self.used: list[EngineUsed] = []

    def engine(self, graph: Graph) -> Any:
        """The loaded engine of a graph. Raises KitError."""
        if graph.path not in self._loaded:
            path = self._folder / f"{graph.path.stem}.engine"
            wanted = self._wanted(graph)
            sidecar, plan = (None, None) if self._rebuild else _kept(path, wanted)
            if plan is None or sidecar is None:
                print(f"building {path.name} ...", file=sys.stderr, flush=True)
                started = time.perf_counter()
                plan = build(self._trt, graph, wanted.profile)
                digest = hashlib.sha256(plan).hexdigest()
                seconds = round(time.perf_counter() - started, 1)
                sidecar = EngineUsed(**vars(wanted), seconds=seconds, bytes=len(plan), sha256=digest)
                write_whole(path, plan)
                write_whole(path.with_suffix(".json"), to_json(plain(sidecar)))
            engine = self._runtime.deserialize_cuda_engine(plan)
            if engine is None:
                raise KitError(f"{path}: TensorRT {self._trt.__version__} cannot load it; try --rebuild")
            self._loaded[graph.path] = engine
            self.used.append(sidecar)
        return self._loaded[graph.path]

    def _wanted(self, graph: Graph) -> Wanted:
        """If a stored sidecar differs, the engine is built again."""
        least, best = {"batch": 1, "time": 1}, {"batch": 1, "time": graph.steps}
        most = {"batch": max(self._most, graph.rows), "time": graph.steps}
        return Wanted(
            graph=graph.path.name,
            graph_sha256=sha256_of(graph.path),
            precision=graph.precision,
            tensorrt=self._trt.__version__,
            compute_capability=self._capability,
            profile=profile_of(graph, least, best, most),
            options={"strongly_typed": True, "tf32": False},
        )


def profile_of(
    graph: Graph, least: dict[str, int], best: dict[str, int], most: dict[str, int]
) -> dict[str, Shapes]:
    """The shapes of each input and state for the sizes of dynamic dimensions."""
    takes = [(tensor.name, tensor.shape) for tensor in graph.inputs]
    takes += [(state.input, state.shape) for state in graph.states]
    return {name: (_sized(shape, least), _sized(shape, best), _sized(shape, most)) for name, shape in takes}


def _sized(shape: Shape, sizes: dict[str, int]) -> tuple[int, ...]:
    return tuple(sizes[size] if isinstance(size, str) else size for size in shape)


def _kept(path: Path, wanted: Wanted) -> tuple[EngineUsed | None, bytes | None]:
    """The stored sidecar and engine, if the engine is undamaged and fits ``wanted``."""
    try:
        sidecar = read_fields(EngineUsed, read_json(path.with_suffix(".json")))
        plan = path.read_bytes()
    except (OSError, ValueError, RecursionError):
        return None, None
    whole = sidecar.sha256 == hashlib.sha256(plan).hexdigest()
    if whole and all(getattr(sidecar, key) == value for key, value in vars(wanted).items()):
        return sidecar, plan
    return None, None


def build(trt: Any, graph: Graph, profile: dict[str, Shapes], configure: Any = None) -> bytes:
    """Build a strongly typed engine: the graph sets every precision, and float32 is not cut to TF32.

    ``profile`` has the smallest, best and largest shape of each input. ``configure`` may change the
    builder's configuration. Raises KitError.
    """
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    # From TensorRT 11 on, every network is strongly typed.
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph.path.read_bytes()):
        errors = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise KitError(f"{graph.path}: TensorRT {trt.__version__} cannot parse it ({errors})")
    config = builder.create_builder_config()
    if hasattr(trt.BuilderFlag, "TF32"):
        # TF32 is on by default; its 10 bits would exceed the limit of float32.
        config.clear_flag(trt.BuilderFlag.TF32)
    shapes = builder.create_optimization_profile()
    for name, (least, best, most) in profile.items():
        shapes.set_shape(name, least, best, most)
    config.add_optimization_profile(shapes)
    if configure is not None:
        configure(config)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise KitError(f"{graph.path}: TensorRT {trt.__version__} cannot build it; see its log above")
    return bytes(plan)
