"""Print what extras of the installed package need on this machine, as pip's --requirement takes it.

    python package/requirements.py export test

pip itself refuses hashes together with a folder such as ".[export]".
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator

from pip._vendor.packaging.requirements import Requirement

NAME = "multires-edge"


def needed_by(extras: set[str]) -> Iterator[str]:
    """The requirements of the package with some of its extras, those of extras within extras included."""
    for text in importlib.metadata.requires(NAME) or []:
        wanted = Requirement(text)
        marker = wanted.marker
        if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in ["", *extras]):
            continue
        if wanted.name == NAME:
            yield from needed_by(wanted.extras)
        else:
            wanted.marker = None
            yield str(wanted)


if __name__ == "__main__":
    print("\n".join(sorted(set(needed_by(set(sys.argv[1:]))))))
