"""The exceptions for errors that a user can correct.

A message says what was given, what was expected and what to do. Any other exception that reaches a user
is a bug.
"""

from __future__ import annotations

import importlib.util


class MultiresError(Exception):
    """The base of every exception that the package raises on purpose."""


class CheckpointError(MultiresError, ValueError):
    """A checkpoint that cannot be read, or is not a MultiresNet."""


class ConfigError(MultiresError, ValueError):
    """A network configuration that is incomplete or contradictory. The message names the missing option."""


class ModuleError(MultiresError, ValueError):
    """A PyTorch module that cannot become a stream. The message names the operator and the line."""


class CardError(MultiresError, ValueError):
    """A card (normalization, leads, labels) that does not fit the network."""


class DataError(MultiresError, ValueError):
    """A data file that cannot be used: wrong keys, shapes, dtypes or values."""


class InputError(MultiresError, ValueError):
    """An input of a graph or a stream with a wrong shape or dtype, or with non-finite values."""


class BundleError(MultiresError, ValueError):
    """A bundle that is missing, damaged, changed after its export, or of an unknown version."""


class SignatureError(BundleError):
    """A bundle that is not signed with a key, or changed since; or a key that cannot be used."""


class OutputError(MultiresError, OSError):
    """A bundle or file that cannot be written: it exists, or the disk is full or read-only."""


class BackendError(MultiresError, RuntimeError):
    """A backend, precision or provider that the installation or the bundle does not have."""


class StateError(MultiresError, ValueError):
    """A saved state of another model or batch, or a stream used where its state forbids it."""


class OverflowedError(MultiresError, ArithmeticError):
    """Finite inputs caused an overflow inside the network."""


# Of modules with another name.
_PACKAGES = {"PIL": "pillow"}


class MissingExtraError(MultiresError, ImportError):
    """A missing optional dependency. The message names the extra that installs it."""

    def __init__(self, module: str, extra: str, purpose: str) -> None:
        from multires_edge.base.installation import pip_install

        package = _PACKAGES.get(module, module)
        super().__init__(f"{purpose} needs {package}, which is not installed: {pip_install(extra)}")


def require_extra(extra: str, purpose: str, *modules: str) -> None:
    """Raise MissingExtraError unless the modules of an extra are installed."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(module, extra, purpose)
