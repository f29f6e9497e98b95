"""Exponential and logarithm of the vectors of `_simd`."""

# ruff: noqa: ARG001 -- Numba prescribes the arguments of what it calls

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]

from distem.kernels._simd import constant, emit_fma, intrinsic, llvm_type

# exp(r) = 1 + r + r**2 q(r) for |r| <= ln(2)/2; q by Chebyshev interpolation, errors 1e-17 and 2e-9
_EXP = {
    64: (52, 1.5 * 2.0**52, 6.93147180369123816490e-01, 1.90821492927058770002e-10, -345.0, 9),
    32: (23, 1.5 * 2.0**23, 0.693359375, -2.12194440e-4, -40.0, 5),
}


@functools.cache
def _exp_polynomial(degree: int) -> tuple[float, ...]:
    """Return the coefficients of q, the highest power first."""

    def q(r: float) -> float:
        # the Taylor series of (exp(r) - 1 - r) / r**2 has no cancellation
        return math.fsum(r**j / math.factorial(j + 2) for j in range(24))

    limit = 0.5 * math.log(2.0) * 1.001
    nodes = np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
    values = np.array([q(limit * node) for node in nodes])
    fitted = np.polynomial.chebyshev.cheb2poly(np.polynomial.chebyshev.chebfit(nodes, values, degree))
    return tuple(float(c) / limit**j for j, c in enumerate(fitted))[::-1]


@intrinsic
def exp(typing: Any, a: Any) -> Any:
    """Return the exponentials of numbers that are not positive.

    Exactly 1 at 0, and exactly 0 below -345 (float32: -40), so that even the square of the smallest
    result is far from the denormal numbers.
    """
    bits = a.dtype.bitwidth
    shift, magic, ln2_high, ln2_low, lowest, degree = _EXP[bits]
    integers = ir.VectorType(ir.IntType(bits), a.lanes)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        (x,) = operands
        # adding the magic number leaves the rounded multiple of ln(2) in the lowest bits
        rounded = emit_fma(builder, a, x, constant(a, 1.0 / math.log(2.0)), constant(a, magic))
        multiple = builder.fsub(rounded, constant(a, magic))
        r = emit_fma(builder, a, multiple, constant(a, -ln2_high), x)
        r = emit_fma(builder, a, multiple, constant(a, -ln2_low), r)
        highest, *rest = _exp_polynomial(degree)
        q = constant(a, highest)
        for coefficient in rest:
            q = emit_fma(builder, a, q, r, constant(a, coefficient))
        p = builder.fadd(emit_fma(builder, a, builder.fmul(r, r), q, r), constant(a, 1.0))
        power = builder.shl(
            builder.bitcast(rounded, integers), ir.Constant(integers, [shift] * a.lanes)
        )  # the multiple, moved to where a number keeps its exponent
        scaled = builder.bitcast(builder.add(builder.bitcast(p, integers), power), llvm_type(a))
        tiny = builder.fcmp_ordered("<", x, constant(a, lowest))
        return builder.select(tiny, constant(a, 0.0), scaled)

    return a(a), generate


# log((1+s)/(1-s)) = 2 s + s**3 (c0 + c1 s**2 + ...): the coefficients of fdlibm's log
_LOG = (
    1.479819860511658591e-01,
    1.531383769920937332e-01,
    1.818357216161805012e-01,
    2.222219843214978396e-01,
    2.857142874366239149e-01,
    3.999999999940941908e-01,
    6.666666666666735130e-01,
)


@intrinsic
def log(typing: Any, a: Any) -> Any:
    """Return the natural logs of positive, normal float64 numbers."""
    integers = ir.VectorType(ir.IntType(64), a.lanes)

    def generate(context: Any, builder: Any, signature: Any, operands: Any) -> Any:
        def integer(value: int) -> Any:
            return ir.Constant(integers, [value] * a.lanes)

        bits = builder.bitcast(operands[0], integers)
        root_half = 0x3FE6A09E667F3BCD
        # x = 2**e * m with m between sqrt(1/2) and sqrt(2)
        exponent = builder.ashr(builder.sub(bits, integer(root_half)), integer(52))
        m = builder.bitcast(builder.sub(bits, builder.shl(exponent, integer(52))), llvm_type(a))
        e = builder.sitofp(exponent, llvm_type(a))
        f = builder.fsub(m, constant(a, 1.0))
        s = builder.fdiv(f, builder.fadd(f, constant(a, 2.0)))
        z = builder.fmul(s, s)
        p = constant(a, _LOG[0])
        for coefficient in _LOG[1:]:
            p = emit_fma(builder, a, p, z, constant(a, coefficient))
        # log(m) = f - s (f - z p), which keeps the digits where m is near 1
        p = builder.fsub(f, builder.fmul(s, builder.fsub(f, builder.fmul(z, p))))
        p = emit_fma(builder, a, e, constant(a, 1.90821492927058770002e-10), p)
        return emit_fma(builder, a, e, constant(a, 6.93147180369123816490e-01), p)

    return a(a), generate
