"""Reading a wheel of this package, of which a device or a server takes parts."""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import Path

from multires_edge.base.errors import ConfigError
from multires_edge.base.files import open_regular
from multires_edge.base.memory import available_memory

ENGINE = r"multires_edge/runtime/backends/_engine\.(so|pyd)"
# What the standard library raises for a damaged, encrypted or unknown archive.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


def read_members(wheel: Path, pattern: str) -> dict[str, bytes]:
    """The files of a wheel whose names fit a pattern. Their paths lead into no other folder.

    Raises ConfigError if the file is not a wheel of this package with the native engine.
    """
    try:
        with open_regular(wheel) as file, zipfile.ZipFile(file) as packed:
            names = [name for name in packed.namelist() if re.fullmatch(pattern, name)]
            if outside := next((name for name in names if ".." in Path(name).parts), None):
                raise ConfigError(f"{wheel}: has the path {outside!r}, which leads out of it; do not use it")
            if sum(packed.getinfo(name).file_size for name in names) > available_memory():
                raise ConfigError(f"{wheel}: its files are larger than the memory")
            members = {name: packed.read(name) for name in names}
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(f"{wheel}: cannot be read ({error.strerror or error})") from error
    except _DAMAGED as error:
        raise ConfigError(f"{wheel}: is not a wheel, or damaged ({error})") from error
    if not any(re.fullmatch(ENGINE, name) for name in members):
        raise ConfigError(f"{wheel}: has no native engine; give a wheel of multires-edge for the device")
    return members
