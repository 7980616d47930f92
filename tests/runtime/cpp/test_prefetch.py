"""The compiled kernels prefetch. A compiler may remove prefetches, which no result shows."""

from __future__ import annotations

import re

import pytest

from tests.runtime.cpp.programs import ISAS, build_plain, needs, run


def test_kernels_prefetch_before_the_first_layer_and_during_products(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    needs("objdump")
    assembly = run("objdump", "-d", "--no-show-raw-insn", build_plain(tmp_path_factory) / "libmultires.a")
    objects = re.split(r"^(kernels_\w+)\.cpp\.o:", assembly, flags=re.MULTILINE)
    prefetches = {
        name: len(re.findall(r"\bprefetcht1\b|\bprfm\b", text.split("file format", 2)[1]))
        for name, text in zip(objects[1::2], objects[2::2], strict=True)
    }
    assert len(prefetches) >= len(ISAS)
    # One place before the first layer; the others are in the products of each type of weights.
    assert all(count >= 4 for count in prefetches.values()), prefetches
