"""Stubs of TensorRT's interfaces: classes whose every function ends the program."""

from __future__ import annotations

import re
from pathlib import Path

_CLASSES = (
    "Runtime", "CudaEngine", "ExecutionContext", "RuntimeConfig", "HostMemory", "RuntimeCache",
)  # fmt: skip


def write_stubs(headers: Path, folder: Path) -> None:
    """stubs.h, with StubRuntime and so on, from the pure virtual functions in NvInferImpl.h."""
    text = (headers / "NvInferImpl.h").read_text()
    text = re.sub(r"#if ENABLE_FEATURE.*?#endif", "", text, flags=re.DOTALL)  # off unless asked for
    text = re.sub(r"//.*", "", text)
    lines = ["#pragma once", "#include <NvInferRuntime.h>", "#include <cstdlib>", "#include <memory>"]
    lines += ["using namespace nvinfer1;"]
    for name in _CLASSES:
        found = re.search(rf"class V{name} : public VRoot\s*{{(.*?)\n}};", text, re.DOTALL)
        if found is None and name == "RuntimeCache":
            continue  # of TensorRT-RTX
        assert found is not None
        functions = re.findall(r"virtual\s+([^;]*?)\s*=\s*0;", found[1])
        assert functions
        lines += [f"struct Stub{name} : nvinfer1::apiv::V{name} {{"]
        lines += [f"  {' '.join(function.split())} override {{ std::abort(); }}" for function in functions]
        lines += ["};"]
    (folder / "stubs.h").write_text("\n".join(lines) + "\n")
