"""Read a checkpoint: the weights of a network, and what its training options say.

Nothing in a file is run. Files of PyTorch, Lightning, accelerate and transformers are read, with the weights
under any name and prefix, and ``.safetensors``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multires_edge.base.errors import CheckpointError, ConfigError
from multires_edge.format.config import ModelConfig
from multires_edge.format.fields import FieldError, read_fields
from multires_edge.models.containers import check_file, digest_of_files, read_content, weights_files
from multires_edge.models.equivalents import in_published_form
from multires_edge.models.pickle_check import MAX_EXPANSION
from multires_edge.models.training_args import TrainingArgs, read_options, read_training_args
from multires_edge.models.unpickling import plain_options
from multires_edge.models.weights import find_weights

if TYPE_CHECKING:
    from torch import Tensor

# Where programs keep the options of a training beside its weights.
_OPTIONS = ("hyper_parameters", "hparams", "args", "config", "cfg", "opt", "options")


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a network as read from a file or folder, with the options of its training.

    ``tensors`` are on the CPU, in the file's dtypes, under their published names and in their shapes.
    ``config`` is the configuration that the file has, as :func:`save_checkpoint` writes it, or None.
    """

    path: Path
    sha256: str
    tensors: dict[str, Tensor]
    training_args: TrainingArgs | None
    config: ModelConfig | None = None


def read_checkpoint(path: str | Path, weights: str | None = None, encoder: str | None = None) -> Checkpoint:
    """Read a checkpoint, and ``args.txt`` if it is next to it; else the options that the checkpoint has.

    ``weights`` names one of several networks in it, ``encoder`` says "linear" or "token". Raises
    CheckpointError for a file that is missing, truncated, damaged or not a checkpoint, and for a pickle that
    asks for anything except tensors, numbers and options; ConfigError if one of these must be given, or is
    wrong. Nothing in a pickle is run.
    """
    path = Path(path)
    check_file(path)
    content = read_content(path)
    tensors = in_published_form(path, find_weights(path, content, weights).tensors, encoder)
    files = weights_files(path)
    _check_sizes(path, tensors, sum(file.stat().st_size for file in files))
    args, config = _training_args(path, content), _recorded_config(content)
    return Checkpoint(path, digest_of_files(files), tensors, args, config)


def _check_sizes(path: Path, tensors: dict[str, Tensor], size: int) -> None:
    """Raise CheckpointError for tensors that are far larger than the file: views that repeat values."""
    given = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if given > MAX_EXPANSION * size:
        raise CheckpointError(f"{path}: its tensors have {given:,} bytes, but the file has {size:,}")


def _training_args(path: Path, content: Any) -> TrainingArgs | None:
    beside = [path / "args.txt"] if path.is_dir() else []
    beside += [path.with_name("args.txt"), path.resolve().with_name("args.txt")]
    for candidate in beside:
        if candidate.is_file():
            return read_training_args(candidate)
    if not isinstance(content, Mapping):
        return None
    for key in _OPTIONS:
        options = plain_options(content.get(key))
        if isinstance(options, dict) and (args := read_options(f"{path}: {key}", options)) is not None:
            return args
    return None


def _recorded_config(content: Any) -> ModelConfig | None:
    """The configuration that a program recorded beside the weights; other things of its name are ignored."""
    if not isinstance(content, Mapping):
        return None
    parameters = plain_options(content.get("hyper_parameters"))
    nested = parameters.get("config") if isinstance(parameters, dict) else None
    for candidate in (plain_options(content.get("config")), nested, parameters):
        with contextlib.suppress(FieldError, ConfigError):
            return read_fields(ModelConfig, candidate)
    return None
