#!/usr/bin/env python3
"""Checks a MultiresNet on the device that it is for, times it, and writes device_report.json.

    python3 check_device.py                           TensorRT, as JetPack installs it
    python3 check_device.py --backend onnxruntime     ONNX Runtime standing in, on any machine

Needs Python 3.10 or later, numpy 1.21 or later, and TensorRT with its Python package and the CUDA
runtime library, or onnxruntime. Everything else lies beside this file; README.md says more.
Exit code 0: all is well; 1: something is off, and named; 2: the check could not be made.
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
        print(f"error: device/ is not whole ({error}): unpack the kit again", file=sys.stderr)
        sys.exit(2)
    sys.exit(command.main())
