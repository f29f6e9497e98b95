"""From the data's own units to those the model works in, and back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from distem.types import Bools, Float64, Floats, Rows

Missing = Literal["drop", "keep", "marginalise"]
Precision = Literal["float64", "float32"]

_TILE = 1 << 17  # elements converted at a time: the float64 temporary stays in cache
_LIMIT = {"float64": 1e140, "float32": 1e17}  # beyond it squares times precisions would overflow
_HUGE = 2.0**1000
_DOWN = 2.0**-64


@dataclass(frozen=True, eq=False)
class Transform:
    """``z = ((x - shift) / scale) @ matrix``, computed in float64 and cast last.

    Attributes
    ----------
    missing : {"drop", "keep", "marginalise"}
        Leave out rows with a missing or infinite feature or weight, hand them on as they are, or keep
        their places with NaN in every feature.
    shift : ndarray of float64, shape (d,), or None
        In the data's units.
    scale : ndarray of float64, shape (d,), or None
        Positive, in the data's units.
    matrix : ndarray of float64, shape (d, d), or None
        Invertible; whitens the scaled features.
    dtype : {"float64", "float32"}
        Of the rows handed on. Values that would overflow when squared are held at ±1e140
        (float64) or ±1e17 (float32), so that every finite input has a finite density.
    """

    missing: Missing = "drop"
    shift: Float64 | None = None
    scale: Float64 | None = None
    matrix: Float64 | None = None
    dtype: Precision = "float64"

    @classmethod
    def identity(cls, missing: Missing = "drop", dtype: Precision = "float64") -> Transform:
        """Return the transform that changes no value."""
        return cls(missing=missing, dtype=dtype)

    @property
    def is_identity(self) -> bool:
        """Whether values keep their units."""
        return self.shift is None and self.scale is None and self.matrix is None

    def __reduce__(self) -> tuple[Any, ...]:
        return Transform, (self.missing, self.shift, self.scale, self.matrix, self.dtype)

    @cached_property
    def _extreme(self) -> bool:
        # x - shift itself could overflow
        return any(a is not None and bool(np.any(np.abs(a) >= _HUGE)) for a in (self.shift, self.scale))

    def _forward(self, x: NDArray[Any], out: Floats | None = None) -> Floats:
        """Transform rows in float64, without limits; into `out` if it is given."""
        shift, scale = self.shift, self.scale
        if self._extreme:
            x = x * _DOWN
            shift = None if shift is None else shift * _DOWN
            scale = np.full(x.shape[1], _DOWN) if scale is None else scale * _DOWN
        z: Floats = np.empty(x.shape) if out is None else out
        if shift is None:
            z[...] = x
        else:
            _by_columns(np.subtract, x, shift, z)
        if scale is not None:
            _by_columns(np.divide, z, scale, z)
        if self.matrix is None:
            return z
        np.clip(z, -1e150, 1e150, out=z)  # an overflow must not become inf - inf
        z[...] = z @ self.matrix
        return z

    def forward(self, x: NDArray[Any]) -> Floats:
        """Transform rows.

        Parameters
        ----------
        x : ndarray, shape (n, d)
            In the data's units, any real dtype, without missing values.

        Returns
        -------
        ndarray of `dtype`, shape (n, d)
            C-contiguous. `x` itself where nothing has to change.
        """
        return self._convert(x)[0]

    def _convert(self, x: NDArray[Any]) -> tuple[Floats, bool]:
        """Transform rows; also tell whether all came out finite before they were limited."""
        dtype = np.dtype(self.dtype)
        limit = _LIMIT[self.dtype]
        same = self.is_identity and x.dtype == dtype and x.flags.c_contiguous
        out: Floats = x if same else np.empty(x.shape, dtype)
        if not same and self._in_one_sweep(x, out, limit):
            return out, True
        rows = min(x.shape[0], max(1, _TILE // max(1, x.shape[1]))) or 1
        spare = None if same or dtype == np.float64 else np.empty((rows, x.shape[1]))
        finite = True
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, x.shape[0], rows):
                tile = slice(start, start + rows)
                if same:
                    z = x[tile]
                else:
                    z = self._forward(x[tile], out[tile] if spare is None else spare[: len(x) - start])
                low, high = z.min(), z.max()
                finite = finite and bool(np.isfinite(low) and np.isfinite(high))
                if not (low >= -limit and high <= limit):
                    if same:
                        out, same = x.copy(), False
                        z = out[tile]
                    np.clip(z, -limit, limit, out=z)
                if spare is not None:
                    out[tile] = z
        return out, finite

    def _in_one_sweep(self, x: NDArray[Any], out: Floats, limit: float) -> bool:
        """Transform rows compiled, where that is possible; return whether all came out within the limit."""
        from distem.kernels import scaling  # late: a plan needs no kernels

        if (
            self.matrix is not None
            or self._extreme
            or not x.flags.c_contiguous
            or x.dtype not in scaling.TYPES
        ):
            return False
        return x.size > 0 and scaling.scale(x, self.shift, self.scale, out, limit)

    def rows(self, values: NDArray[Any], weights: NDArray[Any] | None) -> Rows:
        """Make the rows a model sees from what the store holds.

        Parameters
        ----------
        values : ndarray, shape (N, d)
            Any real dtype; NaN where missing.
        weights : ndarray, shape (N,), or None
            Row weights.

        Returns
        -------
        Rows
            Under "drop" without the rows that have a missing or infinite feature or weight.
        """
        mass = None if weights is None else np.ascontiguousarray(weights, dtype=np.float64)
        if self.missing == "keep":
            with np.errstate(invalid="ignore", over="ignore"):
                kept = values if self.is_identity else self._forward(values)
                return Rows(np.ascontiguousarray(kept, dtype=self.dtype), mass)
        if self.missing == "marginalise":
            return Rows(self._in_place(values), mass)
        good = None if mass is None else np.isfinite(mass)
        if good is not None and good.all():
            good = None
        z, finite = self._convert(values)
        # an overflow looks like a missing value here; the stored values themselves decide
        if not finite and values.dtype.kind == "f":
            usable = _finite_rows(values)
            if not usable.all():
                good = usable if good is None else good & usable
        if good is None:
            return Rows(z, mass)
        chosen = np.flatnonzero(good)
        return Rows(z.take(chosen, axis=0), None if mass is None else mass[chosen], good)

    def emphasised(self, factors: Float64) -> Transform:
        """Return the same transform with each feature multiplied by a factor at its end."""
        if self.matrix is not None:
            return replace(self, matrix=self.matrix * factors)
        return replace(self, scale=(1.0 if self.scale is None else self.scale) / factors)

    def _in_place(self, values: NDArray[Any]) -> Floats:
        """Transform rows; those with a missing or infinite feature become NaN."""
        z, finite = self._convert(values)
        if not finite and values.dtype.kind == "f":
            missing = ~_finite_rows(values)
            if missing.any():
                z = z.copy() if z is values else z
                z[missing] = np.nan
        return z

    @property
    def log_jacobian(self) -> float:
        """``log |dz/dx|``: add it to a log density in model units to get it in the data's."""
        total = 0.0 if self.scale is None else -float(np.log(self.scale).sum())
        return total if self.matrix is None else total + float(np.linalg.slogdet(self.matrix)[1])

    def forward_means(self, means: ArrayLike) -> Float64:
        """Take points, shape (k, d), from the data's units to the model's."""
        return np.asarray(self._forward(np.atleast_2d(np.asarray(means, np.float64))), np.float64)

    def backward_means(self, means: ArrayLike) -> Float64:
        """Take points, shape (k, d), from the model's units to the data's."""
        x: Float64 = np.atleast_2d(np.asarray(means, np.float64))
        if self.matrix is not None:
            x = np.asarray(np.linalg.solve(self.matrix.T, x.T).T, np.float64)
        if self.scale is not None:
            x = x * self.scale
        return x.copy() if self.shift is None else x + self.shift

    def forward_covariances(self, covariances: ArrayLike) -> Float64:
        """Take covariances, shape (..., d, d), from the data's units to the model's."""
        c = np.array(covariances, np.float64)
        if self.scale is not None:
            c = c / self.scale[:, None] / self.scale
        return c if self.matrix is None else self.matrix.T @ c @ self.matrix

    def backward_covariances(self, covariances: ArrayLike) -> Float64:
        """Take covariances, shape (..., d, d), from the model's units to the data's.

        An entry beyond float64's range becomes infinite or zero.
        """
        c = np.array(covariances, np.float64)
        if self.matrix is not None:
            back = np.linalg.inv(self.matrix)
            c = back.T @ c @ back
        if self.scale is None:
            return c
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(c * self.scale[:, None] * self.scale, np.float64)

    def describe(self) -> dict[str, Any]:
        """Return the transform as JSON-able values; `from_description` makes it again, bit for bit."""

        def plain(a: Float64 | None) -> Any:
            return None if a is None else a.tolist()

        return {
            "missing": self.missing,
            "shift": plain(self.shift),
            "scale": plain(self.scale),
            "matrix": plain(self.matrix),
            "dtype": self.dtype,
        }

    @classmethod
    def from_description(cls, described: dict[str, Any]) -> Transform:
        """Make the transform that `describe` described."""

        def array(name: str) -> Float64 | None:
            return None if described.get(name) is None else np.array(described[name], np.float64)

        return cls(described["missing"], array("shift"), array("scale"), array("matrix"), described["dtype"])


def _finite_rows(values: NDArray[Any]) -> Bools:
    """Return which rows are all finite, shape (n,); quick where few are not."""
    good = np.ones(len(values), np.bool_)
    good[np.flatnonzero(~np.isfinite(values)) // values.shape[1]] = False
    return good


def _by_columns(operation: np.ufunc, x: NDArray[Any], by: Float64, out: Floats) -> None:
    """Apply an operation between rows and a vector; several rows at once, where they are short."""
    n, d = x.shape
    together = 512 // d if x.flags.c_contiguous else 0
    whole = n // together * together if together > 1 else 0
    if whole:
        shape = (whole // together, together * d)
        operation(
            x[:whole].reshape(shape), np.tile(by, together), out=out[:whole].reshape(shape), dtype=np.float64
        )
    operation(x[whole:], by, out=out[whole:], dtype=np.float64)


def native(dtypes: list[DTypeLike]) -> np.dtype[Any]:
    """Return the dtype that holds values of all these dtypes, in the machine's byte order."""
    return np.result_type(*dtypes).newbyteorder("=") if dtypes else np.dtype(np.float64)
