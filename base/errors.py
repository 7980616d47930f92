"""The one family of exceptions that the package raises for what a user can put right.

A message says what was given, what was expected and what to do. Anything that is not a
:class:`MultiresError` and reaches a user is a bug.
"""

from __future__ import annotations


class MultiresError(Exception):
    """Base of every error that the package raises on purpose."""


class CheckpointError(MultiresError, ValueError):
    """A checkpoint that cannot be read, or is not a MultiresNet."""


class ConfigError(MultiresError, ValueError):
    """A network configuration that is incomplete or contradicts itself; names the missing option."""


class CardError(MultiresError, ValueError):
    """A model card (normalisation, leads, labels) that does not fit."""


class DataError(MultiresError, ValueError):
    """A data file that cannot be used: wrong keys, shapes, dtypes or values."""


class InputError(MultiresError, ValueError):
    """An array given to a graph or a stream with the wrong shape, dtype or non-finite values."""


class BundleError(MultiresError, ValueError):
    """A bundle that is missing, damaged, changed since it was written, or of an unknown version."""


class OutputError(MultiresError, OSError):
    """A bundle or file that cannot be written: it exists already, or the disk is full or read-only."""


class BackendError(MultiresError, RuntimeError):
    """A backend, precision or provider that this installation or this bundle does not have."""


class StateError(MultiresError, ValueError):
    """A saved state of another model or batch, or a stream used where its state forbids it."""


class OverflowedError(MultiresError, ArithmeticError):
    """Finite inputs drove the network outside the range of its precision."""


class MissingExtraError(MultiresError, ImportError):
    """An optional dependency is not installed; the message says which extra has it."""

    def __init__(self, module: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs {module}, which is not installed: pip install 'multires-edge[{extra}]'"
        )
