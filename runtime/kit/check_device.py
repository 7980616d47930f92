#!/usr/bin/env python3
"""Check a MultiresNet on its target device, time it, and write device_report.json.

    python3 check_device.py                           TensorRT, as JetPack installs it
    python3 check_device.py --backend onnxruntime     ONNX Runtime instead, on any machine

Needs Python 3.10 or later, numpy 1.21 or later, and TensorRT with its Python package, or onnxruntime.
README.md in this folder has the details.
Exit code 0: all checks passed; 1: a check failed; 2: the check could not run.
"""

import sys
from importlib import import_module
from pathlib import Path


def stop(message: str) -> None:
    """Exit with one line and code 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    try:
        import_module("numpy")
    except ImportError as error:
        stop(f"numpy is not installed ({error}): sudo apt install python3-numpy")
    try:
        command = import_module("multires_edge.runtime.kit.command")
    except (ImportError, SyntaxError, ValueError) as error:
        stop(f"multires_edge/ is damaged ({error}): unpack the kit again")
    if Path(__file__).resolve().parent not in Path(str(command.__file__)).resolve().parents:
        stop(f"{command.__file__} is another multires-edge: run this in an environment without it")
    sys.exit(command.main())
