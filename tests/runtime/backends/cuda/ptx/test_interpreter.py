"""The interpreter of PTX: it computes as a GPU does, and refuses what a GPU may not do."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runtime.backends.cuda.ptx.interpreter import Interpreter
from tests.runtime.backends.cuda.ptx.text import PtxError
from tests.runtime.backends.cuda.ptx.values import (
    ELEMENTWISE,
    comparison,
    conversion,
    fma,
    fma_down,
    immediate,
)

HEAD = """.version 8.5
.target sm_75
.address_size 64
.visible .entry f(
.param .u64 f_param_0
)
{
.reg .pred %p<4>;
.reg .b32 %r<9>;
.reg .b64 %rd<9>;
.shared .align 16 .b8 room[256];
ld.param.u64 %rd1, [f_param_0];
mov.u32 %r1, %tid.x;
mul.wide.u32 %rd2, %r1, 4;
add.s64 %rd3, %rd1, %rd2;
mov.u64 %rd4, room;
add.s64 %rd5, %rd4, %rd2;
"""
THREADS = 64
floats = st.floats(-(2.0**40), 2.0**40, width=32).filter(lambda x: x == 0 or abs(x) > 2.0**-40)


def run(code: str, apart: str = "") -> list[int]:
    """What 64 threads leave in an array of their values, which is 0 before. %rd3 is the place of a thread."""
    interpreter = Interpreter(f"{HEAD}{code}\nret;\n}}\n", apart=apart)
    place = interpreter.memory.upload(np.zeros(THREADS, np.uint32))
    interpreter.launch("f", (1,), (THREADS,), [place.to_bytes(8, "little")])
    left: list[int] = interpreter.memory.view(place, 4 * THREADS).view(np.uint32).tolist()
    return left


class TestThreads:
    def test_part_and_meet_again(self) -> None:
        """Each adds to its value as often as its number says, and then all add 100."""
        loop = """mov.u32 %r2, 0;
        $L_1:
        setp.ge.s32 %p1, %r2, %r1;
        @%p1 bra $L_2;
        add.s32 %r2, %r2, 1;
        bra.uni $L_1;
        $L_2:
        add.s32 %r2, %r2, 100;
        st.global.u32 [%rd3], %r2;"""
        assert run(loop) == [100 + i for i in range(THREADS)]

    @pytest.mark.parametrize("apart", ["", "up", "down"])
    def test_share_values_behind_a_barrier(self, apart: str) -> None:
        """A thread reads what that of the other warp wrote."""
        write, read = "st.shared.u32 [%rd5], %r1;", "xor.b32 %r2, %r1, 63; mul.wide.u32 %rd6, %r2, 4;"
        read = f"{read} add.s64 %rd7, %rd4, %rd6; ld.shared.u32 %r3, [%rd7]; st.global.u32 [%rd3], %r3;"
        lines = [line.strip() + ";" for line in f"{write} bar.sync 0; {read}".split(";") if line.strip()]
        assert run("\n".join(lines), apart) == list(range(THREADS))[::-1]
        if apart:
            assert run("\n".join(line for line in lines if "bar" not in line), apart)[::-1] != list(range(64))

    def test_exchange_values_in_a_warp(self) -> None:
        exchange = "shfl.sync.bfly.b32 %r2|%p1, %r1, 3, 31, -1;\nst.global.u32 [%rd3], %r2;"
        assert run(exchange) == [i ^ 3 for i in range(THREADS)]

    def test_a_branch_on_what_is_not(self) -> None:
        code = "setp.lt.u32 %p1, %r1, 32;\n@!%p1 bra $L_1;\nst.global.u32 [%rd3], %r1;\n$L_1:"
        assert run(code) == [i if i < 32 else 0 for i in range(THREADS)]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("st.global.u32 [%rd3+4], %r1;", "outside of all allocations"),
        ("ld.global.u32 %r2, [%rd3+-4];", "outside of all"),
        ("ld.global.u32 %r2, [%rd2];", "outside of all memory"),
        ("ld.shared.u32 %r2, [%rd5+4];", "outside of all allocations"),
        ("ld.global.u32 %r2, [%rd3+2];", "not a multiple of 4"),
        ("ld.global.v2.u32 {%r2, %r3}, [%rd3];", "not a multiple of 8"),
        (
            "setp.eq.u32 %p1, %r1, 7;\n@%p1 bra $L_1;\nbar.sync 0;\n$L_1:",
            "bar.sync 0;: not all threads come here",
        ),
        (
            "setp.eq.u32 %p1, %r1, 7;\n@%p1 bra $L_1;\nshfl.sync.bfly.b32 %r2|%p2, %r1, 1, 31, -1;\n$L_1:",
            "not all",
        ),
        ("shfl.sync.bfly.b32 %r2|%p1, %r1, 1, 31, 1;", "only whole warps"),
        ("rem.u32 %r2, %r1, 0;", "division by 0"),
        ("$L_1:\nbra.uni $L_1;", "does not end"),
        ("add.sat.s32 %r2, %r1, 1;", "not known"),
        ("add.f16 %r2, %r1, 1;", "not known"),
        ("fma.rn.s32 %r2, %r1, 1, 1;", "not known"),
        ("@%p1 add.s32 %r2, %r1, 1;", "not known"),
        ("cvt.rz.s32.f32 %r2, %r1;", "not known"),
        ("st.const.u32 [%rd3], %r1;", "not known"),
        ("add.s32 %r2, %r1, %r99;", "no operand %r99"),
        ("add.s64 %rd6, %r1, 1;", "does not have int64"),
        (".local .align 4 .b8 stack[8];", r"line 18: \.local"),
    ],
)
def test_what_is_refused(code: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.runtime.backends.cuda.ptx.interpreter._MOST_INSTRUCTIONS", 1000)
    with pytest.raises(PtxError, match=message):
        run(code)


class TestValues:
    @given(a=floats, b=floats, c=floats, down=st.booleans())
    @settings(max_examples=100)
    def test_a_sum_with_a_product_is_rounded_once(self, a: float, b: float, c: float, down: bool) -> None:
        self.check(a, b, c, down)

    @pytest.mark.parametrize("sign", [1, -1])
    def test_it_is_rounded_once_beside_the_middle_of_two_values(self, sign: int) -> None:
        """A float64 cannot tell: (1 + 2^-12)^2 is in the middle, and the sum 2^-60 beside it."""
        a, b, c = sign * (1 + 2.0**-12), 1 + 2.0**-12, sign * 2.0**-60
        self.check(a, b, c, False)
        self.check(a, b, c, True)
        assert fma(*(np.array([value], np.float32) for value in (a, b, c)))[0] != np.float32(a * b + c)

    def check(self, a: float, b: float, c: float, down: bool) -> None:
        exact = Fraction(a) * Fraction(b) + Fraction(c)
        arrays = (np.array([value], np.float32) for value in (a, b, c))
        result = (fma_down if down else fma)(*arrays)[0]
        above, below = (np.nextafter(result, np.float32(side)) for side in (np.inf, -np.inf))
        if down:
            assert Fraction(float(result)) <= exact < Fraction(float(above))
        else:
            error = abs(Fraction(float(result)) - exact)
            assert error <= min(abs(Fraction(float(other)) - exact) for other in (above, below))

    def test_integers(self) -> None:
        a, b = np.array([-(2**63), 2**62, -7]), np.array([3, 5, 2])
        assert ELEMENTWISE["mul.hi"](a, b).tolist() == [
            x * y >> 64 for x, y in zip(a.tolist(), b.tolist(), strict=True)
        ]
        assert ELEMENTWISE["rem"](a, b).tolist() == [-2, 4, -1]
        packed = np.array([0x80FF0201], np.uint32).view(np.int32)  # 1, 2, -1, -128
        assert ELEMENTWISE["dp4a.s32"](packed, packed, np.array([5], np.int32)).tolist() == [
            1 + 4 + 1 + 128**2 + 5
        ]
        assert run("shl.b32 %r2, %r1, 32;\nst.global.u32 [%rd3], %r2;") == [0] * THREADS
        assert run("neg.s32 %r2, %r1;\nshr.s32 %r2, %r2, 40;\nst.global.u32 [%rd3], %r2;")[:2] == [
            0,
            2**32 - 1,
        ]
        assert immediate("-4294967296", np.dtype(np.uint64)).tolist() == [2**64 - 2**32]

    def test_conversions(self) -> None:
        values = np.array([-0.5, 0.5, 1.5, 2.5, 3e9, np.nan], np.float32)
        assert conversion("rni.s32.f32")(values).tolist() == [0, 0, 2, 2, 2**31 - 1, 0]
        assert conversion("sat.f32.f32")(values).tolist() == [0, 0.5, 1, 1, 1, 0]
        assert conversion("rn.f16.f32")(np.array([2049, 1e-8], np.float32)).tolist() == [2048, 0]

    def test_comparisons_with_no_number(self) -> None:
        a, b = np.array([1, np.nan, 2], np.float32), np.array([2, 2, 2], np.float32)
        assert comparison("ne")(a, b).tolist() == [True, False, False]
        assert comparison("lt")(a, b).tolist() == [True, False, False]
        assert comparison("ltu")(a, b).tolist() == [True, True, False]
        assert comparison("nan")(a, b).tolist() == [False, True, False]
