"""The table of targets: what each device or runtime accepts. Exporter and builder have no other source.

A *form* is a way to write a graph: its operators, its file format, how it updates a queue. A *target* is a
device or runtime with the forms that it takes, the best first, and with the conditions of its engines.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from multires_edge.base.names import check_name

QueueUpdate = Literal["TensorScatter", "ScatterND"]
Version = tuple[int, ...]
PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class GraphForm:
    """A way to write a graph.

    ``opset`` is the ONNX operator set, ``ir_version`` the file format, ``queue_update`` the operator that
    writes a queue; TensorScatter is TensorRT's in-place cache update.
    """

    opset: int
    ir_version: int
    queue_update: QueueUpdate

    @property
    def form_name(self) -> str:
        """The name of the form in files and manifest; one opset has one form."""
        return f"opset{self.opset}"

    @property
    def gelu_operator(self) -> bool:
        """Gelu is an operator from opset 20; before, Erf replaces it."""
        return self.opset >= 20

    @property
    def axes_as_input(self) -> bool:
        """ReduceMean takes its axes as an input from opset 18; before, as an attribute."""
        return self.opset >= 18


_IN_PLACE = GraphForm(24, 11, "TensorScatter")
_PLAIN = GraphForm(17, 8, "ScatterND")
FORMS = {form.form_name: form for form in (_IN_PLACE, _PLAIN)}

# The first releases that take a form. Sources for ONNX Runtime: microsoft/onnxruntime#27389 (TensorScatter-24
# for the CPU, February 2026) and its compatibility page; for TensorRT: onnx-tensorrt operators.md of 10.15.
FIRST_ONNXRUNTIME: dict[str, Version] = {"opset24": (1, 25), "opset17": (1, 13)}
# By its CUDA provider without parts on the CPU: microsoft/onnxruntime#28368, #27446.
FIRST_ONNXRUNTIME_CUDA: dict[str, Version] = {"opset24": (1, 28), "opset17": (1, 13)}
FIRST_TENSORRT: dict[str, Version] = {"opset24": (10, 15), "opset17": (10, 0)}
FIRST_TENSORRT_RTX: dict[str, Version] = {"opset24": (1, 7), "opset17": (1, 0)}
# The elements of a tensor must fit into int32: NVIDIA/TensorRT#3815.
MOST_ELEMENTS = (1 << 31) - 1


@dataclass(frozen=True)
class Target:
    """One row of the table.

    ``forms`` has the best first; the others are for older releases of the same target. ``package`` is the
    Python package that builds its engines, null if ONNX Runtime or the native engine runs the graphs;
    ``versions`` are the leading numbers of its releases. ``compute_capabilities`` are those of the devices;
    empty means any. ``ahead_of_time`` engines are built without a GPU, others on the device. Targets with
    engines also get the taps graph.
    """

    name: str
    forms: tuple[GraphForm, ...]
    description: str
    sources: tuple[str, ...]
    package: Literal["tensorrt", "tensorrt_rtx"] | None = None
    versions: tuple[Version, ...] = ()
    compute_capabilities: tuple[str, ...] = ()
    ahead_of_time: bool = False
    precisions: tuple[str, ...] = PRECISIONS
    limits: tuple[str, ...] = ()

    @property
    def form(self) -> GraphForm:
        """The best form."""
        return self.forms[0]

    @property
    def onnxruntime(self) -> Version:
        """The first release of ONNX Runtime that runs the graphs in the best form."""
        return FIRST_ONNXRUNTIME[self.form.form_name]

    def takes_version(self, version: Version) -> bool:
        """Whether a release of the package is one of the target's."""
        return any(version[: len(prefix)] == prefix for prefix in self.versions)

    def takes_form(self, form: str, version: Version) -> bool:
        """Whether a release of the package reads graphs of a form."""
        first = FIRST_TENSORRT_RTX if self.package == "tensorrt_rtx" else FIRST_TENSORRT
        return version >= first[form]

    def to_json(self) -> dict[str, Any]:
        """The row as JSON values."""
        own = {key: value for key, value in asdict(self).items() if key != "forms"}
        return {
            "name": self.name,
            **asdict(self.form),
            "onnxruntime": dotted(self.onnxruntime),
            **own,
            "versions": [dotted(version) for version in self.versions],
            "forms": [form.form_name for form in self.forms],
        }


