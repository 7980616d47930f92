"""The fingerprint of the native engine's interface: a digest of the sources whose functions Python calls.

    python package/interface.py

writes it into the package after a change of them. The build compiles it into the engine, and Python loads no
engine with another fingerprint. Comments and spaces do not count.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "runtime" / "backends" / "_native_interface.py"
_CPP = ROOT / "runtime" / "cpp"
_TEXT = '''"""What the engine was compiled with, if it fits these files. Written by package/interface.py."""

INTERFACE = "{}"
'''


def fingerprint() -> str:
    """The fingerprint of the sources."""
    digest = hashlib.sha256()
    for path in (_CPP / "include" / "multires.h", _CPP / "src" / "banks.h", *sorted(_CPP.glob("python/*"))):
        code = re.sub(r"//[^\n]*|/\*.*?\*/", " ", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        digest.update(f"{path.name}\0{''.join(code.split())}\0".encode())
    return digest.hexdigest()[:16]


def text() -> str:
    """The content of the file in the package."""
    return _TEXT.format(fingerprint())


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
