"""Infer a configuration from tensors and training arguments; ask for the rest by option."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from multires_edge.base.errors import CheckpointError, ConfigError
from multires_edge.format.config import ModelConfig, TreeSelect, depth_for_length
from multires_edge.format.pooling import NO_POOLING, Window, pooling_named
from multires_edge.models.checkpoint import Checkpoint
from multires_edge.models.training_args import TRAINING_LENGTHS, TrainingArgs


@dataclass(frozen=True)
class Overrides:
    """Facts that the user gives. They take precedence over ``args.txt``, never over the tensors.

    ``weights`` names one of several networks in a checkpoint. ``pool`` is a pooling as in an export, or
    "none" for an output at every step; ``shifted`` says whether the network shifts its input by one step.
    ``output_activation`` is the function that a network ends with, such as "sigmoid". ``block`` has what a
    residual block computes, by the names of ModelConfig's fields.
    """

    tree_select: TreeSelect | None = None
    depth: int | None = None
    training_length: int | None = None
    weights: str | None = None
    encoder: Literal["linear", "token"] | None = None
    pool: str | None = None
    shifted: bool | None = None
    output_activation: str | None = None
    block: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Inferred:
    """A configuration, and what was assumed because neither the checkpoint nor the user said it."""

    config: ModelConfig
    assumed: tuple[str, ...]


def infer_config(checkpoint: Checkpoint, overrides: Overrides) -> Inferred:
    """The configuration of a checkpoint. A warning tells each assumption.

    Raises CheckpointError if the tensors are not a MultiresNet's, and ConfigError if an option is
    needed, which the message names.
    """
    if checkpoint.config is not None:
        return Inferred(_recorded(checkpoint, checkpoint.config, overrides), ())
    from multires_edge.models.block_inference import assumed_block, infer_block

    shapes = {name: tuple(tensor.shape) for name, tensor in checkpoint.tensors.items()}

    def shape(name: str, rank: int) -> tuple[int, ...]:
        if name not in shapes:
            raise CheckpointError(
                f"{checkpoint.path}: not a complete MultiresNet checkpoint, it has no tensor {name}"
            )
        if len(shapes[name]) != rank:
            raise CheckpointError(
                f"{checkpoint.path}: {name} has shape {shapes[name]}, expected {rank} dimensions"
            )
        return shapes[name]

    if len(shapes.get("encoder.weight", ())) == 2:
        (n_tokens, d_model), taps = shape("encoder.weight", 2), 1
        encoder: dict[str, Any] = {"encoder": "token", "d_input": None, "n_tokens": n_tokens}
    else:
        d_model, d_input, taps = shape("encoder.weight", 3)
        encoder = {"encoder": "linear", "d_input": d_input, "n_tokens": None}
        encoder["encoder_kernel_size"] = taps if taps > 1 else None
    untied = len(shapes.get("seq_layers.0.h0", ())) == 4
    kernel_size = shape("seq_layers.0.h0", 4 if untied else 3)[-1]
    columns = shape("seq_layers.0.w", 2)[1]
    layers = {int(m[1]) for name in shapes if (m := re.match(r"seq_layers\.(\d+)\.", name))}
    task = "autoregressive" if "decoder.weight" in shapes else "classification"
    head_name = "decoder.weight" if task == "autoregressive" else "output_mapping.weight"
    head = shape(head_name, 3 if task == "autoregressive" else 2)
    if kernel_size < 2 or columns < 3:
        raise CheckpointError(
            f"{checkpoint.path}: a layer has {kernel_size} taps and {columns} memory weights, expected at "
            "least 2 and 3"
        )
    shape("mixing_layers.0.0.weight", 3)
    tree_select, assumed = _tree_select(checkpoint, overrides, columns, kernel_size)
    pooling = _pooling(checkpoint, overrides, head_name, head[1], d_model)
    if pooling not in (None, NO_POOLING):
        task = "classification"
    shifted = overrides.shifted
    if checkpoint.training_args is None or not checkpoint.training_args.complete:
        if pooling is None:
            assumed += ("an output at every step" if task == "autoregressive" else "pooling by the mean",)
        if shifted is None and task == "autoregressive":
            assumed += ("inputs shifted by one step",)
    if taps > 1:
        assumed += (f"a causal encoder: zeros before the first step, for its kernel of {taps}",)
    args = checkpoint.training_args
    stated = stated_block(checkpoint, overrides)
    config = ModelConfig(
        task=cast(Any, task),
        **encoder,
        d_output=head[0],
        d_model=d_model,
        n_layers=len(layers),
        kernel_size=kernel_size,
        depth=_depth(checkpoint, overrides, tree_select, columns, kernel_size),
        tree_select=tree_select,
        memory_size=columns - 1 if tree_select == "uniform" else None,
        **infer_block(checkpoint, stated, d_model, autoregressive=task == "autoregressive"),
        pooling=pooling,
        shifted=shifted,
        output_activation=overrides.output_activation,
    )
    if args is not None:
        _check_args(checkpoint, args, config)
    if args is None or not args.complete:
        assumed += assumed_block(config, stated)
    return Inferred(config, assumed)


def stated_block(checkpoint: Checkpoint, overrides: Overrides) -> dict[str, Any]:
    """The fields of a block that the user or the training options say; the user's word counts more."""
    args = checkpoint.training_args
    return {**(args.block if args is not None else {}), **overrides.block}


