"""Print the lowest versions that extras of the installed package allow, as pip's --requirement takes them.

    python package/lowest.py onnxruntime ecg

torch is left out: it is not part of the runtime, and its lowest version brings gigabytes of CUDA.
"""

from __future__ import annotations

import sys

from pip._vendor.packaging.requirements import Requirement
from requirements import needed_by


def lowest(text: str) -> str:
    """A requirement at its lowest version. Raises ValueError if it has none."""
    wanted = Requirement(text)
    versions = [each.version for each in wanted.specifier if each.operator in (">=", "==")]
    if len(versions) != 1:
        raise ValueError(f"{text}: has no lowest version; declare one in pyproject.toml")
    extras = f"[{','.join(sorted(wanted.extras))}]" if wanted.extras else ""
    return f"{wanted.name}{extras}=={versions[0]}"


if __name__ == "__main__":
    pins = {lowest(text) for text in needed_by(set(sys.argv[1:]))}
    print("\n".join(sorted(pin for pin in pins if not pin.startswith("torch=="))))
