"""What the instructions of PTX compute, of arrays with a value for each thread.

The names are those of PTX without the type of the operands. All results but those of 2^x are exact, or
rounded once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.runtime.backends.cuda.ptx.text import PtxError

Values = NDArray[Any]

TYPES: dict[str, np.dtype[Any]] = {
    "pred": np.dtype(bool),
    "f16": np.dtype(np.float16),
    "f32": np.dtype(np.float32),
    **{f"{kind}{8 * size}": np.dtype(f"u{size}") for kind in "bu" for size in (1, 2, 4, 8)},
    **{f"s{8 * size}": np.dtype(f"i{size}") for size in (1, 2, 4, 8)},
}
_WIDE = {"s32": np.int64, "u32": np.uint64}


def immediate(text: str, dtype: np.dtype[Any]) -> Values:
    """The value (1,) of a number as PTX writes it."""
    if dtype.kind == "b":
        return np.array([int(text) != 0])
    bits = int(text[2:], 16) if text.startswith("0f") else int(text, 0)
    masked = bits & (1 << 8 * dtype.itemsize) - 1
    return np.array([masked], f"u{dtype.itemsize}").view(dtype)


def fma(a: Values, b: Values, c: Values) -> Values:
    """a b + c, rounded once to nearest even (but for subnormal results, which may be rounded twice)."""
    total = a.astype(np.float64) * b + c  # the product is exact
    # A float64 in the middle between two values of float32 may have been rounded to there.
    if ((total.view(np.uint64) & 0x1FFFFFFF) == 0x10000000).any():
        error = _error(a, b, c, total)
        beside = np.nextafter(total, np.copysign(np.inf, error))
        total = np.where(np.isfinite(total) & (error != 0), beside, total)
    return total.astype(np.float32)


def fma_down(a: Values, b: Values, c: Values) -> Values:
    """a b + c, rounded to the next float32 that is not larger."""
    total = a.astype(np.float64) * b + c
    near, error = total.astype(np.float32), _error(a, b, c, total)
    above = (near > total) | ((near == total) & (error < 0))
    return np.where(above & np.isfinite(total), np.nextafter(near, np.float32(-np.inf)), near)


def _error(a: Values, b: Values, c: Values, total: Values) -> Values:
    """What the float64 ``total`` lacks to a b + c (Knuth's sum of two)."""
    product = a.astype(np.float64) * b
    had = total - c
    return np.asarray((product - had) + (c - (total - had)))


def _high(a: Values, b: Values) -> Values:
    bits = 8 * a.dtype.itemsize
    return np.array([int(x) * int(y) >> bits for x, y in zip(a, b, strict=True)]).astype(a.dtype)


def _shifted_left(a: Values, by: Values) -> Values:
    bits = 8 * a.dtype.itemsize
    return np.where(by < bits, a << np.minimum(by, bits - 1).astype(a.dtype), 0)


def _shifted_right(a: Values, by: Values) -> Values:
    bits = 8 * a.dtype.itemsize
    shifted = a >> np.minimum(by, bits - 1).astype(a.dtype)
    return shifted if a.dtype.kind == "i" else np.where(by < bits, shifted, 0)


def _remainder(a: Values, b: Values) -> Values:
    if (b == 0).any():
        raise PtxError("a remainder of a division by 0")
    return np.fmod(a, b)  # with the sign of a


def _dot(a: Values, b: Values, c: Values) -> Values:
    """The products of four int8 each, and c."""
    bytes_of_a, bytes_of_b = (np.ascontiguousarray(x).view(np.int8).reshape(-1, 4) for x in (a, b))
    return np.asarray((bytes_of_a.astype(np.int32) * bytes_of_b).sum(1, np.int32) + c)


Elementwise = Callable[..., Values]
# Of operands of the type in the instruction, and with a result of it.
ELEMENTWISE: dict[str, Elementwise] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "mul.lo": np.multiply,
    "mul.hi": _high,
    "mad.lo": lambda a, b, c: a * b + c,
    "fma.rn": fma,
    "fma.rm": fma_down,
    "div.rn": np.divide,
    "rcp.rn": lambda a: np.float32(1) / a,
    "sqrt.rn": np.sqrt,
    "ex2.approx.ftz": lambda a: np.exp2(a.astype(np.float64)),
    "rem": _remainder,
    "neg": np.negative,
    "abs": np.abs,
    "copysign": lambda sign, a: np.copysign(a, sign),
    "min": np.fmin,  # of a number and none, the number
    "max": np.fmax,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.invert,
    "dp4a.s32": _dot,
    "mov": lambda a: a,
    "cvta.to.global": lambda a: a,  # addresses of all spaces differ
}
_COMPARISONS: dict[str, Elementwise] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
SHIFTS: dict[str, Elementwise] = {"shl": _shifted_left, "shr": _shifted_right}
FLOATING = {"mul", "fma.rn", "fma.rm", "div.rn", "rcp.rn", "sqrt.rn", "ex2.approx.ftz", "copysign"}
INTEGRAL = {"mul.lo", "mul.hi", "mad.lo", "rem", "and", "or", "xor", "not", "dp4a.s32"}


def chosen(a: Values, b: Values, which: Values) -> Values:
    """Of selp."""
    return np.asarray(np.where(which, a, b))


def comparison(kind: str) -> Elementwise:
    """Of setp. Those ending in u also hold if one is no number, and "ne" does not, unlike numpy's."""
    if kind == "nan":
        return _unordered
    compare = _COMPARISONS[kind.removesuffix("u")]
    if kind == "ne":
        return lambda a, b: compare(a, b) & ~_unordered(a, b)
    return (lambda a, b: compare(a, b) | _unordered(a, b)) if kind.endswith("u") else compare


def _unordered(a: Values, b: Values) -> Values:
    return np.asarray(np.isnan(a) | np.isnan(b))


def wide_product(kind: str) -> Elementwise:
    """Of mul.wide: of twice the size."""
    wide = _WIDE[kind]
    return lambda a, b: a.astype(wide) * b.astype(wide)


def conversion(kind: str) -> Elementwise:
    """Of cvt: rounding, and the types "to.from"."""
    *rounding, to, _ = kind.split(".")
    if rounding == ["rni"] and to == "s32":
        limits = np.iinfo(np.int32)
        return lambda a: np.clip(np.rint(np.nan_to_num(a.astype(np.float64))), limits.min, limits.max)
    if rounding == ["sat"] and to == "f32":
        return lambda a: np.clip(np.where(np.isnan(a), 0, a), 0, 1)
    if rounding not in ([], ["rn"]) or (rounding == []) != (to[0] in "us" or kind == "f32.f16"):
        raise PtxError(f"no conversion {kind}")
    return lambda a: a.astype(TYPES[to])
