"""exp, log, log1p and tanh without branches, so that loops of them vectorise: within 4 ulp, everywhere.

Infinities, NaN, zeros of both signs and subnormal numbers are right, too. Each reduces its argument to a small interval
and takes a Taylor series there.
"""

import math

from nnarray.programs.targets.llvm.code import BITS, Code

LN2 = math.log(2)
HIGH = {"float": 0.693359375, "double": float.fromhex("0x1.62e42feep-1")}
"""The first bits of ln 2, few enough for n times it to be exact; LOW is the rest."""
LOW = {"float": -2.12194440054690583e-4, "double": float.fromhex("0x1.a39ef35793c76p-33")}
EXP_TERMS = {"float": 7, "double": 13}
LOG_TERMS = {"float": 5, "double": 10}
EXP_RANGE = {"float": (-104.0, 89.0), "double": (-746.0, 710.0)}
TANH_END = -40.0
"""1 + e^y is 1 from here on down."""


def horner(code: Code, x: str, coefficients: list[float]) -> str:
    """Σ coefficients[k] x^k."""
    total = code.constant(coefficients[-1])
    for c in coefficients[-2::-1]:
        total = code.arithmetic("fadd", code.arithmetic("fmul", total, x), code.constant(c))
    return total


def select(code: Code, condition: str, x: str, y: str) -> str:
    """x where the condition holds, else y."""
    return code.value(f"select i1 {condition}, {code.T} {x}, {code.T} {y}")


def compare(code: Code, how: str, x: str, y: str) -> str:
    """A comparison of two floats."""
    return code.value(f"fcmp {how} {code.T} {x}, {y}")


def clamp(code: Code, x: str, low: float | None, high: float | None) -> str:
    """x, but no less than low and no more than high; NaN passes."""
    for how, bound in (("olt", low), ("ogt", high)):
        if bound is not None:
            x = select(code, compare(code, how, x, code.constant(bound)), code.constant(bound), x)
    return x


def reduced(code: Code, x: str) -> tuple[str, str]:
    """n, a whole number of the float's size, and r with x = n ln 2 + r and |r| ≤ ln 2 / 2."""
    integer, fraction, _ = BITS[code.T]
    magic = 1.5 * 2.0**fraction  # added to a float, it rounds it to a whole number, which its last bits then hold
    scaled = code.arithmetic("fmul", x, code.constant(1 / LN2), flags="")
    rounded = code.arithmetic("fadd", scaled, code.constant(magic), flags="")
    n = code.arithmetic("fsub", rounded, code.constant(magic), flags="")
    r = code.arithmetic("fsub", x, code.arithmetic("fmul", n, code.constant(HIGH[code.T])))
    r = code.arithmetic("fsub", r, code.arithmetic("fmul", n, code.constant(LOW[code.T])))
    bits = code.value(f"bitcast {code.T} {rounded} to {integer}")
    zero = code.value(f"bitcast {code.T} {code.constant(magic)} to {integer}")
    return code.value(f"sub {integer} {bits}, {zero}"), r


def power_of_two(code: Code, n: str) -> str:
    """2^n, for an n that the exponent can hold."""
    integer, fraction, bias = BITS[code.T]
    exponent = code.value(f"shl {integer} {code.value(f'add {integer} {n}, {bias}')}, {fraction}")
    return code.value(f"bitcast {integer} {exponent} to {code.T}")


def exp(code: Code, x: str) -> str:
    """e^x = 2^n e^r."""
    integer, _, _ = BITS[code.T]
    n, r = reduced(code, clamp(code, x, *EXP_RANGE[code.T]))
    e = horner(code, r, [1 / math.factorial(k) for k in range(EXP_TERMS[code.T] + 1)])
    half = code.value(f"ashr {integer} {n}, 1")  # in two steps, as 2^n itself may be too large or too small
    e = code.arithmetic("fmul", e, power_of_two(code, half), flags="")
    return code.arithmetic("fmul", e, power_of_two(code, code.value(f"sub {integer} {n}, {half}")), flags="")


def expm1(code: Code, x: str) -> str:
    """2^n (e^r - 1) + (2^n - 1), halved and doubled, as 2^n itself may be too large."""
    integer, _, _ = BITS[code.T]
    n, r = reduced(code, clamp(code, x, TANH_END, EXP_RANGE[code.T][1]))
    half = power_of_two(code, code.value(f"sub {integer} {n}, 1"))
    t = code.arithmetic("fmul", half, _expm1_of_small(code, r))
    t = code.arithmetic("fadd", t, code.arithmetic("fsub", half, code.constant(0.5)))
    result = code.arithmetic("fmul", t, code.constant(2.0), flags="")
    return select(code, compare(code, "oeq", x, code.constant(0.0)), x, result)


def _expm1_of_small(code: Code, r: str) -> str:
    """e^r - 1 for |r| ≤ ln 2 / 2."""
    tail = horner(code, r, [1 / math.factorial(k) for k in range(2, EXP_TERMS[code.T] + 1)])
    return code.arithmetic("fadd", r, code.arithmetic("fmul", code.arithmetic("fmul", r, r), tail))


def sign(code: Code, x: str) -> str:
    """-1, 0, 1 or NaN."""
    zero = code.constant(0.0)
    negative = select(code, compare(code, "olt", x, zero), code.constant(-1.0), x)
    positive = select(code, compare(code, "ogt", x, zero), code.constant(1.0), negative)
    return select(code, compare(code, "oeq", x, zero), zero, positive)


