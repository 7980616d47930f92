"""PTX as C++: it computes as a GPU does, and refuses what a GPU may not do."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence

import numpy as np
import pytest

from multires_edge.base.errors import BackendError
from multires_edge.runtime.backends.device.cuda import CudaDevice
from tests.runtime.backends.cuda.ptx import PtxError, compile_ptx
from tests.runtime.backends.device.fake_driver import FakeCuda

pytestmark = pytest.mark.native

HEAD = """.visible .entry f{number}(
.param .u64 f{number}_param_0
)
{{
.reg .pred %p<4>;
.reg .b16 %rs<4>;
.reg .b32 %r<9>;
.reg .f32 %f<9>;
.reg .b64 %rd<9>;
.shared .align 16 .b8 room[256];
ld.param.u64 %rd1, [f{number}_param_0];
mov.u32 %r1, %tid.x;
mul.wide.u32 %rd2, %r1, 4;
add.s64 %rd3, %rd1, %rd2;
mov.u64 %rd4, room;
add.s64 %rd5, %rd4, %rd2;
"""
STORE = "st.global.u32 [%rd3], %r2;"
THREADS = 64
NUMBERS = list(range(THREADS))


def module(codes: Sequence[str]) -> str:
    """A kernel for each code; a line for each statement. %rd3 is the place of a thread in an array."""
    kernels = (f"{HEAD.format(number=i)}{code}\nret;\n}}\n" for i, code in enumerate(codes))
    return "".join(kernels)


def run(codes: Sequence[str], number: int) -> list[int]:
    """What 64 threads of a kernel leave in an array of their values, which is 0 before."""
    device = CudaDevice()
    function = device.function(device.load(compile_ptx(module(codes))), f"f{number}")
    left, place = np.zeros(THREADS, np.uint32), device.allocate(4 * THREADS)
    device.launcher(function, (1, 1, 1), (THREADS, 1, 1), [ctypes.c_void_p(place)])()
    device.download(left, place)
    try:
        device.synchronize()
    finally:
        device.close()
    numbers: list[int] = left.tolist()
    return numbers


def bits(value: float) -> int:
    return int(np.float32(value).view(np.uint32))


def of_floats(instruction: str, *values: float) -> str:
    """An instruction of %f1 and so on, and the bits of its result in %f0."""
    moves = [f"mov.f32 %f{i}, 0f{bits(value):08X};" for i, value in enumerate(values, 1)]
    return "\n".join([*moves, instruction, "mov.b32 %r2, %f0;", STORE])


LOOP = """mov.u32 %r2, 0;
$L_1:
setp.ge.s32 %p1, %r2, %r1;
@%p1 bra $L_2;
add.s32 %r2, %r2, 1;
bra.uni $L_1;
$L_2:
add.s32 %r2, %r2, 100;"""
EXCHANGE = """st.shared.u32 [%rd5], %r1;
bar.sync 0;
xor.b32 %r3, %r1, 63;
mul.wide.u32 %rd6, %r3, 4;
add.s64 %rd7, %rd4, %rd6;
ld.shared.u32 %r2, [%rd7];"""
near = 1 + 2.0**-12  # its square is in the middle between two values
RESULTS: dict[str, tuple[str, list[int]]] = (
    {
        "threads part and meet again": (f"{LOOP}\n{STORE}", [100 + i for i in NUMBERS]),
        "they share values behind a barrier": (f"{EXCHANGE}\n{STORE}", NUMBERS[::-1]),
        "they exchange values in a warp": (
            f"shfl.sync.bfly.b32 %r2|%p1, %r1, 3, 31, -1;\n{STORE}",
            [i ^ 3 for i in NUMBERS],
        ),
        "a branch on what is not": (
            f"setp.lt.u32 %p1, %r1, 32;\n@!%p1 bra $L_1;\n{STORE.replace('r2', 'r1')}\n$L_1:",
            [i if i < 32 else 0 for i in NUMBERS],
        ),
    }
    | {
        code: (f"{code}\n{STORE}", [result] * THREADS)
        for code, result in {
            "shl.b32 %r2, 7, 32;": 0,
            "shr.s32 %r2, -7, 40;": 2**32 - 1,
            "shr.u32 %r2, -7, 40;": 0,
            "mul.hi.s32 %r2, -2147483648, 3;": 2**32 - 2,
            "rem.s32 %r2, -7, 2;": 2**32 - 1,
            "dp4a.s32.s32 %r2, -2130771455, -2130771455, 5;": 1 + 4 + 1 + 128**2 + 5,
            "cvt.u16.u32 %rs1, 70000;\ncvt.u32.u16 %r2, %rs1;": 70000 - 2**16,
            "mov.b64 %rd6, -4294967296;\nshr.u64 %rd6, %rd6, 32;\ncvt.u32.u64 %r2, %rd6;": 2**32 - 1,
        }.items()
    }
    | {
        f"{code} {values}": (of_floats(code, *values), [bits(result)] * THREADS)
        for code, values, result in [
            (
                "fma.rn.f32 %f0, %f1, %f2, %f3;",
                (near, near, 2.0**-60),
                np.nextafter(np.float32(near * near), np.float32(2)),
            ),
            ("fma.rn.f32 %f0, %f1, %f2, %f3;", (near, near, -(2.0**-60)), near * near - 2.0**-24),
            ("fma.rm.f32 %f0, %f1, %f2, %f3;", (near, near, 2.0**-60), near * near - 2.0**-24),
            (
                "fma.rm.f32 %f0, %f1, %f2, %f3;",
                (1, -1, -(2.0**-60)),
                np.nextafter(np.float32(-1), np.float32(-2)),
            ),
            ("min.f32 %f0, %f1, %f2;", (math.nan, 2), 2),
            ("cvt.sat.f32.f32 %f0, %f1;", (-3.0,), 0),
            ("cvt.sat.f32.f32 %f0, %f1;", (math.nan,), 0),
            ("cvt.rn.f16.f32 %rs1, %f1;\ncvt.f32.f16 %f0, %rs1;", (2049.0,), 2048),
            *(
                ("cvt.rni.s32.f32 %r3, %f1;\ncvt.rn.f32.s32 %f0, %r3;", (value,), result)
                for value, result in [(-0.5, 0), (1.5, 2), (2.5, 2), (3e9, 2.0**31), (math.nan, 0)]
            ),
            *(
                (
                    f"setp.{how}.f32 %p1, %f1, %f2;\nselp.f32 %f0, %f2, %f1, %p1;\nabs.f32 %f0, %f0;",
                    (math.nan, 2),
                    result,
                )
                for how, result in [("ne", math.nan), ("lt", math.nan), ("ltu", 2), ("nan", 2)]
            ),
        ]
    }
)


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("what", RESULTS)
def test_results(what: str) -> None:
    codes = [code for code, _ in RESULTS.values()]
    assert run(codes, list(RESULTS).index(what)) == RESULTS[what][1]


REFUSED = [
    ("st.global.u32 [%rd3+4], %r1;", "outside of all allocations"),
    ("ld.global.u32 %r2, [%rd3+-4];", "outside of all allocations"),
    ("ld.global.u32 %r2, [%rd2];", "outside of all allocations"),
    ("ld.shared.u32 %r2, [%rd5+4];", "outside of all allocations"),
    ("ld.global.u32 %r2, [%rd3+2];", "not a multiple of the size"),
    ("ld.global.v2.u32 {%r2, %r3}, [%rd3];", "not a multiple of the size"),
    ("setp.eq.u32 %p1, %r1, 7;\n@%p1 bra $L_1;\nbar.sync 0;\n$L_1:", "not all threads come to a barrier"),
    ("setp.eq.u32 %p1, %r1, 7;\n@%p1 bra $L_1;\nbar.sync 0;\nbra.uni $L_2;\n$L_1:\nbar.sync 0;\n$L_2:",
     "not all threads come to a barrier"),
    ("setp.eq.u32 %p1, %r1, 7;\n@%p1 bra $L_1;\nshfl.sync.bfly.b32 %r2|%p2, %r1, 1, 31, -1;\n$L_1:",
     "not all threads come to a barrier"),
    ("shfl.sync.bfly.b32 %r2|%p1, %r1, 1, 31, 1;", "only whole warps"),
    ("rem.u32 %r2, %r1, 0;", "division by 0"),
    ("$L_1:\nbra.uni $L_1;", "does not end"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_no_kernel_may_do(number: int, driver: FakeCuda) -> None:
    with pytest.raises(BackendError, match=rf"ILLEGAL_ADDRESS \(700\), line \d+: .*{REFUSED[number][1]}"):
        run([code for code, _ in REFUSED], number)


@pytest.mark.parametrize(
    "code",
    [
        "@%p1 add.s32 %r2, %r1, 1;", "st.const.u32 [%rd3], %r1;", "add.s32 %r2, %r1, %r99;",
        ".local .align 4 .b8 stack[8];", "bar.sync 1;", "ld.global.nc.u32 %r2, [%rd3];",
    ],
)  # fmt: skip
def test_what_is_not_known(code: str) -> None:
    with pytest.raises(PtxError, match=r"line 17: .*: not known"):
        compile_ptx(module([code]))


def test_types_that_do_not_fit() -> None:
    codes = [
        "add.sat.s32 %r2, %r1, 1;", "add.f16 %rs2, %rs1, 1;", "fma.rn.s32 %r2, %r1, 1, 1;",
        "and.f32 %f1, %f1, %f2;", "cvt.rz.s32.f32 %r2, %f1;", "add.s64 %rd6, %r1, 1;", "mov.pred %r2, %p1;",
    ]  # fmt: skip
    with pytest.raises(PtxError) as refused:
        compile_ptx(module(codes))
    refusals = str(refused.value)
    assert [code for number, code in enumerate(codes) if f"kernel_f{number}()" not in refusals] == []
