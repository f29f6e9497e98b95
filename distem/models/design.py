"""Designs: what a regression's terms are made of, and what they become in other units."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distem.errors import ConfigError
from distem.kernels.regression_reference import Layout
from distem.types import Float64, Ints

Powers = tuple[int, ...]
"""Of each predictor in one term."""
_POWER = re.compile(r"(?P<name>.+?)\s*(?:\^|\*\*)\s*(?P<power>[0-9]+)")


@dataclass(frozen=True)
class Design:
    """Terms that are products of powers of predictors.

    Attributes
    ----------
    names : tuple of str
        Of the predictors.
    terms : tuple of tuple of int
        For each term the power of each predictor; all zero for the constant.
    """

    names: tuple[str, ...]
    terms: tuple[Powers, ...]

    @classmethod
    def linear(cls, names: Sequence[str], intercept: bool = True) -> Design:
        """The predictors as they are, behind a constant."""
        m = len(names)
        ones = tuple(tuple(int(i == j) for j in range(m)) for i in range(m))
        return cls(tuple(names), (((0,) * m, *ones) if intercept else ones))

    @classmethod
    def parsed(cls, terms: Sequence[str], names: Sequence[str]) -> Design:
        """Of terms such as ``1``, ``x``, ``x^2`` and ``x*z``.

        Raises
        ------
        ConfigError
            A term names no predictor, or comes twice.
        """
        found: list[Powers] = []
        for term in terms:
            powers = [0] * len(names)
            for part in re.split(r"(?<!\*)\*(?!\*)", term.strip()):
                part = part.strip()
                if part == "1":
                    continue
                match = None if part in names else _POWER.fullmatch(part)
                name, power = (part, 1) if match is None else (match["name"], int(match["power"]))
                if name not in names:
                    raise ConfigError(
                        f"The design's term {term!r} names {name!r}, which is no predictor.",
                        f"The predictors are {', '.join(names) or 'none'}; 1 is the constant.",
                    )
                powers[list(names).index(name)] += power
            if tuple(powers) in found:
                raise ConfigError(f"The design's term {term!r} comes twice.", "Leave one out.")
            found.append(tuple(powers))
        return cls(tuple(names), tuple(found))

    @property
    def p(self) -> int:
        """Number of terms."""
        return len(self.terms)

    @property
    def labels(self) -> tuple[str, ...]:
        """What each term is called."""

        def label(powers: Powers) -> str:
            parts = [f"{n}^{e}" if e > 1 else n for n, e in zip(self.names, powers, strict=True) if e]
            return "*".join(parts) or "1"

        return tuple(map(label, self.terms))

    @property
    def constant(self) -> int | None:
        """Which term is the constant."""
        return next((i for i, powers in enumerate(self.terms) if not any(powers)), None)

    @property
    def closed(self) -> bool:
        """Whether every term has all lower ones beside it: predictors then may be counted from anywhere."""
        return all(lower in self.terms for powers in self.terms for lower in _lower(powers))

    @property
    def factors(self) -> Ints:
        """Columns of each term, shape (1, p, f), as `Layout` has them."""
        columns = [[j for j, e in enumerate(powers) for _ in range(e)] for powers in self.terms]
        most = max(1, *map(len, columns)) if columns else 1
        return np.array([[row + [-1] * (most - len(row)) for row in columns]], dtype=np.int64)

    def layout(self, q: int, position: Sequence[int] = ()) -> Layout:
        """Of rows that hold the predictors, then q responses."""
        m = len(self.names)
        return Layout(self.factors, np.arange(m, m + q)[None], np.asarray(position, dtype=np.int64))

    def in_units(self, shift: Float64, scale: Float64) -> Float64:
        """Matrix T, (p, p): terms of ``(x - shift) / scale`` are T times those of x.

        Shifts are zero where the design is not closed.
        """
        out = np.zeros((self.p, self.p))
        for i, powers in enumerate(self.terms):
            for lower in [*_lower(powers), powers]:
                pairs = list(zip(powers, lower, shift, scale, strict=True))
                value = math.prod(math.comb(e, f) * (-a) ** (e - f) / s**e for e, f, a, s in pairs)
                if lower in self.terms:
                    out[i, self.terms.index(lower)] += value
        return out


def _lower(powers: Powers) -> list[Powers]:
    """All terms below one."""
    return [t for t in itertools.product(*(range(e + 1) for e in powers)) if t != powers]


def to_data_units(
    design: Design, coef: Float64, x: tuple[Float64, Float64], y: tuple[Float64, Float64]
) -> Float64:
    """Coefficients (k, p, q) in the data's units, of those for shifted and scaled columns.

    Parameters
    ----------
    x, y : tuple of ndarray
        Shift and scale of predictors and responses.
    """
    out = np.einsum("ij,kiq->kjq", design.in_units(*x), coef) * y[1]
    if design.constant is not None:
        out[:, design.constant] += y[0]
    return np.asarray(out)


def to_model_units(
    design: Design, coef: Float64, x: tuple[Float64, Float64], y: tuple[Float64, Float64]
) -> Float64:
    """The inverse of `to_data_units`."""
    out = coef.copy()
    if design.constant is not None:
        out[:, design.constant] -= y[0]
    inverse = np.linalg.inv(design.in_units(*x))
    return np.asarray(np.einsum("ij,kiq->kjq", inverse, out / y[1]))
