"""Reading a wheel of this package, of which a device or a server takes parts."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

ENGINE = r"multires_edge/runtime/backends/_engine\.(so|pyd)"


def read_members(wheel: Path, pattern: str) -> dict[str, bytes]:
    """The files of a wheel whose names fit a pattern. Raises OSError or zipfile.BadZipFile."""
    with zipfile.ZipFile(wheel) as packed:
        return {name: packed.read(name) for name in packed.namelist() if re.fullmatch(pattern, name)}