def dotted(version: Version) -> str:
    """(10, 3) as 10.3."""
    return ".".join(map(str, version))


_ELEMENTS = f"at most {MOST_ELEMENTS:,} elements a tensor"
_OPENVINO = "OpenVINO needs INFERENCE_PRECISION_HINT f32: in its default, bfloat16, int8 graphs are wrong"
_BUILT_THERE = "an engine runs on the device model and TensorRT release that built it, and on no other"

TARGETS = {
    target.name: target
    for target in (
        Target(
            "cpu", (_IN_PLACE,),
            "ONNX Runtime 1.25 and later, and every runtime with opset 24",
            ("microsoft/onnxruntime#27389 (TensorScatter-24 for the CPU)",),
            limits=(_OPENVINO,),
        ),
        Target(
            "portable", (_PLAIN,),
            "runtimes of the last years: ONNX Runtime 1.13 and later, opset 17",
            ("onnxruntime.ai, compatibility: opset 17 from release 1.13",),
            limits=(_OPENVINO,),
        ),
        Target(
            "rtx", (_IN_PLACE,),
            "TensorRT-RTX on GeForce and RTX GPUs; engines are built ahead of time, without a GPU",
            ("docs.nvidia.com/deeplearning/tensorrt-rtx: Support Matrix 1.5; CPU-Only AOT and Engines",),
            package="tensorrt_rtx", versions=((1,),), ahead_of_time=True,
            compute_capabilities=("7.5", "8.0", "8.6", "8.9", "12.0", "12.1"),
            limits=(_ELEMENTS, "7.5 in an engine of its own", "an engine is for one release of TensorRT-RTX"),
        ),
        Target(
            "jetpack6", (_PLAIN,),
            "Jetson Orin with JetPack 6.1 and 6.2: TensorRT 10.3",
            ("docs.pytorch.org/TensorRT, JetPack 6.1: TensorRT 10.3, CUDA 12.6",
             "onnx-tensorrt release/10.3-GA (62bdde2), docs/operators.md: opsets 9 to 20"),
            package="tensorrt", versions=((10, 3),), compute_capabilities=("8.7",),
            limits=(_ELEMENTS, _BUILT_THERE, "queues are copied by ScatterND, not updated in place"),
        ),
        Target(
            "jetpack7", (_IN_PLACE, _PLAIN),
            "Jetson Thor and Orin with JetPack 7: TensorRT 10.13 and 10.16",
            ("developer.nvidia.com/embedded/jetpack/downloads: archive 7.0, 7.1, 7.2",
             "onnx-tensorrt docs/operators.md of 10.15: TensorScatter, 4-D, axis -2"),
            package="tensorrt", versions=((10, 13), (10, 16)),
            compute_capabilities=("8.7", "11.0"),
            limits=(_ELEMENTS, _BUILT_THERE, "queues are updated in place from 10.15; below, ScatterND"),
        ),
        Target(
            "tensorrt10", (_IN_PLACE, _PLAIN),
            "any GPU with TensorRT 10",
            ("onnx-tensorrt docs/operators.md of 10.15: opsets 9 to 24, TensorScatter",
             "NVIDIA TensorRT documentation, KVCacheUpdate: float32, float16, bfloat16"),
            package="tensorrt", versions=((10,),),
            limits=(_ELEMENTS, _BUILT_THERE, "queues are updated in place from 10.15; below, ScatterND"),
        ),
        Target(
            "tensorrt11", (_IN_PLACE,),
            "any GPU with TensorRT 11; Jetson Thor and AGX Orin from JetPack 7.2.2 and TensorRT 11.4.1",
            ("NVIDIA TensorRT documentation 11, ONNX Opset Guide: opsets 9 to 25",
             "NVIDIA TensorRT documentation 11.4.1, Migrating from 10.x to 11.x on Jetson/JetPack"),
            package="tensorrt", versions=((11,),),
            limits=(_ELEMENTS, _BUILT_THERE),
        ),
    )
}  # fmt: skip


def target_by_name(name: str) -> Target:
    """Look a target up. Raises ConfigError for an unknown name, with the nearest known one."""
    check_name("target", name, TARGETS)
    return TARGETS[name]
