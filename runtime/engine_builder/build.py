"""Build an engine of a bundle: parse the graph, check the parsed network, build it."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path
from types import MappingProxyType
from typing import Any

from multires_edge.base.errors import BackendError, ConfigError, OutputError
from multires_edge.base.memory import available_memory
from multires_edge.format.manifest import Manifest
from multires_edge.format.module import ModuleConfig
from multires_edge.format.pooling import Max
from multires_edge.format.specs import GraphSpec
from multires_edge.format.targets import FORMS, TARGETS, Target, dotted, target_by_name
from multires_edge.runtime.backends.device.gpu import Gpu, find_gpu, shares_memory
from multires_edge.runtime.backends.tensorrt.api import Api, load_api, log_of
from multires_edge.runtime.backends.tensorrt.engine_file import engine_path, options_of
from multires_edge.runtime.backends.tensorrt.messages import explain, why_it_failed
from multires_edge.runtime.backends.tensorrt.sidecar import (
    EngineBytes,
    GraphBytes,
    Sidecar,
    TensorRtRelease,
    Warned,
    sidecar_path,
)
from multires_edge.runtime.bundle import Bundle
from multires_edge.runtime.bundle_files import read_graph
from multires_edge.runtime.engine_builder.layers import engine_layers, in_place_updates, network_layers
from multires_edge.runtime.engine_builder.progress import BuildProgress
from multires_edge.runtime.engine_builder.shapes import Profile, Range
from multires_edge.runtime.engine_builder.timing_cache import TimingCache
from multires_edge.runtime.engine_builder.writing import write_engine

# An engine has weights and kernels: docs/tensorrt.md has measured sizes.
_KERNEL_BYTES = 4_000_000
_BYTES_PER_WEIGHT_BYTE = 1.5


@dataclass(frozen=True)
class Built:
    """A written engine and its sidecar."""

    path: Path
    sidecar: Sidecar


@dataclass(frozen=True)
class Builder:
    """The builder of a target on this machine. ``gpu`` is None for a target that builds ahead of time."""

    target: Target
    api: Api
    gpu: Gpu | None
    compute_capabilities: tuple[str, ...]

    @classmethod
    def here(cls, target: str, compute_capabilities: Sequence[str] | None = None) -> Builder:
        """Check that this machine can build engines of a target. Raises ConfigError or BackendError.

        ``compute_capabilities`` such as "8.6" apply to targets that build ahead of time. None selects all
        of the target except Turing's 7.5.
        """
        row = target_by_name(target)
        if row.package is None:
            having = ", ".join(name for name, other in TARGETS.items() if other.package)
            raise ConfigError(
                f"target {target} needs no engine: ONNX Runtime and the native engine run its graphs; "
                f"targets with engines: {having}"
            )
        if row.ahead_of_time:
            return cls(row, _load(row), None, _capabilities(row, compute_capabilities))
        if compute_capabilities is not None:
            raise ConfigError(
                f"--compute-capability applies only to engines built ahead of time (--target rtx); {target} "
                "uses the capability of its device"
            )
        try:
            gpu = find_gpu()
        except BackendError as error:
            raise BackendError(
                f"{error}; engines of target {target} are built on its device, by multires-edge build BUNDLE "
                f"--target {target} there; only --target rtx builds without a GPU"
            ) from error
        if row.compute_capabilities and gpu.compute_capability not in row.compute_capabilities:
            raise BackendError(
                f"target {target} needs compute capability {', '.join(row.compute_capabilities)}, but "
                f"{gpu.name} has {gpu.compute_capability}: choose another target (multires-edge targets)"
            )
        return cls(row, _load(row), gpu, (gpu.compute_capability,))

    def form(self, manifest: Manifest) -> str:
        """The best form of the bundle's graphs that the installed package reads. Raises ConfigError."""
        readable = [
            form.form_name
            for form in self.target.forms
            if self.target.takes_form(form.form_name, self.api.version)
        ]
        for form in readable:
            if form in manifest.by_form:
                return form
        raise ConfigError(
            f"{self.api.name} reads {' or '.join(readable) or 'no form'} of target {self.target.name}, but "
            f"the bundle has {', '.join(manifest.by_form)}: export it with --target {self.target.name}"
        )

    def kinds(self, manifest: Manifest) -> list[str]:
        """The kinds of graphs of a bundle that the target builds engines of, the most demanding last."""
        graphs = manifest.in_form(self.form(manifest)).graphs
        unsafe = {"step"} if self._crashes_on_steps(manifest) else set()
        return [kind for kind in ("taps", "step", "full") if kind in graphs.keys() - unsafe]

    def _crashes_on_steps(self, manifest: Manifest) -> bool:
        """TensorRT-RTX 1.7 ends the process for some step graphs.

        Those with a maximum over windows of 4 to 7 and of 20 steps are among them, and of modules some that
        read a ring at its longest delay alone.
        """
        if self.target.package != "tensorrt_rtx":
            return False
        if isinstance(manifest.network, ModuleConfig):
            return "taps" in manifest.in_form(self.form(manifest)).graphs
        parts = () if manifest.pooling is None else manifest.pooling.parts
        return any(isinstance(part, Max) and part.steps is not None for part in parts)

    def plan(
        self,
        bundle: Bundle,
        kind: str,
        precision: str,
        ranges: Mapping[str, Range] = MappingProxyType({}),
        *,
        force: bool = False,
    ) -> Plan:
        """Plan an engine of one graph, for :meth:`build`.

        ``ranges`` replace those of :func:`default_ranges`; those of other graphs are ignored. Raises
        InputError for a tensor that is too large for TensorRT, OutputError if the engine exists, without
        ``force``, ConfigError if TensorRT cannot build the graph.
        """
        if kind == "step" and self._crashes_on_steps(bundle.manifest):
            raise ConfigError(
                f"{self.api.name} may end the process while it builds a step graph with a maximum over a "
                "window, or of a module of your own; the taps graph runs the same streams: --graph taps"
            )
        path = engine_path(bundle.path, kind, precision, self.target.name)
        if sidecar_path(path).exists() and not force:
            raise OutputError(f"{path}: exists already; give --force to build it again")
        form = self.form(bundle.manifest)
        manifest = bundle.manifest.in_form(form)
        spec = manifest.graph(kind, precision)
        return Plan(bundle, path, kind, precision, form, spec, _profile(manifest, spec, ranges), force)

    def build(self, plan: Plan, progress: Callable[[str], None] = lambda _: None) -> Built:
        """Build an engine and write it with its sidecar into the bundle's ``engines/``.

        Raises BackendError if TensorRT fails, OutputError if the engine was built meanwhile.
        """
        spec, content = plan.spec, read_graph(plan.bundle.path, plan.spec)
        made = _make(self, plan, content, progress)
        sidecar = Sidecar(
            engine=EngineBytes(plan.path.name, len(made.content), hashlib.sha256(made.content).hexdigest()),
            graph=GraphBytes(plan.kind, plan.precision, plan.form, spec.file, spec.sha256, len(content)),
            source_sha256=plan.bundle.manifest.source.sha256,
            target=self.target.name,
            tensorrt=TensorRtRelease(self.api.package, dotted(self.api.version)),
            device=self.gpu,
            compute_capabilities=self.compute_capabilities,
            profile=plan.profile.sizes(),
            in_place=made.in_place,
            options=made.options,
            seconds=round(made.seconds, 2),
            warnings=(*made.warnings, *_size_warning(made, len(content))),
            tools={"multires-edge": version_of("multires-edge")},
        )
        write_engine(plan.path, made.content, made.layers, sidecar, force=plan.force)
        return Built(plan.path, sidecar)


