"""A block of a chain, there and back: forward over its tiles, then from the last to the first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from distem.models.chain import Boundary
from distem.types import Bools, Float64, Floats, Rows

TILE = 4096
"""Rows that are worked on at once."""
KEPT_BYTES = 16 * 1024**2
"""So much of the way there is remembered for the way back; what is further away is gone over again."""


class Sweep:
    """Looks forward over a block when it is made, and back in `smoothed`.

    Parameters
    ----------
    chains : module
        The kernels.
    logs : tuple of ndarray
        Log start and log transition.
    rows : Rows
        The block.
    emission : callable
        Log densities (n, k) of some rows.
    boundary : Boundary
        What reaches the block.

    Attributes
    ----------
    log_density : ndarray, shape (n,)
        Of each row given all before it.
    log_likelihoods : list of float
        Its sums over the tiles.
    """

    def __init__(
        self,
        chains: Any,
        logs: tuple[Float64, Float64],
        rows: Rows,
        emission: Callable[[Floats], Float64],
        boundary: Boundary,
    ) -> None:
        self._chains, self._logs, self._rows, self._emission = chains, logs, rows, emission
        self._begins, self._after = begins_of(rows), boundary.log_after
        self._tiles = tiles_of(rows.n)
        self.log_density = np.empty(rows.n)
        self.log_likelihoods: list[float] = []
        keep = max(1, KEPT_BYTES // (24 * TILE * len(logs[0])))
        self._reaching: list[Float64] = []
        self._kept: dict[int, tuple[Any, ...]] = {}
        message = boundary.log_before
        for i, tile in enumerate(self._tiles):
            self._reaching.append(message)
            log_emission, message, each, *on = self._forward(i)
            self.log_density[tile] = each
            self.log_likelihoods.append(float(each.sum()))
            self._kept.pop(i - keep, None)
            self._kept[i] = (log_emission, *on)

    def _forward(self, i: int) -> tuple[Any, ...]:
        tile = self._tiles[i]
        log_emission = self._emission(self._rows.values[tile])
        told = self._chains.remember(log_emission, self._begins[tile], *self._logs, self._reaching[i])
        return log_emission, *told

    def smoothed(self) -> Iterator[tuple[slice, Float64, Float64, Float64]]:
        """For each tile, from the last: responsibilities, expected transitions and first states."""
        message = self._after
        for i in range(len(self._tiles) - 1, -1, -1):
            tile = self._tiles[i]
            if i not in self._kept:
                log_emission, _, _, *on = self._forward(i)
            else:
                log_emission, *on = self._kept.pop(i)
            resp, pairs, first, message = self._chains.smooth_on(
                log_emission, self._begins[tile], *self._logs, self._reaching[i], message, *on
            )
            yield tile, resp, pairs, first


def tiles_of(n: int) -> list[slice]:
    """Tiles of n rows."""
    return [slice(start, min(start + TILE, n)) for start in range(0, n, TILE)]


def begins_of(rows: Rows) -> Bools:
    """Which rows begin a sequence; if nothing is said of sequences, the first alone."""
    if rows.begins is not None:
        return rows.begins
    begins = np.zeros(rows.n, dtype=bool)
    begins[:1] = True
    return begins
