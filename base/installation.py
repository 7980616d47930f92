"""How the package was installed, for messages that say how to install more of it."""

from __future__ import annotations

import contextlib
import json
import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LONGEST_PATH = 60


def pip_install(extra: str = "", *, again: bool = False) -> str:
    """The command that installs an extra of this installation, or the package again.

    An installation from a folder is not on any index: there the command names the folder, "." if the user is
    in it. A path that is long is left out, and the command is for the folder.
    """
    folder, editable = _source_folder()
    extras = f"[{extra}]" if extra else ""
    if folder is None:
        # pip installs a folder anew every time, but no release.
        force = "--force-reinstall --no-deps " if again else ""
        return f"pip install {force}{shlex.quote(f'multires-edge{extras}')}"
    where, note = str(folder), ""
    with contextlib.suppress(OSError):  # the working folder may be gone
        where = "." if folder.samefile(".") else where
    if len(where) > _LONGEST_PATH:
        where, note = ".", " in the folder of multires-edge"
    return f"pip install {'-e ' if editable else ''}{shlex.quote(f'{where}{extras}')}{note}"


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


def versions_of(*packages: str) -> dict[str, str]:
    """The installed versions of packages, "unknown" for those that are missing."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
