"""What the formats made of rows have in common: columns chosen by name, regular runs of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distem.data._names import no_such
from distem.data.grid import Grid, rows_per_chunk
from distem.data.source import Reader, Source
from distem.data.variables import Stored
from distem.errors import ConfigError, DataError

DIM = "row"
CHUNK_BYTES = 4 * 1024**2


class NoCoordinates:
    """Formats without coordinates."""

    def coordinates(self) -> dict[str, Stored]:
        """Return none."""
        return {}

    def read_coordinate(self, name: str, box: Mapping[str, slice]) -> Any:  # noqa: ARG002 -- there is none
        """Raise: there is none."""
        raise KeyError(name)


def choose(
    features: Sequence[str] | str | None,
    numeric: Sequence[str],
    existing: Sequence[str],
    weights: str | None,
    where: str,
) -> tuple[str, ...]:
    """Return the columns that are the features.

    Parameters
    ----------
    features : sequence of str, str or None
        As the config names them; None: all numeric ones but the weights.
    numeric, existing : sequence of str
        Columns that are numeric, and all of them.
    weights : str or None
        The column of weights.
    where : str
        The file, for errors.

    Raises
    ------
    DataError
        If a column does not exist, is named twice, or none is left.
    """
    if weights is not None and weights not in existing:
        raise no_such("weights column", weights, existing, where)
    if features is None:
        chosen = tuple(name for name in numeric if name != weights)
        if not chosen:
            raise DataError(
                f"{where} has no numeric columns to be features.", f"It has: {', '.join(existing)}."
            )
        return chosen
    chosen = (features,) if isinstance(features, str) else tuple(features)
    if not chosen:
        raise DataError("No features are named.", f"{where} has: {', '.join(existing)}.")
    for name in chosen:
        if name not in existing:
            raise no_such("column", name, existing, where)
        if chosen.count(name) > 1:
            raise DataError(f"The feature '{name}' is named twice.", "Name each feature once.")
    return chosen


def only_rows(kind: str, sample_dims: Sequence[str] | None, feature_dim: str | None) -> None:
    """Refuse dimensions a table does not have.

    Raises
    ------
    ConfigError
        If a feature dimension is named.
    DataError
        If the sample dimensions are anything but the rows.
    """
    if feature_dim is not None:
        raise ConfigError(
            f"feature_dim is '{feature_dim}', but in {kind} the features are columns.", "Leave it out."
        )
    for name in sample_dims or ():
        if name != DIM:
            raise no_such("dimension", name, [DIM], f"{kind} data")


def rows_source(
    reader: Reader, kind: str, n: int, features: tuple[str, ...], dtype: Any, weights: str | None, rows: int
) -> Source:
    """Make a source of n rows in chunks of `rows`."""
    return Source(
        reader=reader,
        kind=kind,
        grid=Grid.regular((DIM,), (n,), (rows,)),
        features=features,
        dtype=np.dtype(dtype),
        variables=features,
        weights=weights,
    )


def default_rows(d: int) -> int:
    """Return rows a chunk where the format has none of its own: a function of d alone."""
    return rows_per_chunk(d, CHUNK_BYTES)