def tanh(code: Code, x: str) -> str:
    """-t / (t + 2) with t = e^(-2|x|) - 1 = 2^n (e^r - 1) + (2^n - 1), and the sign of x."""
    T = code.T
    size = code.value(f"call {T} @llvm.fabs({T} {x})")
    n, r = reduced(code, clamp(code, code.arithmetic("fmul", size, code.constant(-2.0)), TANH_END, None))
    scale = power_of_two(code, n)
    t = code.arithmetic("fmul", scale, _expm1_of_small(code, r))
    t = code.arithmetic("fadd", t, code.arithmetic("fsub", scale, code.constant(1.0)))
    quotient = code.arithmetic("fdiv", t, code.arithmetic("fadd", t, code.constant(2.0)), flags="")
    return code.value(f"call {T} @llvm.copysign({T} {quotient}, {T} {x})")


def log(code: Code, x: str) -> str:
    """The natural logarithm."""
    return _log(code, x, None)


def log1p(code: Code, x: str) -> str:
    """log(1 + x), with what the sum 1 + x rounds off put back."""
    return _log(code, code.arithmetic("fadd", x, code.constant(1.0), flags=""), x)


def _log(code: Code, u: str, x: str | None) -> str:
    """The logarithm of u, or that of 1 + x where u = 1 + x was rounded.

    For u = 2^k (1 + f) it is k ln 2 + log(1 + f), and with s = f / (2 + f), log(1 + f) = 2 artanh s
    = f - (f²/2 - s (f²/2 + R)), R = Σ 2/(2k+1) s^(2k) over k ≥ 1.
    """
    T = code.T
    integer, fraction, bias = BITS[T]
    one, smallest, inside = code.constant(1.0), code.constant(2.0 ** (1 - bias)), u
    is_subnormal = compare(code, "olt", u, smallest)
    lifted = code.arithmetic("fmul", u, code.constant(2.0 ** (fraction + 2)), flags="")
    u = select(code, is_subnormal, lifted, u)
    shift = code.value(f"select i1 {is_subnormal}, {integer} {fraction + 2}, {integer} 0")
    root = code.value(f"bitcast {T} {code.constant(math.sqrt(0.5))} to {integer}")
    whole = code.value(f"bitcast {T} {one} to {integer}")
    bits = code.value(f"bitcast {T} {u} to {integer}")
    raised = code.value(f"add {integer} {bits}, {code.value(f'sub {integer} {whole}, {root}')}")
    exponent = code.value(f"sub {integer} {code.value(f'ashr {integer} {raised}, {fraction}')}, {bias}")
    exponent = code.value(f"sub {integer} {exponent}, {shift}")
    kept = code.value(f"and {integer} {raised}, {2**fraction - 1}")
    scaled = code.value(f"bitcast {integer} {code.value(f'add {integer} {kept}, {root}')} to {T}")
    f = code.arithmetic("fsub", scaled, one, flags="")
    k = code.value(f"sitofp {integer} {exponent} to {T}")
    correction = code.constant(0.0)
    if x is not None:
        is_near = compare(code, "oeq", k, code.constant(0.0))
        f = select(code, is_near, x, f)
        lost = code.arithmetic("fsub", x, code.arithmetic("fsub", inside, one, flags=""), flags="")
        of_large = code.arithmetic("fsub", one, code.arithmetic("fsub", inside, x, flags=""), flags="")
        is_large = compare(code, "ogt", x, one)
        lost = select(code, is_large, of_large, lost)
        correction = select(code, is_near, code.constant(0.0), code.arithmetic("fdiv", lost, inside, flags=""))
    s = code.arithmetic("fdiv", f, code.arithmetic("fadd", f, code.constant(2.0), flags=""), flags="")
    z = code.arithmetic("fmul", s, s)
    R = code.arithmetic("fmul", z, horner(code, z, [2 / (2 * i + 1) for i in range(1, LOG_TERMS[T] + 1)]))
    half = code.arithmetic("fmul", code.arithmetic("fmul", f, f, flags=""), code.constant(0.5), flags="")
    low = code.arithmetic("fadd", code.arithmetic("fmul", k, code.constant(LOW[T])), correction)
    inner = code.arithmetic("fadd", code.arithmetic("fmul", s, code.arithmetic("fadd", half, R)), low)
    result = code.arithmetic("fsub", code.arithmetic("fsub", half, inner, flags=""), f, flags="")
    result = code.arithmetic("fsub", code.arithmetic("fmul", k, code.constant(HIGH[T])), result)
    return _at_the_ends(code, result, inside, x)


def _at_the_ends(code: Code, result: str, u: str, x: str | None) -> str:
    """The logarithm of 0, of infinity, of what is below 0 and of NaN; log1p keeps the sign of a zero."""
    zero, infinity, nothing = code.constant(0.0), code.constant(math.inf), code.constant(math.nan)
    result = select(code, compare(code, "oeq", u, infinity), infinity, result)
    result = select(code, compare(code, "oeq", u, zero), code.constant(-math.inf), result)
    result = select(code, compare(code, "ult", u, zero), nothing, result)
    if x is not None:
        result = select(code, compare(code, "oeq", x, zero), x, result)
    return result
