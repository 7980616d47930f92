"""What each place that a graph can run on accepts. Graph builders ask here and nowhere else."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from multires_edge.runtime.errors import ConfigError

QueueUpdate = Literal["TensorScatter", "ScatterND"]


@dataclass(frozen=True)
class Target:
    """One row of the table.

    ``opset`` is the ONNX operator set of the graphs, ``ir_version`` their file format,
    ``queue_update`` the operator that writes a queue in place, ``onnxruntime`` the first release of
    ONNX Runtime that runs such graphs, ``taps_graph`` whether it wants the step without queues too.
    """

    name: str
    opset: int
    ir_version: int
    queue_update: QueueUpdate
    onnxruntime: tuple[int, int]
    description: str
    source: str
    taps_graph: bool = False

    @property
    def gelu_operator(self) -> bool:
        """Gelu is an operator of its own from opset 20; before, it is spelled with Erf."""
        return self.opset >= 20

    @property
    def axes_as_input(self) -> bool:
        """ReduceMean takes its axes as an input from opset 18; before, as an attribute."""
        return self.opset >= 18


TARGETS = {
    target.name: target
    for target in (
        Target(
            "cpu", 24, 11, "TensorScatter", (1, 25),
            "ONNX Runtime 1.25 and later, and every runtime with opset 24",
            "microsoft/onnxruntime#27389 (TensorScatter-24 for the CPU, February 2026)",
        ),
        Target(
            "portable", 17, 8, "ScatterND", (1, 13),
            "runtimes of the last years: ONNX Runtime 1.13 and later, opset 17",
            "onnxruntime.ai, compatibility: opset 17 from release 1.13",
        ),
    )
}  # fmt: skip


def target_named(name: str | None) -> Target:
    """Look a target up; ``None`` is the newest whose graphs the installed ONNX Runtime runs.

    Raises ConfigError for an unknown name, with the nearest known one.
    """
    if name is None:
        import onnxruntime

        installed = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
        runnable = (target for target in TARGETS.values() if installed >= target.onnxruntime)
        return next(runnable, TARGETS["portable"])
    if name not in TARGETS:
        near = difflib.get_close_matches(name, TARGETS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"unknown target {name!r}, expected one of {', '.join(TARGETS)}{hint}")
    return TARGETS[name]
