"""Bundles that somebody changed and signed anew, so that their digests are right."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from multires_edge.format.fields import digest_of


def change_manifest(bundle: Path, change: Callable[[Any], Any]) -> None:
    """Change the entries of a manifest in place, and renew its digest."""
    path = bundle / "manifest.json"
    entry = json.loads(path.read_text())
    change(entry)
    path.write_text(json.dumps(entry | {"sha256": digest_of(entry)}))


def replace_file(bundle: Path, name: str, content: bytes) -> None:
    """Replace a file of a bundle, and its digest in the manifest."""
    (bundle / name).unlink()  # other copies of the bundle may have it too
    (bundle / name).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()

    def renew(entry: Any) -> None:
        if isinstance(entry, dict):
            if name in entry:
                entry[name] = digest
            if entry.get("file") == name:
                entry["sha256"] = digest
        for item in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ():
            renew(item)

    change_manifest(bundle, renew)