def stated_fields(checkpoint: Checkpoint, overrides: Overrides) -> dict[str, Any]:
    """What they say of that which no shape says, by the names of overrides and of a block's fields."""
    args = checkpoint.training_args
    frame = {
        "tree_select": _stated_tree(checkpoint, overrides),
        "pool": (None if _is_window(overrides.pool) else overrides.pool) or (args.pool if args else None),
        "shifted": overrides.shifted,
        "output_activation": overrides.output_activation,
    }
    said = {name: value for name, value in frame.items() if value is not None}
    return stated_block(checkpoint, overrides) | said


def _stated_tree(checkpoint: Checkpoint, overrides: Overrides) -> TreeSelect | None:
    args = checkpoint.training_args
    by_args = None if args is None else args.tree_select or ("fading" if args.complete else None)
    return overrides.tree_select or cast(TreeSelect | None, by_args)


def _pooling(checkpoint: Checkpoint, overrides: Overrides, name: str, width: int, d_model: int) -> str | None:
    """The kind of pooling, as the user or the training options say; None for that of the published network.

    ``width`` is the number of values that the head reads.
    """
    args = checkpoint.training_args
    stated = _kind_of(checkpoint, overrides.pool, per_step=name.startswith("decoder"))
    if args is not None and args.pool is not None and (stated is None or _is_window(overrides.pool)):
        stated = args.pool
    kinds = 1 if stated in (None, NO_POOLING) else len(stated.split("+"))
    if width != kinds * d_model:
        said = "nothing says its pooling" if stated is None else f"pooling {stated} gives {kinds * d_model}"
        raise ConfigError(
            f"{checkpoint.path}: {name} reads {width} values of {d_model} channels, and {said}: give --pool "
            "with each of its poolings in order, such as mean+max+last"
        )
    return stated


def _is_window(pool: str | None) -> bool:
    """Whether an option says how a stream pools, and not what the network was trained with."""
    return pool is not None and isinstance(pooling_named(pool), Window)


def _kind_of(checkpoint: Checkpoint, pool: str | None, *, per_step: bool) -> str | None:
    """The kind of pooling of an option, such as "mean" for "window:9"; None if it says nothing of it."""
    pooling = None if pool is None else pooling_named(pool)
    if pooling is None:
        return pool
    if per_step and pool != pooling.kind:  # how a stream takes the mean
        warnings.warn(
            f"{checkpoint.path}: pool {pool} ignored, the network has an output at every step. If it pools, "
            f"give --pool {pooling.kind}",
            stacklevel=4,
        )
        return None
    return pooling.kind


def _recorded(checkpoint: Checkpoint, config: ModelConfig, overrides: Overrides) -> ModelConfig:
    """The configuration that the checkpoint has, which options must not contradict."""
    pool = None if _is_window(overrides.pool) and not config.per_step else overrides.pool
    for name, stated, found in (
        ("tree-select", overrides.tree_select, config.tree_select),
        ("depth", overrides.depth, config.depth),
        ("encoder", overrides.encoder, config.encoder),
        ("pool", _kind_of(checkpoint, pool, per_step=config.per_step), config.kind_of_pooling),
        ("output-activation", overrides.output_activation, config.output_activation),
        *((f"block {name}", value, _part(config, name)) for name, value in overrides.block.items()),
    ):
        if stated not in (None, found):
            raise ConfigError(
                f"--{name} {stated} contradicts the configuration in {checkpoint.path}: {found}"
            )
    if overrides.shifted not in (None, config.shifts):
        given = "--shifted" if overrides.shifted else "--unshifted"
        raise ConfigError(f"{given} contradicts the configuration in {checkpoint.path}")
    return config


