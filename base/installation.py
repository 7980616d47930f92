"""How the package was installed, for messages that say how to install more of it."""

from __future__ import annotations

import contextlib
import json
import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LONGEST_PATH = 60


def pip_install(extra: str) -> str:
    """The command that installs an extra of this installation.

    An installation from a folder is not on any index: there the command names the folder, "." if the user is
    in it. A path that is long is left out, and the command is for the folder.
    """
    folder, editable = _source_folder()
    if folder is None:
        return f"pip install 'multires-edge[{extra}]'"
    where, note = str(folder), ""
    with contextlib.suppress(OSError):  # the working folder may be gone
        where = "." if folder.samefile(".") else where
    if len(where) > _LONGEST_PATH:
        where, note = ".", " in the folder of multires-edge"
    return f"pip install {'-e ' if editable else ''}{shlex.quote(f'{where}[{extra}]')}{note}"


def _source_folder() -> tuple[Path | None, bool]:
    """The folder that the package was installed from, None if it was not; whether it is editable."""
    from importlib.metadata import PackageNotFoundError, distribution  # takes long to import

    try:
        entry = json.loads(distribution("multires-edge").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return None, False
    information = entry.get("dir_info")
    path = Path(unquote(urlsplit(entry.get("url", "")).path))
    if information is None or not (path / "pyproject.toml").is_file():
        return None, False
    return path, bool(information.get("editable"))
