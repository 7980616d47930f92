"""How a network is laid out for the kernel: its constants as network.h, and its weights in one block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multires_edge.base.errors import BackendError
from multires_edge.runtime.backends.cuda.network import POOLINGS, Matrix, Network

SHARED_BYTES = 48 << 10  # what every GPU gives a block without being asked
_MOST_WEIGHTS = 1 << 31
_COLUMNS = _GROUP = 4  # of products.h
_ALIGNMENT = 16
_WARP, _MOST_THREADS = 32, 512
_ROWS = (4, 2, 1)
_QUEUES = {"float32": "float", "float16": "unsigned short", "int8": "signed char"}
_TYPES = {np.dtype("<f4"): "kFloat32", np.dtype("<f2"): "kFloat16", np.dtype("i1"): "kInt8"}


@dataclass(frozen=True)
class Plan:
    """A network for blocks of ``rows`` streams and ``threads`` threads.

    ``header`` is network.h, ``weights`` the weights that it describes. ``scratch`` are the bytes of global
    memory for each block, 0 if its values fit into shared memory.
    """

    header: str
    weights: bytes
    threads: int
    rows: int
    scratch: int


def rows_for(batch: int, multiprocessors: int) -> int:
    """The streams of a block: as many as leave every multiprocessor two blocks."""
    return next(rows for rows in _ROWS if rows == 1 or batch >= 2 * rows * multiprocessors)


def make_plan(network: Network, rows: int, threads: int | None = None) -> Plan:
    """Lay out a network for blocks of at most ``rows`` streams. Raises BackendError if it is too large."""
    weights = _Weights(network)
    if len(weights.content) > _MOST_WEIGHTS:
        raise BackendError("the network has more than 2 GiB of weights; use backend native")
    threads = threads or threads_for(network)
    ahead, (places, size) = True, _memory(network, threads, rows, ahead=True)
    while size > SHARED_BYTES and rows > 1:
        rows //= 2
        places, size = _memory(network, threads, rows, ahead=True)
    if size > SHARED_BYTES:
        ahead, (places, size) = False, _memory(network, threads, rows, ahead=False)
    in_shared = size <= SHARED_BYTES
    header = _header(
        _constants(network, weights)
        | {"kThreads": threads, "kRows": rows, "kAhead": ahead, "kInShared": in_shared, "kScratch": size}
        | places,
        _tables(network, weights),
        network.queues,
    )
    return Plan(header, weights.content, threads, rows, 0 if in_shared else size)


def threads_for(network: Network) -> int:
    """Four slices of the inputs of a mixing, in whole warps. They do not depend on the rows of a block."""
    groups = -(-network.d_model * (2 if network.gated else 1) // _COLUMNS)
    return min(max(-(-4 * groups // _WARP) * _WARP, _WARP), _MOST_THREADS)


def _memory(network: Network, threads: int, rows: int, *, ahead: bool) -> tuple[dict[str, int], int]:
    """The places of a block's values in its memory, in bytes, and the bytes of all."""
    d = network.d_model
    widest = max(d * (2 if network.gated else 1), network.outputs)
    partial = _COLUMNS * max(threads, -(-widest // _COLUMNS))
    sizes = {
        "kPositionsAt": 2,
        "kHeadsAt": network.depth,
        "kSamplesAt": max(network.channels * network.encoder_taps, 1),
        "kFeaturesAt": d,
        "kInputsAt": d,
        "kBytesAt": -(-d // _GROUP) if _has(network, np.int8) else 1,
        "kPastAt": d * (network.n_layers if ahead else 1),
        "kPooledAt": network.head_inputs,
        "kPartialAt": partial,
    }
    places: dict[str, int] = {}
    end = 0
    for name, values in sizes.items():
        places[name] = end
        end += -(-4 * rows * values // _ALIGNMENT) * _ALIGNMENT
    return places | {"kPartial": partial}, end


class _Weights:
    """The tensors of a network one after another, and where each is."""

    def __init__(self, network: Network) -> None:
        self._parts: list[bytes] = []
        self._end = 0
        self.table = 0 if network.table is None else self._put(network.table)
        self.encoder = _no_matrix() if network.encoder is None else self._put_matrix(network.encoder)
        self.layers = [
            _braces(
                self._put(layer.filters),
                self._put_matrix(layer.mixing),
                _no_matrix() if layer.second is None else self._put_matrix(layer.second),
                self._put(layer.norm_scale),
                self._put(layer.norm_shift),
            )
            for layer in network.layers
        ]
        self.head = self._put_matrix(network.head)
        self.content = b"".join(self._parts)

    def _put(self, array: NDArray[Any]) -> int:
        place, data = self._end, np.ascontiguousarray(array).tobytes()
        data += bytes(-len(data) % _ALIGNMENT)
        self._parts.append(data)
        self._end += len(data)
        return place

    def _put_matrix(self, matrix: Matrix) -> str:
        place, bias = self._put(in_quads(matrix.weights)), self._put(matrix.bias)
        scales = reciprocals = 0
        if matrix.scales is not None and matrix.input_scales is not None:
            scales, reciprocals = self._put(matrix.scales), self._put(np.float32(1) / matrix.input_scales)
        return _braces(f"Type::{_TYPES[matrix.weights.dtype]}", place, bias, scales, reciprocals)


def in_quads(weights: NDArray[Any]) -> NDArray[Any]:
    """Weights (outputs, inputs) as products.h reads them.

    (inputs, outputs) in a float type, or (groups, outputs, 4) in int8, with zeros up to whole words.
    """
    outputs, inputs = weights.shape
    group = _GROUP if weights.dtype == np.int8 else 1
    padded = np.zeros((-(-outputs // _COLUMNS) * _COLUMNS, -(-inputs // group) * group), weights.dtype)
    padded[:outputs, :inputs] = weights
    quads: NDArray[Any] = padded.reshape(len(padded), -1, group).swapaxes(0, 1)
    return quads


def _has(network: Network, dtype: Any) -> bool:
    return any(
        matrix.weights.dtype == dtype
        for layer in network.layers
        for matrix in (layer.mixing, layer.second)
        if matrix is not None
    )


def _constants(network: Network, weights: _Weights) -> dict[str, int | bool | float | str]:
    channels = max(network.channels, 1)
    sample_bytes = 8 if network.tokens else 4 * network.channels
    return {
        "kChannels": channels,
        "kTokens": network.tokens,
        "kSampleBytes": sample_bytes,
        "kOutput": network.outputs,
        "kModel": network.d_model,
        "kLayers": network.n_layers,
        "kKernel": network.kernel_size,
        "kDepth": network.depth,
        "kTotalTaps": sum(network.taps),
        "kEncoderTaps": network.encoder_taps,
        "kEncoderInputs": channels * network.encoder_taps,
        "kWindow": network.window,
        "kPoolings": len(network.poolings),
        "kGroups": network.groups,
        "kUntied": network.untied,
        "kGated": network.gated,
        "kSecond": network.layers[0].second is not None,
        "kSomeFloat16": _has(network, np.float16),
        "kSomeInt8": _has(network, np.int8),
        "kActivation": f"Activation::{network.activation}",
        "kOutputActivation": f"OutputActivation::{network.output_activation}",
        "kNorm": f"Norm::{network.norm}",
        "kPlace": f"Place::{network.place}",
        "kEpsilon": float(np.float32(network.epsilon)),
        "kTableAt": weights.table,
    }


def _tables(network: Network, weights: _Weights) -> dict[str, tuple[str, list[str]]]:
    """The type and the rows of each table by name."""
    scales = []
    row = network.kernel_size * (network.depth if network.untied else 1) + 1
    for slots, taps in zip(network.slots, network.taps, strict=True):
        scales.append(_braces(slots, taps, row))
        row += taps - 1 + (2 if network.queues == "int8" else 0)
    poolings = [f"Pooling::{POOLINGS[name]}" for name in network.poolings]
    return {
        "kScales": ("Scale", scales),
        "kLayerTable": ("Layer", weights.layers),
        "kPoolingTable": ("Pooling", poolings or ["Pooling::kLast"]),
        "kEncoder": ("Matrix", [weights.encoder]),
        "kHead": ("Matrix", [weights.head]),
    }


def _header(
    constants: dict[str, int | bool | float | str],
    tables: dict[str, tuple[str, list[str]]],
    queues: str,
) -> str:
    lines = [
        "#pragma once",
        '#include "kinds.h"',
        '#include "platform.h"',
        f"using Queue = {_QUEUES[queues]};",
    ]
    lines += [f"constexpr {_type_of(value)} {name} = {_literal(value)};" for name, value in constants.items()]
    lines += [f"MULTIRES_TABLE {kind} {name}[] = {_braces(*rows)};" for name, (kind, rows) in tables.items()]
    return "\n".join(lines) + "\n"


def _type_of(value: int | bool | float | str) -> str:
    if isinstance(value, str):
        return value.partition("::")[0]
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1 << 31:
        return "long long"
    return type(value).__name__


def _literal(value: int | bool | float | str) -> str:
    if isinstance(value, float):
        return value.hex() + "f"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _braces(*values: int | str) -> str:
    return "{" + ", ".join(map(str, values)) + "}"


def _no_matrix() -> str:
    return _braces("Type::kFloat32", *[0] * 4)
