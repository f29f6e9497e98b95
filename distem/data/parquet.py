"""Parquet: files, folders and globs, read by row ranges through PyArrow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distem.data._names import need, not_numeric
from distem.data.files import Held, expand, frozen, is_url, open_binary, stamp
from distem.data.grid import Box
from distem.data.rows import NoCoordinates, choose, default_rows, only_rows, rows_source
from distem.data.source import Raw, Source, reason
from distem.errors import DamagedChunkError, DataError

_HELD: Held[NDArray[Any]] = Held(4)
_LEAST, _MOST = 2**18, 2**25  # bytes of decoded rows between which a row group is a good chunk


@dataclass(frozen=True)
class ParquetReader(NoCoordinates):
    """Reads rows across row groups and files; keeps the last decoded groups.

    Attributes
    ----------
    files : tuple of str
        In row order.
    groups : tuple of tuple of int
        Rows of each row group of each file.
    columns : tuple of str
        The features, then the weights if there are any.
    d : int
        Number of features.
    dtype : str
        Of the features: a float that holds their values and NaN.
    options : str
        Storage options; they may hold secrets and are not shown.
    version : tuple of int
        Tells rewritten files from those held.
    """

    files: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]
    columns: tuple[str, ...]
    d: int
    dtype: str
    options: str = field(default="{}", repr=False)
    version: tuple[int, ...] = ()

    def read(self, box: Box) -> Raw:
        """Read a run of rows."""
        (rows,) = box
        parts = []
        for file, group, start in self._overlapping(rows):
            size = self.groups[file][group]
            if rows.start <= start and start + size <= rows.stop:
                parts.append(self._decode(file, group))  # no other block will ask for it
            else:
                parts.append(self._group(file, group)[max(0, rows.start - start) : rows.stop - start])
        both = parts[0] if len(parts) == 1 else np.concatenate(parts)
        weights = both[:, self.d] if len(self.columns) > self.d else None
        return np.ascontiguousarray(both[:, : self.d], dtype=self.dtype), weights

    def _overlapping(self, rows: slice) -> Iterator[tuple[int, int, int]]:
        """Yield file, row group and its first row, for the groups that hold some of the rows."""
        start = 0
        for file, sizes in enumerate(self.groups):
            for group, size in enumerate(sizes):
                if start < rows.stop and start + size > rows.start:
                    yield file, group, start
                start += size

    def _group(self, file: int, group: int) -> NDArray[Any]:
        return _HELD.get((self, file, group), lambda: self._decode(file, group))

    def _decode(self, file: int, group: int) -> NDArray[Any]:
        with _open(self.files[file], self.options) as parquet:
            table = parquet.read_row_group(group, columns=list(self.columns), use_threads=False)
        weighted = len(self.columns) > self.d
        out = np.empty((table.num_rows, len(self.columns)), np.float64 if weighted else self.dtype)
        for j, name in enumerate(self.columns):
            out[:, j] = _numbers(table.column(name))
        return out

    def locate(self, box: Box) -> DamagedChunkError | None:
        """Decode the row groups one by one; name the first that fails."""
        for file, group, _ in self._overlapping(box[0]):
            try:
                self._decode(file, group)
            except Exception as error:  # noqa: BLE001 -- a codec may raise anything
                return DamagedChunkError(
                    f"Row group {group} of {self.files[file]} cannot be decoded: {reason(error)}.",
                    "Restore the file from a copy, or write it again.",
                )
        return None


def open_parquet(
    path: str,
    features: Sequence[str] | None = None,
    sample_dims: Sequence[str] | None = None,
    feature_dim: str | None = None,
    weights: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    block_rows: int | None = None,
) -> Source:
    """Open Parquet files as one table; see `open_source`.

    Chunks are the row groups where these are of one size, between 256 KiB and 32 MiB decoded.
    """
    only_rows("parquet", sample_dims, feature_dim)
    options = frozen(storage_options)
    files = expand(path, (".parquet", ".parq", ".pq"), options)
    schema = None
    groups = []
    for file in files:
        with _open(file, options) as parquet:
            found = parquet.schema_arrow
            counts = parquet.metadata
            groups.append(tuple(counts.row_group(i).num_rows for i in range(counts.num_row_groups)))
        if schema is None:
            schema = found
            types = {field.name: field.type for field in schema}
            numeric = [
                name for name, kind in types.items() if _float_for(kind) and name != "__index_level_0__"
            ]
            names = choose(features, numeric, list(types), weights, file)
            columns = (*names, *([weights] if weights is not None else []))
            for name in columns:
                if _float_for(types[name]) is None:
                    raise not_numeric(f"Column '{name}' of {file}", str(types[name]))
        for name in columns:
            if name not in found.names or found.field(name).type != types[name]:
                raise DataError(
                    f"The files of {path} differ: '{name}' is not the same in {files[0]} and {file}.",
                    "Files read as one table need the same columns.",
                )
    d = len(names)
    dtype = np.result_type(*(_float_for(types[name]) or "f8" for name in names))
    sizes = [size for file_groups in groups for size in file_groups if size]
    uniform = bool(sizes) and set(sizes[:-1]) <= {sizes[0]} and sizes[-1] <= sizes[0]
    if block_rows is None and uniform and _LEAST <= sizes[0] * d * 8 <= _MOST:
        block_rows = sizes[0]
    reader = ParquetReader(files, tuple(groups), columns, d, dtype.str, options, stamp(*files))
    return rows_source(reader, "parquet", sum(sizes), names, dtype, weights, block_rows or default_rows(d))


def _open(path: str, options: str) -> Any:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise need("parquet", "Reading Parquet", error) from error
    try:
        return pq.ParquetFile(open_binary(path, options) if is_url(path) else path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be opened as Parquet: {reason(error)}.", "Check data.path and data.kind."
        ) from error


def _float_for(kind: Any) -> str | None:
    """Return the float that holds an Arrow type's values and NaN, or None if it is no number."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _float_for(kind.value_type)
    if pa.types.is_boolean(kind) or pa.types.is_float16(kind) or pa.types.is_float32(kind):
        return "f4"
    if pa.types.is_integer(kind):
        return "f4" if kind.bit_width <= 16 else "f8"
    return "f8" if pa.types.is_float64(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind) else None


def _numbers(column: Any) -> NDArray[Any]:
    """Return an Arrow column as floats, nulls as NaN."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    elif pa.types.is_decimal(column.type) or pa.types.is_null(column.type):
        column = column.cast(pa.float64())
    return np.asarray(column.to_numpy(zero_copy_only=False))
