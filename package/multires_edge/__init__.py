"""multires-edge: trained MultiresNets on edge devices."""

from __future__ import annotations

from typing import Any

__all__ = ["__version__", "calibration", "export", "models", "runtime"]


def __getattr__(name: str) -> Any:
    # Looking the version up takes longer than importing everything that a device's start needs.
    if name == "__version__":
        from importlib.metadata import version

        return version("multires-edge")
    if name in __all__:
        from importlib import import_module

        return import_module(f"multires_edge.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
