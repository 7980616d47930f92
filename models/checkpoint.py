"""Read a checkpoint file without running anything in it.

Accepted: what the published training scripts save (``{'model': ..., 'optimizer': ..., ...}`` with
``module.`` before every key), a bare state dict, and ``.safetensors``.
"""

from __future__ import annotations

import pickle
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multires_edge.base.errors import CheckpointError, require_extra
from multires_edge.base.files import sha256_of
from multires_edge.models.training_args import TrainingArgs, read_training_args

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Checkpoint:
    """A state dict as read from a file, with the training arguments next to the file.

    ``tensors`` are on the CPU, in the file's dtypes, without the ``module.`` prefix.
    """

    path: Path
    sha256: str
    tensors: dict[str, Tensor]
    training_args: TrainingArgs | None


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint file, and ``args.txt`` if it is next to the file.

    Raises CheckpointError for a file that is missing, truncated, damaged or not a checkpoint, and for a
    pickle that asks for anything except tensors and numbers. Nothing in a pickle is run.
    """
    path = Path(path)
    check_file(path)
    load = _load_safetensors if path.suffix == ".safetensors" else _load_pickle
    tensors = _state_dict(path, load(path))
    beside = [path.with_name("args.txt"), path.resolve().with_name("args.txt")]
    found = next((candidate for candidate in beside if candidate.is_file()), None)
    args = None if found is None else read_training_args(found)
    return Checkpoint(path, sha256_of(path), tensors, args)


def check_file(path: Path) -> None:
    """Raise CheckpointError for a file that is missing or empty, which needs no torch."""
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        raise CheckpointError(f"{path}: {what}; expected a checkpoint such as ckpt.pth")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path}: the file is empty; was its copy interrupted?")


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    require_extra("export", "reading a .safetensors file", "torch", "safetensors")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path, device="cpu"))
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a complete safetensors file ({error})") from error


def _load_pickle(path: Path) -> Any:
    require_extra("export", "reading a checkpoint", "torch")
    import torch

    ignored: list[Any] = [(NumpyScalar, name) for name in _NUMPY_SCALARS]
    try:
        with torch.serialization.safe_globals([NumpyScalar, *ignored]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if wanted is None:
            raise CheckpointError(f"{path}: not a PyTorch checkpoint, or damaged; nothing was run") from error
        raise CheckpointError(
            f"{path}: its pickle asks for {wanted[1]}, but only tensors and numbers are read; nothing was "
            "run. Save the state dict alone, or as .safetensors"
        ) from error
    except Exception as error:
        # The reader fails in many ways on a damaged file. The file is at fault in all of them.
        reason = str(error).partition(". ")[0].partition("\n")[0] or type(error).__name__
        raise CheckpointError(
            f"{path}: not a PyTorch checkpoint, or truncated or damaged ({reason})"
        ) from error


class NumpyScalar:
    """What becomes of a numpy scalar in a pickle, such as ``val_acc``, and of its dtype.

    Nothing uses them, and numpy's own constructors crash on hostile arguments.
    """

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


# By the names of numpy 1 and 2.
_NUMPY_SCALARS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype")


def _state_dict(path: Path, loaded: Any) -> dict[str, Tensor]:
    import torch

    if isinstance(loaded, dict) and isinstance(loaded.get("model"), dict):
        loaded = loaded["model"]
    if not isinstance(loaded, dict) or not loaded:
        raise CheckpointError(
            f"{path}: contains a {type(loaded).__name__}, expected a state dict or the dict that the "
            "training script saves, with the state dict under 'model'"
        )
    tensors = {}
    for key, value in loaded.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise CheckpointError(
                f"{path}: entry {key!r} is a {type(value).__name__}, expected a state dict of tensors"
            )
        tensors[key.removeprefix("module.")] = value.detach()
    if len(tensors) != len(loaded):
        raise CheckpointError(f"{path}: some names occur both with and without 'module.'")
    return tensors
