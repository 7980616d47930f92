"""The build backend: scikit-build-core, a fingerprint in the engine, and a bill of materials in every wheel.

interface.py has the fingerprint. scikit-build-core cannot add the bill (PEP 770): CMake may install files
into .dist-info, but pip then cannot build the wheel.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import interface
import sbom
from scikit_build_core import build
from scikit_build_core.build import *  # noqa: F403, the hooks of PEP 517 and PEP 660


def build_wheel(  # type: ignore[no-redef]
    wheel_directory: str, config_settings: dict[str, Any] | None = None, metadata_directory: str | None = None
) -> str:
    """Build a wheel into a folder; returns its name."""
    name = build.build_wheel(wheel_directory, _with_interface(config_settings), metadata_directory)
    sbom.add_to(Path(wheel_directory, name))
    return name


def build_editable(  # type: ignore[no-redef]
    wheel_directory: str, config_settings: dict[str, Any] | None = None, metadata_directory: str | None = None
) -> str:
    """Build the wheel of an editable installation into a folder; returns its name."""
    return build.build_editable(wheel_directory, _with_interface(config_settings), metadata_directory)


def _with_interface(settings: dict[str, Any] | None) -> dict[str, Any]:
    return {**(settings or {}), "cmake.define.MULTIRES_INTERFACE": interface.fingerprint()}
