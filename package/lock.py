"""Write constraints.txt: the versions of everything that `make` installs, with the hashes of all their files.

    python package/lock.py

One file is for all Pythons from 3.10 on and all platforms. A version that is in the file stays if it fits.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"

# Files of a version that the package index does not have, but which pip prefers where their own index is
# configured: torch without CUDA.
MORE_HASHES = {
    "torch==2.13.0": {
        "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl": (
            "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"
        ),
    },
}
HEADER = """\
# The versions that `make` installs, with the hashes of their files. Written by `make lock`. Python 3.10 gets
# the last ones that support it.
"""


def main() -> None:
    """Resolve, add hashes, write."""
    options = ["--quiet", "--universal", "--python-version", "3.10", "--generate-hashes"]
    options += ["--no-header", "--no-annotate"]
    groups = [part for name in ("make", "lint", "site", "dist") for part in ("--group", name)]
    wanted = ["--all-extras", *groups, "pyproject.toml"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as fixed:
        fixed.write("\n".join(MORE_HASHES))
        fixed.flush()
        files = ["--constraints", fixed.name, "--output-file", CONSTRAINTS.name]
        uv = [sys.executable, "-m", "uv", "pip", "compile"]
        subprocess.run([*uv, *options, *files, *wanted], cwd=ROOT, check=True)
    text = CONSTRAINTS.read_text()
    for pin, wheels in MORE_HASHES.items():
        found = re.search(rf"^{re.escape(pin)}( ;.*)? \\\n(    --hash=.*\n)+", text, re.MULTILINE)
        if found is None:
            sys.exit(f"{pin} is no longer in {CONSTRAINTS.name}: change MORE_HASHES in {Path(__file__).name}")
        first, *hashes = found[0].replace(" \\\n", "\n").splitlines()
        hashes = sorted({*hashes, *(f"    --hash=sha256:{digest}" for digest in wheels.values())})
        text = text.replace(found[0], " \\\n".join([first, *hashes]) + "\n")
    CONSTRAINTS.write_text(HEADER + text)


if __name__ == "__main__":
    main()
