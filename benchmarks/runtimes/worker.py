"""Run one graph in one runtime, with numpy and that runtime alone.

    python worker.py FAMILY WORK.json X.bin Y.bin

WORK.json describes the graph (see ``Work``), X.bin has float32 inputs (rows, channels, steps), and Y.bin gets
float32 outputs: (rows, outputs) of a full graph, or (steps, rows, outputs) of a step graph.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Feeds = dict[str, Any]
Run = Callable[[Feeds], list[Any]]


def main() -> None:
    """Read, run, write."""
    family, work_file, x_file, y_file = sys.argv[1:]
    work = json.loads(Path(work_file).read_text())
    x = np.fromfile(x_file, np.float32).reshape(work["shape"])
    states = {
        state["input"]: np.zeros([len(x), *state["shape"][1:]], state["dtype"]) for state in work["states"]
    }
    first = x if work["kind"] == "full" else np.ascontiguousarray(x[..., 0])
    run = OPENERS[family](work["file"], {work["input"]: first, **states}, work["outputs"])
    if work["kind"] == "full":
        y = run({work["input"]: x})[0]
    else:
        steps = []
        for t in range(x.shape[-1]):
            output, *new = run({work["input"]: np.ascontiguousarray(x[..., t]), **states})
            states = dict(zip(states, new, strict=True))
            steps.append(np.array(output))
        y = np.stack(steps)
    np.asarray(y, np.float32).tofile(y_file)


def open_onnxruntime(file: str, example: Feeds, outputs: list[str]) -> Run:
    """ONNX Runtime on the CPU, with its defaults."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda feeds: list(session.run(outputs, feeds))


def open_reference(file: str, example: Feeds, outputs: list[str]) -> Run:
    """The reference evaluator of ONNX, in numpy."""
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(file)
    return lambda feeds: list(evaluator.run(outputs, feeds))


def open_openvino(file: str, example: Feeds, outputs: list[str], hint: dict[str, str] | None = None) -> Run:
    """OpenVINO on the CPU, with its defaults."""
    import openvino

    model = openvino.Core().compile_model(file, "CPU", hint or {})

    def run(feeds: Feeds) -> list[Any]:
        found = model(feeds)
        return [np.array(found[name]) for name in outputs]

    return run


def open_openvino_f32(file: str, example: Feeds, outputs: list[str]) -> Run:
    """OpenVINO that computes in float32."""
    return open_openvino(file, example, outputs, {"INFERENCE_PRECISION_HINT": "f32"})


def open_tract(file: str, example: Feeds, outputs: list[str]) -> Run:
    """tract, with concrete shapes."""
    import onnx
    import tract

    short = {"float32": "f32", "float16": "f16", "int64": "i64", "int8": "i8"}
    inference = tract.Onnx().load(file)
    names = [inference.input_name(i) for i in range(inference.input_count())]
    for i, name in enumerate(names):
        array = example[name]
        inference.set_input_fact(i, ",".join([*map(str, array.shape), short[str(array.dtype)]]))
    # tract names its outputs after nodes.
    order = [output.name for output in onnx.load(file).graph.output]
    model = inference.into_model().into_runnable()

    def run(feeds: Feeds) -> list[Any]:
        found = dict(zip(order, model.run([feeds[name] for name in names]), strict=True))
        return [found[name].to_numpy() for name in outputs]

    return run


OPENERS = {
    "onnxruntime": open_onnxruntime,
    "onnx": open_reference,
    "openvino": open_openvino,
    "openvino-f32": open_openvino_f32,
    "tract": open_tract,
}

if __name__ == "__main__":
    main()