def _part(config: ModelConfig, name: str) -> Any:
    """A part of a block of a configuration."""
    return config.second_convolution if name == "mixing_output" else getattr(config, name)


def _check_args(checkpoint: Checkpoint, args: TrainingArgs, config: ModelConfig) -> None:
    """Refuse an ``args.txt`` that contradicts the tensors: its depth or tree may be wrong too."""
    memory = config.memory_size if config.tree_select == "uniform" else args.d_mem
    for name, stated, found in (
        ("kernel_size", args.kernel_size, config.kernel_size),
        ("n_layers", args.n_layers, config.n_layers),
        ("d_model", args.d_model, config.d_model),
        ("d_mem", args.d_mem, memory),
        ("batchnorm", args.batchnorm, config.norm == "batch"),
        ("depth", args.depth if config.tree_select == "fading" else None, config.depth),
    ):
        if stated is None or stated == found:
            continue
        if not args.complete:  # other programs mean other things by these names
            warnings.warn(f"{args.origin}: {name} {stated} ignored, the tensors have {found}", stacklevel=4)
            continue
        raise ConfigError(
            f"{args.origin}: has --{name} {stated}, but the tensors of {checkpoint.path.name} have "
            f"{found}. It belongs to another run: replace or remove it"
        )


def _tree_select(
    checkpoint: Checkpoint, overrides: Overrides, columns: int, kernel_size: int
) -> tuple[TreeSelect, tuple[str, ...]]:
    """The kind of tree, and what was assumed about it."""
    args = checkpoint.training_args
    stated = _stated_tree(checkpoint, overrides)
    if stated is not None:
        return stated, ()
    # The tensors of both trees have the same shapes. The default of the published scripts is the better
    # guess, unless it gives an absurdly deep tree: memory sizes are far larger than depths.
    depth = columns - 2
    doubt = f"{columns} memory weights are unusual" if (kernel_size - 1) << depth > 1 << 16 else None
    if args is not None and args.depth not in (None, depth):
        doubt = f"the depth {args.depth} of {args.origin} is not that of {columns} memory weights"
    if doubt is not None:
        raise ConfigError(
            f"{checkpoint.path}: nothing says its kind of tree, and {doubt} for a fading tree: give "
            "--tree-select uniform with --depth N, or --tree-select fading"
        )
    assumed = f"a fading tree of depth {depth}: no args.txt, hyper-parameter or option says its kind"
    warnings.warn(
        f"{checkpoint.path}: assumed {assumed}. For a uniform tree, give --tree-select uniform --depth N",
        stacklevel=3,
    )
    return "fading", (assumed,)


def _depth(
    checkpoint: Checkpoint,
    overrides: Overrides,
    tree_select: TreeSelect,
    columns: int,
    kernel_size: int,
) -> int:
    args = checkpoint.training_args
    stated, option = overrides.depth, f"--depth {overrides.depth}"
    if stated is None and overrides.training_length is not None:
        stated = depth_for_length(overrides.training_length, kernel_size)
        option = f"--training-length {overrides.training_length}"
    if tree_select == "fading":
        depth = columns - 2
        if stated not in (None, depth):
            raise ConfigError(
                f"{option} contradicts the checkpoint: seq_layers.0.w has {columns} columns, so its "
                f"fading tree has depth {depth}"
            )
        return depth
    if stated is not None:
        return stated
    if args is not None and args.depth is not None:
        return args.depth
    if args is not None and args.dataset in TRAINING_LENGTHS:
        return depth_for_length(TRAINING_LENGTHS[args.dataset], kernel_size)
    raise ConfigError(
        f"{checkpoint.path}: the tensors of a uniform tree do not contain its depth: give --depth N, or "
        "--training-length N with the length of the training sequences"
    )
