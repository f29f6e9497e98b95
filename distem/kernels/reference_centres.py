"""Plain NumPy k-means kernels: the executable truth of `distem.kernels.compiled_centres`.

All arithmetic is in float64 whatever the rows' type. A row belongs to the centre whose squared distance,
the sum of squared differences in the features' own order, is least; to the first of several.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from distem.types import Float64, Floats, Ints


@dataclass(frozen=True, slots=True, eq=False)
class Bounds:
    """What is known of n rows' distances from some centres; a cache, true whenever it is there.

    Attributes
    ----------
    centres : ndarray of float64, shape (k, d)
        The centres it is known for.
    label : ndarray of int32, shape (n,)
        The nearest of them.
    upper, lower : ndarray of float32, shape (n,)
        No less than the distance from the nearest centre, no more than that from any other.
    worked : int
        Rows whose distances from all centres were taken to find this out.
    wait : int
        Passes to come that do without, for bounds that did not pay; `patience` the waits so far.
    """

    centres: Float64
    label: NDArray[np.int32]
    upper: NDArray[np.float32]
    lower: NDArray[np.float32]
    worked: int
    wait: int = 0
    patience: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.centres.nbytes + self.label.nbytes + self.upper.nbytes + self.lower.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class Lloyd:
    """What Lloyd's assignment of some rows adds up to.

    Attributes
    ----------
    inertia : float
        Weighted sum of squared distances from the nearest centres.
    mass : ndarray of float64, shape (k,)
        Sum of the weights of each centre's rows.
    first : ndarray of float64, shape (k, d)
        Weighted sum of the rows' differences from their centre.
    label : ndarray of int32, shape (n,)
        The nearest centre of each row.
    bounds : Bounds or None
        For the next pass, if they were asked for.
    """

    inertia: float
    mass: Float64
    first: Float64
    label: NDArray[np.int32] = field(repr=False)
    bounds: Bounds | None = None


def nearest(x: Floats, centres: Float64) -> tuple[Ints, Float64]:
    """Return each row's nearest centre and the squared distance to it.

    Parameters
    ----------
    x : ndarray of float64 or float32, shape (n, d)
        Rows.
    centres : ndarray of float64, shape (k, d)
        Centres.

    Returns
    -------
    label : ndarray of int64, shape (n,)
        Index of the nearest centre, the lowest where several are equally near.
    squared_distance : ndarray of float64, shape (n,)
        Squared Euclidean distance.
    """
    label, square = np.zeros(x.shape[0], np.int64), np.full(x.shape[0], np.inf)
    for c in range(centres.shape[0]):
        here = np.zeros(x.shape[0])
        with np.errstate(over="ignore"):
            for i in range(centres.shape[1]):
                here += (x[:, i] - centres[c, i]) ** 2
        nearer = here < square
        label[nearer], square[nearer] = c, here[nearer]
    return label, square


def lloyd(
    x: Floats,
    weights: Float64 | None,
    centres: Float64,
    bounds: Bounds | None = None,  # noqa: ARG001 -- the compiled twin's; here nothing is spared
    *,
    keep: bool = False,  # noqa: ARG001
) -> Lloyd:
    """Return what the rows' assignment to their nearest centres adds up to.

    Parameters
    ----------
    x : ndarray of float64 or float32, shape (n, d)
        Rows.
    weights : ndarray of float64, shape (n,), or None
        Row weights, not negative; None means one each.
    centres : ndarray of float64, shape (k, d)
        Centres.
    bounds : Bounds, optional
        What an earlier call on these rows left; it changes no bit of the sums.
    keep : bool
        Whether to return bounds.
    """
    label, _ = nearest(x, centres)
    w = np.ones(x.shape[0]) if weights is None else weights
    mass, first = np.zeros(len(centres)), np.zeros(centres.shape)
    difference = x - centres[label]
    with np.errstate(over="ignore"):
        np.add.at(mass, label, w)
        np.add.at(first, label, w[:, None] * difference)
        inertia = float(w @ (difference**2).sum(axis=1))
    return Lloyd(inertia, mass, first, label.astype(np.int32))
