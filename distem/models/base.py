"""What the engine asks of a model, and what a model asks of the component it mixes."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, Self, get_type_hints

import numpy as np
from numpy.typing import NDArray

from distem.types import Assignment, Float64, Rows


@dataclass(frozen=True, slots=True, eq=False)
class Stats:
    """Sufficient statistics: every field adds, so the sum over blocks is that of the data."""

    def __add__(self, other: Self) -> Self:
        return type(self)(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def to_arrays(self, prefix: str = "") -> dict[str, NDArray[Any]]:
        """All fields as named arrays, for checkpoints."""
        out: dict[str, NDArray[Any]] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            name = prefix + field.name
            out |= value.to_arrays(f"{name}.") if isinstance(value, Stats) else {name: np.asarray(value)}
        return out

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]], prefix: str = "") -> Self:
        """The statistics of `to_arrays`, bit for bit."""
        kinds = get_type_hints(cls)
        values: list[Any] = []
        for field in fields(cls):
            kind, name = kinds[field.name], prefix + field.name
            if isinstance(kind, type) and issubclass(kind, Stats):
                values.append(kind.from_arrays(arrays, f"{name}."))
            else:
                values.append(kind(arrays[name]) if kind in (int, float) else arrays[name])
        return cls(*values)


@dataclass(frozen=True, slots=True, eq=False)
class Moments(Stats):
    """Weighted moments of each component, about the means the pass was given.

    Attributes
    ----------
    mass : ndarray, shape (k,)
        Sum of responsibilities times row weights.
    first : ndarray, shape (k, d)
        Sum of r (x - mu_k).
    second : ndarray
        Sum of r (x - mu_k)(x - mu_k)', in the shape of the covariances.
    """

    mass: Float64
    first: Float64
    second: Float64


@dataclass(frozen=True, slots=True, eq=False)
class MixtureStats(Stats):
    """What an E-step over some rows adds up to.

    Attributes
    ----------
    n : int
        Rows.
    total : float
        Sum of row weights.
    log_likelihood : float
        Weighted sum of log densities under the parameters of the pass.
    moments : Moments
        Of each component.
    """

    n: int
    total: float
    log_likelihood: float
    moments: Moments

    @property
    def mean_log_likelihood(self) -> float:
        """Per row, weights considered."""
        return self.log_likelihood / self.total


class Model(Protocol):
    """A family of distributions that EM can fit.

    All methods are pure; a model is small and picklable. Its statistics have `n`, `total`,
    `log_likelihood` and `mean_log_likelihood`.
    """

    stats_type: ClassVar[type[Stats]]

    def e_step(self, rows: Rows, params: Any) -> Any:
        """Sufficient statistics of some rows under the parameters."""

    def m_step(self, stats: Any, params: Any) -> Any:
        """The parameters that maximise the expected complete log-likelihood."""

    def assign(self, rows: Rows, params: Any, *, probability: bool = True) -> Assignment:
        """Labels, responsibilities and log densities of some rows."""

    def n_parameters(self, params: Any) -> int:
        """Free parameters, as information criteria count them."""

    def expected_complete(self, stats: Any, params: Any) -> float:
        """Expected complete log-likelihood of the rows in `stats`, for the entropy in ICL."""

    def pack(self, params: Any) -> Float64:
        """The parameters as an unconstrained vector."""

    def unpack(self, vector: Float64, like: Any) -> Any:
        """The parameters of an unconstrained vector."""

    def natural(self, differences: Float64, params: Any) -> Float64:
        """Differences of packed parameters (m, p) in units of the complete data's information per row.

        In the units returned, shape (m, q), that information is the identity at `params`.
        """

    def shift(self, stats: Any, params: Any) -> float | None:
        """Squared distance that the M-step moves all centres by, zero for rounding; None without centres."""

    def collapsed(self, stats: Any, params: Any) -> tuple[int, ...]:
        """Components that, after the M-step, have lost their rows or their spread."""

    def relocate(self, params: Any, component: int, where: Float64) -> Any:
        """Put a component at a place, with the spread the others have on average."""

    def drop(self, params: Any, component: int) -> Any:
        """The parameters without a component."""

    def arrays(self, params: Any) -> dict[str, Float64]:
        """The parameters as named arrays, bit for bit, for checkpoints."""

    def from_arrays(self, arrays: dict[str, Float64]) -> Any:
        """The parameters of `arrays`."""


def kernel_set(name: str) -> Any:
    """The kernels of a name: compiled or reference."""
    return importlib.import_module(f"distem.kernels.{name}")


def chain_kernels(name: str) -> Any:
    """The hidden Markov kernels of a name: compiled or reference."""
    return importlib.import_module(f"distem.kernels.chains_{name}")


def log_weights(weights: Float64) -> Float64:
    """Natural log, with minus infinity for a component of no weight and no warning."""
    with np.errstate(divide="ignore"):
        return np.log(weights)
