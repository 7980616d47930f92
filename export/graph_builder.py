"""A thin layer over ``onnx.helper``: named, documented nodes, and a complete check of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike, NDArray
from onnx import helper, numpy_helper

from multires_edge.format.targets import GraphForm

Dim = int | str


class GraphBuilder:
    """Collects nodes in the order in which they run. A value is represented by its name, a string.

    The name of a node is a path such as ``layers.0/glu/gate``. Its outputs have the same name, so that
    viewers, profilers and error messages name the same place. Types are strong: a node has the type of its
    first input, a constant has the type of the value that it is used with, and only a cast changes a type.
    """

    def __init__(self, name: str, form: GraphForm) -> None:
        self.name = name
        self.form = form
        self._types: dict[str, np.dtype[Any]] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}

    def input(self, name: str, dtype: DTypeLike, shape: Sequence[Dim], doc: str) -> str:
        """Declare a graph input."""
        self._inputs.append(_value_info(name, dtype, shape, doc))
        self._types[name] = np.dtype(dtype)
        return name

    def output(self, name: str, dtype: DTypeLike, shape: Sequence[Dim], doc: str) -> None:
        """Declare that the value ``name`` is a graph output."""
        self._outputs.append(_value_info(name, dtype, shape, doc))

    def has(self, value: str) -> bool:
        """Whether the graph has a value with this name."""
        return value in self._types

    def type_of(self, value: str) -> np.dtype[Any]:
        """The element type of a value."""
        return self._types[value]

    def weight(
        self, name: str, array: ArrayLike, like: str | None = None, dtype: DTypeLike = np.float32
    ) -> str:
        """A constant with the type of the value ``like``, else of type ``dtype``."""
        dtype = self._types[like] if like else np.dtype(dtype)
        if self._types.get(name, dtype) != dtype:
            name = f"{name}.{dtype}"  # parts of several types share the constant
        return self.constant(name, np.asarray(array, dtype=dtype))

    def integers(self, name: str, values: ArrayLike) -> str:
        """An int64 constant."""
        return self.constant(name, np.asarray(values, dtype=np.int64))

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """A constant with the type of the array."""
        tensor = numpy_helper.from_array(np.asarray(array, order="C"), name)
        known = self._initializers.setdefault(name, tensor)
        if known is not tensor and known.raw_data != tensor.raw_data:
            raise AssertionError(f"two different constants are named {name}")
        self._types[name] = array.dtype
        return name

    def node(
        self,
        op: str,
        inputs: Sequence[str],
        name: str,
        *,
        doc: str = "",
        output: str | None = None,
        dtype: DTypeLike | None = None,
        **attributes: Any,
    ) -> str:
        """Add a node with one output and return its name. ``dtype`` is by default that of the first input."""
        out = output or name
        self._types[out] = self._types[inputs[0]] if dtype is None else np.dtype(dtype)
        self._nodes.append(helper.make_node(op, inputs, [out], name=name, doc_string=doc, **attributes))
        return out

    def cast(self, value: str, dtype: DTypeLike, name: str, *, output: str | None = None) -> str:
        """The value in another type; unchanged if it has that type and no ``output`` is given."""
        wanted = np.dtype(dtype)
        if self._types[value] == wanted and output is None:
            return value
        element = helper.np_dtype_to_tensor_dtype(wanted)
        return self.node("Cast", [value], name, output=output, dtype=wanted, to=element)

    def split(
        self,
        value: str,
        sizes: Sequence[int],
        axis: int,
        name: str,
        parts: Sequence[str],
        doc: str = "",
    ) -> list[str]:
        """Split a value along an axis; the parts are named ``name/part``. A single part needs no node."""
        if len(sizes) == 1:
            return [value]
        outputs = [f"{name}/{part}" for part in parts]
        lengths = self.integers(f"{name}/sizes", sizes)
        node = helper.make_node("Split", [value, lengths], outputs, name=name, doc_string=doc, axis=axis)
        self._nodes.append(node)
        self._types.update(dict.fromkeys(outputs, self._types[value]))
        return outputs

    def concat(self, values: Sequence[str], axis: int, name: str) -> str:
        """Values side by side along an axis. A single value needs no node."""
        return values[0] if len(values) == 1 else self.node("Concat", values, name, axis=axis)

    def mean(self, value: str, axis: int, name: str, doc: str) -> str:
        """Mean over one axis, which is dropped."""
        if self.form.axes_as_input:
            axes = self.integers(f"{name}/axes", [axis])
            return self.node("ReduceMean", [value, axes], name, doc=doc, keepdims=0)
        return self.node("ReduceMean", [value], name, doc=doc, axes=[axis], keepdims=0)

    def largest(self, value: str, axis: int, name: str, doc: str) -> str:
        """Largest value over one axis, which is dropped."""
        if self.form.axes_as_input:
            axes = self.integers(f"{name}/axes", [axis])
            return self.node("ReduceMax", [value, axes], name, doc=doc, keepdims=0)
        return self.node("ReduceMax", [value], name, doc=doc, keepdims=0, axes=[axis])

    def gelu(self, value: str, name: str) -> str:
        """Exact GELU, x * Phi(x)."""
        if self.form.gelu_operator:
            return self.node("Gelu", [value], name, doc="x * Phi(x), exact")
        # Erf in float32, also of a float16 value: TensorRT computes it in the type that it is given.
        half = self.weight("gelu/half", 0.5, like=value)
        root, one = self.weight("gelu/sqrt_2", np.sqrt(2.0)), self.weight("gelu/one", 1.0)
        scaled = self.node("Div", [self.cast(value, np.float32, f"{name}/cast"), root], f"{name}/scaled")
        erf = self.node("Erf", [scaled], f"{name}/erf")
        phi = self.node("Add", [erf, one], f"{name}/phi")
        phi = self.cast(phi, self.type_of(value), f"{name}/cast_back")
        product = self.node("Mul", [value, phi], f"{name}/product")
        return self.node("Mul", [product, half], name, doc="x * Phi(x), exact")

    def build(self, doc: str) -> onnx.ModelProto:
        """The model, checked with full shape inference; it contains the inferred shapes for viewers.

        Raises AssertionError for a dead node or constant, which is a bug of the caller.
        """
        self._refuse_dead_parts()
        graph = helper.make_graph(
            self._nodes,
            self.name,
            self._inputs,
            self._outputs,
            list(self._initializers.values()),
            doc_string=doc,
        )
        model = helper.make_model(
            graph,
            producer_name="multires-edge",
            ir_version=self.form.ir_version,
            opset_imports=[helper.make_opsetid("", self.form.opset)],
        )
        return check_model(model)

    def _refuse_dead_parts(self) -> None:
        needed = {output.name for output in self._outputs}
        for node in reversed(self._nodes):
            if not needed.intersection(node.output):
                raise AssertionError(f"nothing reads node {node.name}")
            needed.update(node.input)
        unread = set(self._initializers) - needed
        if unread:
            raise AssertionError(f"nothing reads the constants {sorted(unread)}")


def check_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """Check a whole model, and return it with the sizes of every value.

    The dynamic sizes inside have no names: a runtime that replaces "batch" of the inputs by a number, as
    tract does, would take "batch" of an inner value for another size.
    """
    onnx.checker.check_model(model, full_check=True)
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    for value in model.graph.value_info:
        for size in value.type.tensor_type.shape.dim:
            size.ClearField("dim_param")
    return model


def _value_info(name: str, dtype: DTypeLike, shape: Sequence[Dim], doc: str) -> onnx.ValueInfoProto:
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, element, list(shape), doc_string=doc)
