#!/usr/bin/env python3
"""Check a MultiresNet on its target device, time it, and write device_report.json.

    python3 check_device.py                           TensorRT, as JetPack installs it
    python3 check_device.py --backend onnxruntime     ONNX Runtime instead, on any machine

Needs Python 3.10 or later, numpy 1.21 or later, and TensorRT with its Python package and the CUDA
runtime library, or onnxruntime. README.md in this folder has the details.
Exit code 0: all checks passed; 1: a check failed; 2: the check could not run.
"""

import sys
from importlib import import_module

if __name__ == "__main__":
    try:
        import_module("numpy")
    except ImportError as error:
        print(f"error: numpy is not installed ({error}): sudo apt install python3-numpy", file=sys.stderr)
        sys.exit(2)
    try:
        command = import_module("device.command")
    except (ImportError, SyntaxError, ValueError) as error:
        print(f"error: device/ is damaged ({error}): unpack the kit again", file=sys.stderr)
        sys.exit(2)
    sys.exit(command.main())
