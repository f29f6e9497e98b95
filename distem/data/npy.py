"""``.npy`` files, memory-mapped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distem.data._names import NUMERIC, no_such, not_numeric
from distem.data.files import Held, expand, frozen, is_url, open_binary, stamp
from distem.data.grid import Box, Grid, leading_sizes, rows_per_chunk
from distem.data.rows import DIM, NoCoordinates, choose
from distem.data.source import Raw, Source, reason
from distem.errors import ConfigError, DamagedChunkError, DataError

_HELD: Held[NDArray[Any]] = Held(8)


@dataclass(frozen=True)
class NpyReader(NoCoordinates):
    """Reads boxes of a memory-mapped array.

    Attributes
    ----------
    path : str
        The file.
    axis : int
        Of the features.
    columns : tuple of int or None
        Which of them; None means all.
    options : str
        Storage options; they may hold secrets and are not shown.
    version : tuple of int
        Tells a rewritten file from the one that is held open.
    """

    path: str
    axis: int
    columns: tuple[int, ...] | None = None
    options: str = field(default="{}", repr=False)
    version: tuple[int, ...] = ()

    def array(self) -> NDArray[Any]:
        """Return the whole array, its features last."""
        return np.moveaxis(_HELD.get(self, self._load), self.axis, -1)

    def _load(self) -> NDArray[Any]:
        try:
            if is_url(self.path):
                with open_binary(self.path, self.options) as file:
                    return np.asarray(np.load(file, allow_pickle=False))
            return np.asarray(np.load(self.path, mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:
            raise DataError(
                f"{self.path} cannot be opened: {reason(error)}.", "Is it a whole .npy file?"
            ) from error

    def read(self, box: Box) -> Raw:
        """Read the rows of a box: copied, for a file may change or vanish under its map."""
        values = self.array()[box]
        if self.columns is not None:
            values = values[..., list(self.columns)]
        return np.array(values, order="C").reshape(-1, values.shape[-1]), None

    def locate(self, box: Box) -> DamagedChunkError | None:  # noqa: ARG002 -- it has no chunks
        """Return None."""
        return None


def open_npy(
    path: str,
    features: Sequence[str] | None = None,
    sample_dims: Sequence[str] | None = None,
    feature_dim: str | None = None,
    weights: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    block_rows: int | None = None,
) -> Source:
    """Open an array; see `open_source`.

    The dimensions of an (n, d) array are "row" and "feature"; else they are dim_0, dim_1 ..., the
    last the features unless `feature_dim` names another. The features are x0, x1 ...
    """
    if weights is not None:
        raise ConfigError(
            f"weights is '{weights}', but an .npy file has no variables.", "Keep both in a Zarr store."
        )
    options = frozen(storage_options)
    found, *more = expand(path, (".npy",), options)
    if more:
        raise DataError(
            f"{path} holds {len(more) + 1} .npy files, and one is read.", "Combine them into one."
        )
    whole = NpyReader(found, -1, None, options, stamp(found)).array()
    if whole.ndim < 2:
        raise DataError(
            f"{found} has shape {whole.shape}, without a feature dimension.",
            "Reshape it: array.reshape(-1, 1).",
        )
    if whole.dtype.kind not in NUMERIC:
        raise not_numeric(found, whole.dtype)
    dims = (DIM, "feature") if whole.ndim == 2 else tuple(f"dim_{axis}" for axis in range(whole.ndim))
    for name in (*(sample_dims or ()), *([feature_dim] if feature_dim else [])):
        if name not in dims:
            raise no_such("dimension", name, dims, found)
    axis = dims.index(feature_dim) if feature_dim else whole.ndim - 1
    sample = tuple(dim for i, dim in enumerate(dims) if i != axis)
    if sample_dims and tuple(sample_dims) != sample:
        raise DataError(
            f"sample_dims are {', '.join(sample_dims)}, but those of {found} are {', '.join(sample)}.",
            "Leave sample_dims out.",
        )
    existing = [f"x{j}" for j in range(whole.shape[axis])]
    names = choose(features, existing, existing, None, found)
    columns = None if list(names) == existing else tuple(existing.index(name) for name in names)
    shape = tuple(size for i, size in enumerate(whole.shape) if i != axis)
    sizes = leading_sizes(shape, block_rows or rows_per_chunk(len(names)))
    return Source(
        reader=NpyReader(found, axis, columns, options, stamp(found)),
        kind="npy",
        grid=Grid.regular(sample, shape, sizes),
        features=names,
        dtype=whole.dtype.newbyteorder("="),
        variables=names,
        feature_dim=feature_dim,
    )
