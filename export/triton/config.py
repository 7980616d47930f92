"""``config.pbtxt``: what Triton knows of a model.

Fields are those of model_config.proto. A sequence is a stream; the scheduler "oldest" batches the sequences
that have a request, whichever they are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from multires_edge.format.specs import StateSpec, TensorSpec

_TYPES = {
    "float32": "TYPE_FP32", "float16": "TYPE_FP16", "int8": "TYPE_INT8", "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
}  # fmt: skip
_CONTROLS = """\
  control_input [
    { name: "START" control [ { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } ] },
    { name: "END" control [ { kind: CONTROL_SEQUENCE_END int32_false_true: [ 0, 1 ] } ] },
    { name: "CORRID" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } ] }
  ]
"""


def python_config(
    name: str, x: TensorSpec, y: TensorSpec, *, streams: int, idle: float, backend: str, precision: str
) -> str:
    """The configuration of ``model.py``: chunks of any number of steps in, an output for each out."""
    return (
        f"name: {_text(name)}\n"
        'backend: "python"\n'
        f"max_batch_size: {streams}\n"
        + _tensor("input", x.name, x.dtype, (*x.shape[1:], -1))
        + _tensor("output", y.name, y.dtype, (*y.shape[1:], -1))
        + _batching(streams, idle, _CONTROLS)
        + "instance_group [ { count: 1 kind: KIND_CPU } ]\n"
        + _parameter("backend", backend)
        + _parameter("precision", precision)
    )


def step_config(
    name: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], states: Sequence[StateSpec],
    *, streams: int, idle: float, backend: str,
) -> str:  # fmt: skip
    """The configuration of a step graph, whose states Triton keeps: one step for each request.

    Triton begins a sequence with zeros. ``backend`` is "onnxruntime" or "tensorrt".
    """
    kept = "".join(_state(state, in_place=backend == "tensorrt" and state.in_place) for state in states)
    return (
        f"name: {_text(name)}\n"
        f"backend: {_text(backend)}\n"
        f"max_batch_size: {streams}\n"
        + "".join(_tensor("input", each.name, each.dtype, _row(each.shape)) for each in inputs)
        + "".join(_tensor("output", each.name, each.dtype, _row(each.shape)) for each in outputs)
        + _batching(streams, idle, kept)
    )


def _row(shape: Sequence[object]) -> Sequence[object]:
    """The sizes of a tensor without its batch. Triton wants at least one."""
    return shape[1:] or (1,)


def _batching(streams: int, idle: float, rest: str) -> str:
    return (
        "sequence_batching {\n"
        f"  max_sequence_idle_microseconds: {round(idle * 1e6)}\n"
        f"  oldest {{ max_candidate_sequences: {streams} }}\n{rest}}}\n"
    )


def _tensor(kind: str, name: str, dtype: str, sizes: Sequence[object]) -> str:
    return f"{kind} [ {{ name: {_text(name)} {_typed(dtype, sizes)} }} ]\n"


def _state(state: StateSpec, *, in_place: bool) -> str:
    typed = _typed(state.dtype, _row(state.shape))
    zeros = f"initial_state: {{ name: {_text(f'zero {state.input}')} {typed} zero_data: true }}"
    shared = " use_same_buffer_for_input_output: true" if in_place else ""
    names = f"input_name: {_text(state.input)} output_name: {_text(state.output)}"
    return f"  state [ {{ {names} {typed}\n    {zeros}{shared} }} ]\n"


def _typed(dtype: str, sizes: Sequence[object]) -> str:
    return f"data_type: {_TYPES[dtype]} dims: {_dims(sizes)}"


def _parameter(key: str, value: str) -> str:
    return f"parameters {{ key: {_text(key)} value: {{ string_value: {_text(value)} }} }}\n"


def _dims(sizes: Sequence[object]) -> str:
    return f"[ {', '.join(map(str, sizes))} ]"


def _text(value: str) -> str:
    return json.dumps(value)
