"""Unpickle a checkpoint by torch's restricted unpickler. Nothing in a file is imported or run.

Classes that are only baggage, such as a Namespace of training options, become placeholders.
"""

from __future__ import annotations

import io
import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from multires_edge.base.errors import CheckpointError, require_extra
from multires_edge.base.files import read_regular
from multires_edge.format.fields import shortened
from multires_edge.models.pickle_check import PickleError, check_checkpoint

# Modules of classes that occur beside weights. Their objects become placeholders.
_BAGGAGE = {
    "argparse", "collections", "dataclasses", "datetime", "decimal", "enum", "functools", "hydra",
    "lightning", "lightning_fabric", "numpy", "omegaconf", "pathlib", "pytorch_lightning", "torchmetrics",
    "transformers", "types", "typing", "uuid", "zoneinfo",
}  # fmt: skip
# How typing.Dict[str, Any] is pickled, which OmegaConf keeps with its values.
_BAGGAGE_FUNCTIONS = {"_operator.getitem"}
_BAGGAGE_OF_TORCH = ("torch.optim.", "torch.nn.modules.", "torch.torch_version.")
_TYPES = {
    "Ellipsis", "bool", "bytes", "dict", "float", "int", "list", "object", "str", "tuple", "type",
}  # fmt: skip
_MAPPINGS = {"AttributeDict", "EasyDict", "Munch", "defaultdict"}
_MOST_CLASSES = 200


class Placeholder:
    """What becomes of an object whose class is not needed: its values, which nothing interprets."""

    arguments: tuple[Any, ...]
    state: Any

    # Some objects are made without a call of __init__.
    def __new__(cls, *arguments: Any) -> Placeholder:
        self = super().__new__(cls)
        self.arguments, self.state = arguments, None
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Mapping:
    """What becomes of a class derived from dict: the unpickler sets items of plain mappings only."""

    def __new__(cls, *_: Any) -> Any:
        return OrderedDict()


def _list(*_: Any) -> list[Any]:
    """What becomes of a deque."""
    return []


def load_pickle(path: Path) -> Any:
    """The content of a file that ``torch.save`` wrote, on the CPU.

    Raises CheckpointError for a file that is truncated, damaged or of another kind, and for a pickle that
    asks for anything except tensors, numbers and baggage.
    """
    require_extra("export", "reading a checkpoint", "torch")
    try:
        content = read_regular(path)
        check_checkpoint(content)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    except PickleError as error:
        raise CheckpointError(
            f"{path}: not a PyTorch checkpoint that can be read: {error}; nothing was run"
        ) from error
    placeholders: dict[str, Callable[..., Any]] = {}
    while True:
        try:
            return _load(content, placeholders)
        except pickle.UnpicklingError as error:
            asked = re.search(r"GLOBAL (\S+)", str(error))
            if asked is None:
                raise CheckpointError(
                    f"{path}: not a PyTorch checkpoint, or damaged; nothing was run"
                ) from error
            # The unpickler names builtins without their module.
            name = asked[1] if "." in asked[1] else f"builtins.{asked[1]}"
            placeholder = _placeholder(name)
            if placeholder is None or name in placeholders or len(placeholders) == _MOST_CLASSES:
                raise CheckpointError(
                    f"{path}: its pickle asks for {shortened(asked[1])}, but only tensors, numbers and "
                    "options are read; nothing was run. Save the state dict alone, or as .safetensors"
                ) from error
            placeholders[name] = placeholder
        except Exception as error:
            # The reader fails in many ways on a damaged file. The file is at fault in all of them.
            reason = shortened(str(error).partition(". ")[0].partition("\n")[0] or type(error).__name__)
            raise CheckpointError(
                f"{path}: not a PyTorch checkpoint, or truncated or damaged ({reason})"
            ) from error


def _load(content: bytes, placeholders: dict[str, Callable[..., Any]]) -> Any:
    import torch

    allowed: list[Any] = [(placeholder, name) for name, placeholder in placeholders.items()]
    # A placeholder's own class must be allowed for its state to be set.
    with torch.serialization.safe_globals([Placeholder, *allowed]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _placeholder(name: str) -> Callable[..., Any] | None:
    """The placeholder for a class or function; None if it is no baggage."""
    module, _, last = name.rpartition(".")
    if module == "builtins":
        return Placeholder if last in _TYPES else None
    known = module.partition(".")[0] in _BAGGAGE or name in _BAGGAGE_FUNCTIONS
    if not known and not name.startswith(_BAGGAGE_OF_TORCH):
        return None
    if last in _MAPPINGS:
        return _Mapping
    return _list if name == "collections.deque" else Placeholder


def plain_options(value: Any) -> Any:
    """Options as nested dictionaries; a placeholder may hold those of a Namespace or of OmegaConf."""
    return _plain(value, 0)


def _plain(value: Any, depth: int) -> Any:
    if depth > 16:  # of options that contain themselves
        return None
    if isinstance(value, Placeholder):
        state = value.state
        if isinstance(state, dict) and "_content" in state:  # a DictConfig
            state = state["_content"]
        elif isinstance(state, dict) and "_val" in state:  # a value of a DictConfig
            state = state["_val"]
        return _plain(state, depth + 1)
    if isinstance(value, dict):
        return {key: _plain(item, depth + 1) for key, item in value.items() if isinstance(key, str)}
    return value
