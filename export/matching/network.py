"""Find the configuration and the weights of a MultiresNet in the forms of a program."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from multires_edge.base.errors import MultiresError
from multires_edge.export.matching.blocks import Block, Head, encoder_of, find_block, find_head
from multires_edge.export.matching.forms import Array, Embedded, Mixed, UnmatchedError
from multires_edge.export.matching.reading import Reader
from multires_edge.export.matching.trees import Tree
from multires_edge.export.trace.program import BATCH, TIME, Program
from multires_edge.format.config import ModelConfig
from multires_edge.models.network import MultiresNet

_ROUNDING = 1e-15  # relative, of a few operations in float64


def match_network(program: Program) -> MultiresNet:
    """The network of a program. Raises UnmatchedError.

    Its weights are in float64 if float32 would round them.
    """
    if len(program.inputs) != 1 or len(program.outputs) != 1:
        counts = f"{len(program.inputs)} inputs and {len(program.outputs)} outputs"
        raise UnmatchedError(f"the module has {counts}, expected one each")
    (given,), (output,) = program.inputs, program.outputs.values()
    shape = program.layouts[given].shape
    if len(shape) > 3 or (len(shape) < 3 and program.layouts[given].dtype.is_floating_point):
        raise UnmatchedError(f"the input is ({', '.join(map(str, shape))}), expected (batch, channels, time)")
    shape = program.layouts[output].shape
    if len(shape) != (3 if TIME in shape else 2) or shape[0] != BATCH:
        given_shape = ", ".join(map(str, shape))
        raise UnmatchedError(
            f"the output is ({given_shape}), expected (batch, outputs) or (batch, outputs, time)"
        )
    forms = Reader(program).forms
    head = find_head(forms[output], per_step=TIME in shape)
    blocks: list[Block] = []
    form = head.features
    while (encoder := encoder_of(form)) is None:
        block = find_block(form)
        blocks.insert(0, block)
        form = block.source
    if not blocks:
        raise UnmatchedError("the module has no block with filters over time")
    return _built(encoder, blocks, head)


def _built(encoder: Mixed | Embedded, blocks: list[Block], head: Head) -> MultiresNet:
    blocks = _with_one_norm(blocks)
    common, trees = blocks[0].fields, [block.tree for block in blocks]
    for block in blocks:
        for name, value in block.fields.items():
            if value != common[name]:
                raise UnmatchedError(
                    f"the blocks have different values of {name}: {common[name]} and {value}"
                )
    d = encoder.width
    source = encoder.source
    shifted = bool(source.terms[0].delay)
    if common["mixing_output"] == shifted:
        common["mixing_output"] = None  # as published
    try:
        config = ModelConfig(
            task="autoregressive" if shifted else "classification",
            encoder="token" if isinstance(encoder, Embedded) else "linear",
            d_input=None if isinstance(encoder, Embedded) else source.width,
            n_tokens=len(encoder.table) if isinstance(encoder, Embedded) else None,
            d_output=len(head.weight),
            d_model=d,
            n_layers=len(blocks),
            **_tree_fields(trees),
            **common,
            pooling=head.pooling,
            shifted=shifted,
            encoder_kernel_size=_encoder_taps(encoder),
            output_activation=head.activation,
        )
    except MultiresError as error:
        raise UnmatchedError(f"no configuration has this: {error}") from error
    state: dict[str, Array] = {}
    if isinstance(encoder, Embedded):
        state["encoder.weight"] = encoder.table
    else:
        state |= {"encoder.weight": encoder.weight[..., ::-1], "encoder.bias": encoder.bias}
    for i, block in enumerate(blocks):
        state |= _layer_state(config, block.tree, f"seq_layers.{i}")
        state |= _linear_state(f"mixing_layers.{i}.0", block.first, convolution=True)
        if block.second is not None:
            state |= _linear_state(f"mixing_layers.{i}.3", block.second, convolution=True)
        state |= _norm_state(f"norms.{i}", config, block)
    decoder = config.task == "autoregressive"
    state |= _linear_state(
        "decoder" if decoder else "output_mapping", (head.weight, head.bias), convolution=decoder
    )
    return _network(config, state)


def _network(config: ModelConfig, state: dict[str, Array]) -> MultiresNet:
    with torch.device("meta"):
        net = MultiresNet(config)
    expected = net.state_dict()
    exact = all(map(_fits_float32, state.values()))
    tensors = {
        name: torch.from_numpy(np.array(array, np.float32 if exact else np.float64, order="C"))
        for name, array in state.items()
    }
    for name, like in expected.items():
        if name.endswith("num_batches_tracked"):
            tensors[name] = torch.zeros((), dtype=torch.int64)
        elif tensors[name].shape != like.shape:
            raise UnmatchedError(f"{name} would have the shape {tuple(tensors[name].shape)}")
    net.load_state_dict(tensors, assign=True)
    return net.eval().requires_grad_(False)


def _fits_float32(array: Array) -> bool:
    """Whether float32 has these values, apart from what a formula has rounded in float64."""
    with np.errstate(over="ignore"):
        single = array.astype(np.float32).astype(np.float64)
    return bool(np.all(np.abs(array - single) <= _ROUNDING * np.abs(array)))


def _tree_fields(trees: list[Tree]) -> dict[str, Any]:
    depths = {(tree.depth, tree.kernel_size) for tree in trees}
    if len(depths) > 1:
        raise UnmatchedError(
            "the blocks have trees of different depths or kernels: "
            + ", ".join(f"{depth} with {size} taps" for depth, size in sorted(depths))
        )
    ((depth, kernel_size),) = depths
    fields: dict[str, Any] = {"kernel_size": kernel_size, "depth": depth}
    fields["filters"] = "tied" if all(tree.tied for tree in trees) else "untied"
    most = [max(tree.memory[j].shape[1] for tree in trees) for j in range(depth)]
    size = _memory_size(most, kernel_size)
    if max(most) <= 1 and (min(most) == 1 or size is None):
        return fields
    if size is None:
        raise UnmatchedError(
            f"the scales of a layer, the finest first, are remembered at {most} steps, as in no uniform tree"
        )
    return fields | {"tree_select": "uniform", "memory_size": size}


def _memory_size(counts: list[int], kernel_size: int) -> int | None:
    """The smallest memory size whose uniform tree has so many weights for each scale; None if no size has."""
    wanted, total = 1, 1
    for j, count in reversed(list(enumerate(counts))):
        if count > wanted:
            return None
        total += wanted if any(counts[:j]) else count
        wanted = 2 * (wanted - 1) + kernel_size
    return max(total, 2)


def _layer_state(config: ModelConfig, tree: Tree, name: str) -> dict[str, Array]:
    untied = config.filters == "untied"
    w = np.zeros((config.d_model, config.n_memory_weights))
    for columns, weights in zip(config.memory_columns(), tree.memory, strict=True):
        w[:, columns.start : columns.start + weights.shape[1]] = weights
    w[:, 0], w[:, -1] = tree.coarsest, tree.direct

    def filters(each: list[Array]) -> Array:
        by_time = [taps[:, None, ::-1] for taps in each]
        return np.stack(by_time) if untied else by_time[0]

    return {f"{name}.h0": filters(tree.lowpass), f"{name}.h1": filters(tree.highpass), f"{name}.w": w}


def _linear_state(name: str, linear: tuple[Array, Array], *, convolution: bool) -> dict[str, Array]:
    weight, bias = linear
    return {f"{name}.weight": weight[..., None] if convolution else weight, f"{name}.bias": bias}


def _norm_state(name: str, config: ModelConfig, block: Block) -> dict[str, Array]:
    if config.norm == "none":
        return {}
    state = {f"{name}.weight": block.norm.scale}
    if config.norm != "rms":
        state[f"{name}.bias"] = block.norm.shift
    if config.norm == "batch":
        state |= {
            f"{name}.running_mean": np.zeros(config.d_model),
            f"{name}.running_var": np.ones(config.d_model),
        }
    return state


def _with_one_norm(blocks: list[Block]) -> list[Block]:
    """A block without a norm has a batch norm that changes nothing, where others have one."""
    batch = next((block.norm for block in blocks if block.norm.kind == "batch"), None)
    if batch is None or any(block.norm.kind not in ("batch", "none") for block in blocks):
        return blocks
    return [
        replace(block, norm=replace(batch, scale=block.norm.scale, shift=block.norm.shift))
        for block in blocks
    ]


def _encoder_taps(encoder: Mixed | Embedded) -> int | None:
    taps = encoder.weight.shape[2] if isinstance(encoder, Mixed) else 1
    return taps if taps > 1 else None