def default_ranges(manifest: Manifest) -> dict[str, Range]:
    """The ranges of all graphs by their options.

    1 to 64 streams and 1 to 16 whole sequences, tuned for 1. Sequences up to four receptive fields of a
    layer, of a module of the user's own of the whole, tuned for one.
    """
    network = manifest.network
    if isinstance(network, ModuleConfig):
        remembered = network.receptive_field
    else:
        remembered = (network.kernel_size - 1) * ((1 << network.depth) - 1) + 1
    whole = {"batch": Range(1, 1, 16), "time": Range(1, remembered, 4 * remembered)}
    return {"streams": Range(1, 1, 64), **whole}


@dataclass(frozen=True)
class Plan:
    """An engine to build of a bundle's graph, with the shapes that it must take; ``force`` replaces one."""

    bundle: Bundle
    path: Path
    kind: str
    precision: str
    form: str
    spec: GraphSpec
    profile: Profile
    force: bool


@dataclass(frozen=True)
class _Made:
    content: bytes
    layers: str
    in_place: dict[str, str]
    options: dict[str, Any]
    seconds: float
    warnings: list[Warned]


def _make(builder: Builder, plan: Plan, content: bytes, progress: Callable[[str], None]) -> _Made:
    """Parse and build. All of TensorRT's memory is freed before the engine is written."""
    trt, log, spec = builder.api.module, log_of(builder.api.package), plan.spec
    started = time.perf_counter()
    with log.collect() as messages, BuildProgress(trt, progress) as monitor:
        build = trt.Builder(log.logger)
        network = build.create_network(_strongly_typed(trt))
        parser = trt.OnnxParser(network, log.logger)
        if not parser.parse(content):
            errors = [parser.get_error(i) for i in range(parser.num_errors)]
            said = "; ".join(f"{error.node_name()}: {error.desc()}" for error in errors)
            raise BackendError(
                f"{builder.api.name} cannot read {spec.file} ({said or why_it_failed(messages)}); export for "
                f"the target: multires-export … --target {builder.target.name}"
            )
        in_place = in_place_updates(trt, network)
        _check_in_place(in_place, plan, builder)
        layers = network_layers(network)
        config = build.create_builder_config()
        options = _configure(trt, config, builder, plan)
        shapes = build.create_optimization_profile()
        for name, shape in _input_shapes(spec):
            shapes.set_shape(name, *plan.profile.shapes(shape))
        config.add_optimization_profile(shapes)
        monitor.reraise()
        config.progress_monitor = monitor.monitor
        cache = None
        if builder.gpu is not None:
            cache = TimingCache.of(plan.path.parent, builder.gpu, builder.api)
            cache.load(config)
        serialized = build.build_serialized_network(network, config)
        monitor.reraise()
        if serialized is None:
            raise BackendError(f"{builder.api.name} cannot build {spec.file}: {why_it_failed(messages)}")
        engine = bytes(serialized)
        lost = []
        if cache is not None:
            try:
                cache.save(config)
            except OutputError as error:  # the engine is usable without the cache
                lost = [Warned(str(error), "the next build measures again")]
            layers += "\n" + _inspect(trt, log.logger, engine, builder, messages)
        seconds = time.perf_counter() - started
        return _Made(engine, layers, in_place, options, seconds, explain(messages) + lost)


