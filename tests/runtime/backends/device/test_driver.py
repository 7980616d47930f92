"""The driver's functions as the package calls them, and as cuda.h declares them."""

from __future__ import annotations

import ctypes
import re

from multires_edge.runtime.backends.device.driver import SIGNATURES
from tests.runtime.cpp.programs import needed_wheels


def test_signatures_are_those_of_the_header() -> None:
    header = (needed_wheels().cuda_headers / "cuda.h").read_text()
    # The library has most functions under another name than programs do.
    renamed = re.findall(r"# *define (cu\w+) +(?:__CUDA_API_PTSZ\()?(cu\w+)", header)
    short = {exported: name for name, exported in reversed(renamed)}
    types = {
        "unsigned int": ctypes.c_uint, "size_t": ctypes.c_size_t, "unsigned char": ctypes.c_ubyte,
        "unsigned long long": ctypes.c_ulonglong, "int": ctypes.c_int, "CUdevice": ctypes.c_int,
        "CUresult": ctypes.c_int, "CUdevice_attribute": ctypes.c_int, "CUstreamCaptureMode": ctypes.c_int,
    }  # fmt: skip
    for function, signature in SIGNATURES.items():
        declared = re.search(rf"CUDAAPI {short.get(function, function)}\(([^)]*)\)", header)
        assert declared is not None, function
        # All the rest is pointers, to data or to what the driver keeps.
        parameters = (parameter.strip().rpartition(" ") for parameter in declared[1].split(","))
        kinds = (kind + "*" * name.count("*") for kind, _, name in parameters)
        assert tuple(types.get(kind, ctypes.c_void_p) for kind in kinds) == signature, function
        assert function == dict(renamed).get(function, function), "a later version"
