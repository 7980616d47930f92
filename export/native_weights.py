"""The weights files of the native engine: the folded network in safetensors, one file per precision.

Metadata (all strings): ``format`` "multires-weights", ``version`` "2", ``precision`` of the weights, "fp32",
"fp16" or "int8", ``queues`` "float32", "float16" or "int8", the numbers of the configuration,
``autoregressive`` "0" or "1", ``window`` ("0" pools over everything so far) and ``norm_epsilon``. Where they
are not those of the published network, also ``pooling``, such as "max", "mean+last" or "none",
``encoder_kernel_size`` (taps), ``output_activation``, ``norm_place`` "before", ``norm_groups``,
``activation``, ``mixing`` "plain" and ``filters`` "untied". With a card also ``labels`` and ``channels``, one
per line, ``output``, ``unit``, ``sampling_rate``, and ``mean`` and ``std``, one number or one per line.

| tensor | shape |
| --- | --- |
| ``encoder.weight``, ``.bias`` | (d_model, taps * d_input), (d_model,): the channels of each tap, by delay |
| ``encoder.table`` | (n_tokens, d_model), token models instead |
| ``layers.i.lowpass`` | (kernel_size, d_model), by delay; depth of these with ``filters`` "untied" |
| ``layers.i.highpass.j`` | (n_j, d_model), by delay in units of 2^j steps |
| ``layers.i.queue_scales`` | (depth, d_model), positive and normal: int8 queues only |
| ``layers.i.mixing.weight``, ``.bias`` | (2 * d_model, d_model), (2 * d_model,): values, then gates |
| | (d_model, d_model), (d_model,) with ``mixing`` "plain" |
| ``layers.i.output.weight``, ``.bias`` | (d_model, d_model), (d_model,): with a second convolution |
| ``layers.i.norm.scale``, ``.bias`` | (d_model,): LayerNorm, or GroupNorm with ``norm_groups`` |
| ``layers.i.rms.scale`` | (d_model,): RMSNorm |
| ``layers.i.affine.scale``, ``.shift`` | (d_model,): BatchNorm before the block |
| ``layers.i.residual.scale``, ``.shift`` | (d_model,): the rest of a folded BatchNorm, or no norm |
| ``head.weight``, ``.bias`` | (d_output, d_head), (d_output,); d_head is d_model for each pooling |

All are float32, except the weights of ``mixing`` and ``output``. They are float16 in "fp16", if they are
within its range, and int8 in "int8", -127 to 127, with ``.weight_scales`` (out,) and ``.input_scales``
(in,) (:class:`~multires_edge.export.linear.QuantizedLinear`). For ``queue_scales`` see
:class:`~multires_edge.export.folding.FoldedNetwork`.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from multires_edge.export.folding import FoldedNetwork
from multires_edge.export.linear import Linear, QuantizedLinear
from multires_edge.format.card import Card
from multires_edge.format.fields import plain
from multires_edge.format.native import frame_metadata
from multires_edge.format.pooling import Pooling

VERSION = 2
# Metadata only where they differ from the published block.
_BLOCK = ("norm_place", "norm_groups", "activation", "mixing")
# What the engine has of the parts that only have a name; see activations.h and model.cpp.
NATIVE_PARTS = {
    "activation": ("gelu", "gelu_tanh", "relu", "relu6", "silu", "identity"),
    "mixing": ("glu", "plain"),
    "output_activation": ("sigmoid", "softmax"),
}
_SIZES = ("d_input", "n_tokens", "d_output", "d_model", "n_layers", "kernel_size", "depth")
_TYPE_NAMES = {np.dtype(np.float32): "F32", np.dtype(np.float16): "F16", np.dtype(np.int8): "I8"}


def file_name(precision: str) -> str:
    """The weights file of a precision in a bundle."""
    infix = "" if precision == "fp32" else f".{precision}"
    return f"native/weights{infix}.safetensors"


def runs_natively(network: FoldedNetwork, pooling: Pooling | None) -> bool:
    """Whether the native engine has all parts of a network."""
    config = network.config
    pooling = config.pooled_by(pooling)
    norms = all(layer.norm.native for layer in network.layers)
    parts = all(getattr(config, part) in (None, *names) for part, names in NATIVE_PARTS.items())
    return norms and parts and (pooling is None or pooling.native_window is not None)


def native_weights(
    network: FoldedNetwork,
    pooling: Pooling | None = None,
    card: Card | None = None,
    precision: str = "fp32",
) -> bytes:
    """The content of the file; for "int8" ``network`` is quantized. Equal arguments give equal bytes.

    ``pooling`` replaces the network's own.
    """
    config = network.config
    pooling = config.pooled_by(pooling)
    tensors: dict[str, NDArray[Any]] = {}

    def put(name: str, array: NDArray[Any], dtype: DTypeLike = np.float32) -> None:
        tensors[name] = np.ascontiguousarray(array, dtype=dtype)

    def put_linear(name: str, linear: Linear | QuantizedLinear) -> None:
        """Encoder or head. The engine reads them as float32, so int8 weights are dequantized."""
        put(f"{name}.weight", linear.dequantized if isinstance(linear, QuantizedLinear) else linear.weight)
        put(f"{name}.bias", linear.bias)

    def put_convolution(name: str, linear: Linear | QuantizedLinear) -> None:
        """A convolution around GLU; these have nearly all of the weights."""
        put(f"{name}.bias", linear.bias)
        if isinstance(linear, QuantizedLinear):
            put(f"{name}.weight", linear.weight, np.int8)
            put(f"{name}.weight_scales", linear.weight_scales)
            put(f"{name}.input_scales", linear.input_scales)
        else:
            fits = np.abs(linear.weight).max() <= np.finfo(np.float16).max
            put(f"{name}.weight", linear.weight, np.float16 if precision == "fp16" and fits else np.float32)

    if isinstance(network.encoder, np.ndarray):
        put("encoder.table", network.encoder)
    else:
        put_linear("encoder", network.encoder)
    epsilon = 0.0
    for i, layer in enumerate(network.layers):
        name = f"layers.{i}"
        put(f"{name}.lowpass", layer.lowpass[0] if layer.tied else np.stack(layer.lowpass))
        for j, highpass in enumerate(layer.highpass):
            put(f"{name}.highpass.{j}", highpass)
        if network.queue_scales is not None:
            put(f"{name}.queue_scales", network.queue_scales[:, i])
        put_convolution(f"{name}.mixing", layer.mixing)
        if layer.output is not None:
            put_convolution(f"{name}.output", layer.output)
        epsilon = layer.norm.epsilon
        for tensor, values in layer.norm.native_tensors().items():
            put(f"{name}.{tensor}", values)
    put_linear("head", network.head)
    metadata = {
        "format": "multires-weights",
        "version": str(VERSION),
        "precision": precision,
        "queues": str(network.queue_type),
        **{size: str(getattr(config, size) or 0) for size in _SIZES},
        **frame_metadata(config, pooling),
        "norm_epsilon": repr(epsilon),
        **{key: str(value) for key, value in plain(config).items() if key in _BLOCK},
        **({} if network.layers[0].tied else {"filters": "untied"}),
        **(_card_metadata(card) if card else {}),
        **({} if config.output_activation is None else {"output": "probabilities"}),
    }
    return _safetensors(tensors, metadata)


def _card_metadata(card: Card) -> dict[str, str]:
    facts: dict[str, Any] = {"labels": card.labels, "output": card.output}
    if card.preprocessing is not None:
        high_pass = card.preprocessing.high_pass
        facts |= vars(card.preprocessing)
        facts["high_pass"] = high_pass and tuple(plain(high_pass).values())
        del facts["usable_channels"]  # programs without this package do not judge channels
    lines = {key: value if isinstance(value, tuple) else (value,) for key, value in facts.items()}
    return {key: "\n".join(_line(item) for item in items) for key, items in lines.items() if items != (None,)}


def _line(value: Any) -> str:
    """A number with all its digits, or a name without characters that cannot be printed."""
    return "".join(c if c.isprintable() else " " for c in str(value))


def _safetensors(tensors: dict[str, NDArray[Any]], metadata: dict[str, str]) -> bytes:
    """The safetensors format. Its library orders metadata differently at each call."""
    header: dict[str, Any] = {"__metadata__": metadata}
    offset = 0
    # Wide types first, so that each tensor begins at a multiple of its item size.
    ordered = sorted(tensors.items(), key=lambda item: -item[1].itemsize)
    for name, array in ordered:
        end = offset + array.nbytes
        header[name] = {
            "dtype": _TYPE_NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = [array.astype(array.dtype.newbyteorder("<")).tobytes() for _, array in ordered]
    return b"".join([len(text).to_bytes(8, "little"), text, *data])