def _strongly_typed(trt: Any) -> int:
    """The network's flags. From TensorRT 11 on, every network is strongly typed without a flag."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _configure(trt: Any, config: Any, builder: Builder, plan: Plan) -> dict[str, Any]:
    # TF32 is on by default, and rounds the factors of a float32 product to ten bits.
    config.clear_flag(trt.BuilderFlag.TF32)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if builder.target.ahead_of_time:
        config.num_compute_capabilities = len(builder.compute_capabilities)
        for i, capability in enumerate(builder.compute_capabilities):
            member = getattr(trt.ComputeCapability, "SM" + capability.replace(".", ""))
            config.set_compute_capability(member, i)
    options = {
        "strongly_typed": True,
        "tf32": False,
        "profiling_verbosity": "detailed",
        "builder_optimization_level": int(config.builder_optimization_level),
    }
    flag = getattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION", None)
    if flag is not None and "time" not in plan.profile.ranges:
        config.set_flag(flag)  # TensorRT-RTX then allocates nothing in a step, which can be captured
        options["require_user_allocation"] = True
    if builder.gpu is not None and shares_memory():
        # TensorRT by default tries kernels that need all of the memory, and here the CPU needs some of it.
        options["workspace_bytes"] = available_memory() // 2
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options["workspace_bytes"])
    return options


def _inspect(trt: Any, logger: Any, plan: bytes, builder: Builder, messages: Sequence[Any]) -> str:
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
    if engine is None:
        raise BackendError(
            f"{builder.api.name} built an engine that it cannot load: {why_it_failed(messages)}"
        )
    return engine_layers(trt, engine)


def _check_in_place(in_place: dict[str, str], plan: Plan, builder: Builder) -> None:
    # KVCacheUpdate supports floating point only: int8 queues are copied and scattered into.
    wanted = {s.input: s.output for s in plan.spec.states if s.in_place and s.dtype.startswith("float")}
    if FORMS[plan.form].queue_update == "TensorScatter" and in_place != wanted:
        missing = ", ".join(sorted(set(wanted) - set(in_place))) or "none"
        raise BackendError(
            f"{builder.api.name} does not update all queues of {plan.spec.file} in place (missing: "
            f"{missing}); export with --target portable,… for graphs that copy the queues"
        )


def _profile(manifest: Manifest, spec: GraphSpec, ranges: Mapping[str, Range]) -> Profile:
    chosen = default_ranges(manifest) | dict(ranges)
    profile = Profile({size: chosen[option] for size, option in options_of(spec).items()})
    profile.check(spec, _width(manifest))
    return profile


def _width(manifest: Manifest) -> int:
    """The largest number of values per step and stream in any layer, as far as the manifest tells."""
    network = manifest.network
    if not isinstance(network, ModuleConfig):
        return 2 * network.d_model
    step = manifest.graph("step", "fp32")
    rows = [
        math.prod(int(n) for n in t.shape if not isinstance(n, str)) for t in (*step.inputs, *step.outputs)
    ]
    return max(*rows, *(2 * int(state.shape[-1]) for state in step.states if len(state.shape) == 4), 1)


def _input_shapes(spec: GraphSpec) -> list[tuple[str, tuple[int | str, ...]]]:
    inputs = [(tensor.name, tensor.shape) for tensor in spec.inputs]
    return inputs + [(state.input, state.shape) for state in spec.states]


def _load(target: Target) -> Api:
    assert target.package is not None
    try:
        api = load_api(target.package)
    except BackendError as error:
        raise BackendError(f"building for target {target.name} {error}") from error
    if not target.takes_version(api.version):
        wanted = " or ".join(f"{dotted(version)}.x" for version in target.versions)
        fitting = [
            name
            for name, other in TARGETS.items()
            if other.package == target.package and other.takes_version(api.version)
        ]
        hint = f"; it fits target {' or '.join(fitting)}" if fitting else ""
        raise BackendError(
            f"target {target.name} needs {target.package} {wanted}, but {api.name} is installed{hint}"
        )
    return api


def _capabilities(target: Target, given: Sequence[str] | None) -> tuple[str, ...]:
    known = target.compute_capabilities
    if given is None:
        # Turing cannot share an engine with the others.
        return tuple(capability for capability in known if capability != "7.5")
    wanted = tuple(dict.fromkeys(given))
    for capability in wanted:
        if capability not in known:
            raise ConfigError(
                f"compute capability {capability!r} is unknown to target {target.name}, expected some of "
                f"{', '.join(known)}"
            )
    if not wanted:
        raise ConfigError(f"no compute capability given, expected some of {', '.join(known)}")
    if "7.5" in wanted and len(wanted) > 1:
        raise ConfigError("compute capability 7.5 needs a separate engine: leave out the others")
    return wanted


def _size_warning(made: _Made, graph_bytes: int) -> list[Warned]:
    expected = int(_BYTES_PER_WEIGHT_BYTE * graph_bytes) + _KERNEL_BYTES
    if len(made.content) <= expected:
        return []
    text = f"the engine has {len(made.content):,} bytes, its graph {graph_bytes:,}"
    return [Warned(text, f"more than the {expected:,} expected; fewer compute capabilities make it smaller")]
