"""The build backend: scikit-build-core, and a bill of materials in every wheel (PEP 770).

scikit-build-core cannot do this: CMake may install files into .dist-info, but pip then cannot build the
wheel.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sbom
from scikit_build_core import build
from scikit_build_core.build import *  # noqa: F403, the hooks of PEP 517 and PEP 660


def build_wheel(  # type: ignore[no-redef]
    wheel_directory: str, config_settings: dict[str, Any] | None = None, metadata_directory: str | None = None
) -> str:
    """Build a wheel into a folder; returns its name."""
    name = build.build_wheel(wheel_directory, config_settings, metadata_directory)
    sbom.add_to(Path(wheel_directory, name))
    return name
