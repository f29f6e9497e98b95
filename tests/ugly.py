"""Ugly but legal rows, by what is ugly about them."""

from __future__ import annotations

from typing import Any

import numpy as np


def rows(n: int = 60, d: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, d))


def with_rows(value: Any, *at: int) -> np.ndarray:
    x = rows()
    x[list(at)] = value
    return x


def legal() -> dict[str, tuple[np.ndarray, int]]:
    """Rows and number of components, by what is ugly about them."""
    rng, x = np.random.default_rng(1), rows()
    return {
        "a constant column": (np.column_stack([x[:, :2], np.full(60, 3.0)]), 2),
        "only constant columns": (np.full((20, 3), 7.0), 2),
        "constant at a large value": (np.full((20, 2), 1e9), 3),
        "columns that are copies": (np.column_stack([x, x]), 3),
        "copies in other units": (np.column_stack([x, 1e3 * x + 5]), 3),
        "a column that is a sum": (np.column_stack([x, x.sum(axis=1)]), 2),
        "duplicated rows": (np.repeat(x[:4], 10, axis=0), 3),
        "an outlier at 1e12": (with_rows(1e12, 7), 2),
        "an outlier at 1e12 in one column": (with_rows([1e12, 0, 0], 7), 3),
        "two far outliers": (with_rows([[1e12] * 3, [-1e12] * 3], 7, 8), 3),
        "more components than distinct rows": (np.repeat(x[:2], 5, axis=0), 4),
        "one distinct row": (np.zeros((10, 1)), 4),
        "integers": (rng.integers(0, 5, (50, 3)), 3),
        "int8": (rng.integers(-100, 100, (50, 3)).astype(np.int8), 3),
        "uint64 beyond 2**63": (rng.integers(0, 2**63, (50, 3)).astype(np.uint64) * 2, 3),
        "booleans": (rng.random((50, 3)) < 0.4, 2),
        "big-endian": (x.astype(">f8"), 2),
        "big-endian float32": (x.astype(">f4"), 2),
        "big-endian integers": (rng.integers(0, 9, (50, 2)).astype(">i4"), 2),
        "float16": (x.astype(np.float16), 2),
        "long double": (x.astype(np.longdouble), 2),
        "one row": (x[:1], 1),
        "two rows, two components": (x[:2], 2),
        "one feature": (x[:, :1], 3),
        "one component": (x, 1),
        "as many components as rows": (x[:6], 6),
        "fewer rows than features": (rng.normal(size=(5, 20)), 2),
        "a lone row far off": (np.concatenate([x, [[50.0, 50, 50]]]), 3),
        "1e150": (1e150 * x, 2),
        "1e300": (1e300 * x, 2),
        "1e-160": (1e-160 * x, 2),
        "1e-300": (1e-300 * x, 2),
        "columns of 1e-150 and 1e150": (x * [1e-150, 1e150, 1.0], 2),
        "the largest floats": (np.array([[1.7e308], [-1.7e308], [0.0], [1.0]]), 2),
        "the smallest float": (np.array([[0.0], [5e-324], [1.0], [1.0]]), 2),
        "1e150 as one outlier": (with_rows(1e150, 7), 2),
    }
