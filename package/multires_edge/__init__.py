"""multires-edge: trained MultiresNets on edge devices."""

from __future__ import annotations

from typing import Any

__all__ = ["__version__"]


def __getattr__(name: str) -> Any:
    # Looking the version up takes longer than importing everything that a device's start needs.
    if name == "__version__":
        from importlib.metadata import version

        return version("multires-edge")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
