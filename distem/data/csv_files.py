"""CSV after RFC 4180: an index of row offsets made in one streaming read, then byte ranges."""

from __future__ import annotations

import csv
import io
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from distem.data.files import expand, frozen, open_binary
from distem.data.grid import Box
from distem.data.rows import NoCoordinates, choose, default_rows, only_rows, rows_source
from distem.data.source import Raw, Source
from distem.errors import DamagedChunkError, DataError
from distem.types import Float64

_BUFFER = 1 << 24
_NEWLINE, _QUOTE, _RETURN = 10, 34, 13
_SAMPLE = 100
# older pandas round the last bit unless told not to; newer ones warn when told
_EXACT: dict[str, Any] = (
    {"float_precision": "round_trip"} if tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1) else {}
)
_EMPTY = ["", "NA", "N/A", "#N/A", "NaN", "nan", "-nan", "null", "NULL", "None"]
_TRUTH = {"true": 1.0, "false": 0.0}


CsvOffset = tuple[int, int]
"""A row of the file and the byte it begins at."""


@dataclass(frozen=True)
class CsvFile:
    """One file and where its rows begin.

    Attributes
    ----------
    path : str
        Local path or URL.
    header : tuple of str
        Column names, in the file's own order.
    delimiter : str
        Comma, semicolon or tab.
    first : int
        Number of its first row among all files' rows.
    n : int
        Its rows.
    offsets : tuple of CsvOffset
        Of the first row and of every chunk, and the end.
    """

    path: str
    header: tuple[str, ...]
    delimiter: str
    first: int
    n: int
    offsets: tuple[CsvOffset, ...]

    def span(self, start: int, stop: int) -> tuple[CsvOffset, CsvOffset]:
        """Return the nearest places at or before row `start`, and at or after row `stop`."""
        low = bisect_right(self.offsets, start, key=_row) - 1
        high = bisect_left(self.offsets, stop, key=_row)
        return self.offsets[low], self.offsets[high]


def _row(offset: CsvOffset) -> int:
    return offset[0]


@dataclass(frozen=True, eq=False)
class CsvReader(NoCoordinates):
    """Reads rows of CSV files.

    Attributes
    ----------
    files : tuple of CsvFile
        In row order.
    columns : tuple of str
        The features, then the weights if there are any.
    d : int
        Number of features.
    options : str
        Storage options; they may hold secrets and are not shown.
    """

    files: tuple[CsvFile, ...]
    columns: tuple[str, ...]
    d: int
    options: str = field(default="{}", repr=False)

    def read(self, box: Box) -> Raw:
        """Read a run of rows."""
        (rows,) = box
        parts = []
        for file in self.files:
            start, stop = max(0, rows.start - file.first), min(file.n, rows.stop - file.first)
            if start < stop:
                low, high = file.span(start, stop)
                parts.append(self._parse(file, low, high)[start - low[0] : stop - low[0]])
        both = parts[0] if len(parts) == 1 else np.concatenate(parts)
        weights = both[:, self.d] if len(self.columns) > self.d else None
        return np.ascontiguousarray(both[:, : self.d]), weights

    def _parse(self, file: CsvFile, low: CsvOffset, high: CsvOffset) -> Float64:
        """Parse the rows between two offsets."""
        content = _bytes(file.path, low[1], high[1], self.options)
        row = low[0]
        places = [file.header.index(name) for name in self.columns]
        _check_widths(file, content, row)
        try:
            frame = self._frame(file, content, dict.fromkeys(places, np.float64))
        except ValueError:
            frame = self._cells(file, content, row, places)
        if len(frame) != high[0] - row:
            raise DataError(
                f"{file.path} has {len(frame)} rows from row {file.first + row}, where {high[0] - row} "
                "were counted.",
                "Remove lines that hold only spaces; do not change a file while it is read.",
            )
        return np.ascontiguousarray(frame[places].to_numpy(np.float64))

    def _frame(self, file: CsvFile, content: bytes, dtype: Any) -> pd.DataFrame:
        frame: pd.DataFrame = pd.read_csv(
            io.BytesIO(content),
            sep=file.delimiter,
            header=None,
            names=range(len(file.header)),
            index_col=False,
            usecols=[file.header.index(name) for name in self.columns],
            dtype=dtype,
            skipinitialspace=True,
            **_EXACT,
        )
        return frame

    def _cells(self, file: CsvFile, content: bytes, row: int, places: list[int]) -> pd.DataFrame:
        """Parse cell by cell: true and false are numbers, anything else is named."""
        frame = self._frame(file, content, str)
        numbers = {}
        for name, place in zip(self.columns, places, strict=True):
            cells = frame[place].str.strip()
            cells = cells.where(~cells.isin(_EMPTY))
            truth = cells.str.lower().map(_TRUTH)
            found = pd.to_numeric(cells, errors="coerce").astype(np.float64).fillna(truth)
            wrong = np.flatnonzero((found.isna() & cells.notna()).to_numpy())
            if wrong.size:
                at = int(wrong[0])
                raise DataError(
                    f"Column '{name}' of {file.path} has '{str(cells.iloc[at])[:40]}' at row "
                    f"{file.first + row + at}, which is not a number.",
                    "Mend the cell, leave it empty, or leave the column out.",
                )
            numbers[place] = found
        return pd.DataFrame(numbers)

    def locate(self, box: Box) -> DamagedChunkError | None:
        """Name the rows: the file has no chunks of its own."""
        try:
            self.read(box)
        except Exception as error:  # noqa: BLE001 -- the parser may raise anything
            names = ", ".join(file.path for file in self.files if file.first < box[0].stop)
            return DamagedChunkError(
                f"Rows {box[0].start} to {box[0].stop - 1} of {names} cannot be parsed: {error}.",
                "Mend the file: every row needs as many fields as the header.",
            )
        return None


def open_csv(
    path: str,
    features: Sequence[str] | None = None,
    sample_dims: Sequence[str] | None = None,
    feature_dim: str | None = None,
    weights: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    block_rows: int | None = None,
) -> Source:
    """Open CSV files as one table; see `open_source`.

    The first row is the header. Without `features`, the columns whose first 100 rows are numbers or
    empty. Rows are counted from 0, the header and blank lines aside.
    """
    only_rows("csv", sample_dims, feature_dim)
    options = frozen(storage_options)
    paths = expand(path, (".csv", ".tsv", ".txt"), options)
    names: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    files: list[CsvFile] = []
    rows = block_rows or 0
    for each in paths:
        header, delimiter, body, sample = _header(each, options)
        if not columns:
            names = choose(features, _numeric(header, sample), header, weights, each)
            columns = (*names, *([weights] if weights is not None else []))
            rows = block_rows or default_rows(len(names))
        for name in columns:
            if name not in header:
                raise DataError(
                    f"The files of {path} differ: there is no column '{name}' in {each}.",
                    "Files read as one table need the same columns.",
                )
        first = files[-1].first + files[-1].n if files else 0
        n, offsets = _index(each, options, body, -first % rows, rows)
        files.append(CsvFile(each, header, delimiter, first, n, offsets))
    reader = CsvReader(tuple(files), columns, len(names), options)
    total = files[-1].first + files[-1].n
    return rows_source(reader, "csv", total, names, np.float64, weights, rows)


def _bytes(path: str, low: int, high: int, options: str) -> bytes:
    with open_binary(path, options) as file:
        file.seek(low)
        return file.read(high - low)


def _header(path: str, options: str) -> tuple[tuple[str, ...], str, int, list[list[str]]]:
    """Return the column names, the delimiter, the byte after the header, and some rows."""
    content = _bytes(path, 0, 1 << 20, options)
    if content[:2] in (b"\x1f\x8b", b"PK", b"\xff\xfe", b"\xfe\xff") or content[:3] == b"BZh":
        raise DataError(f"{path} is compressed or not in UTF-8.", "Write it as plain UTF-8 text.")
    skip = 3 if content.startswith(b"\xef\xbb\xbf") else 0
    buffer = np.frombuffer(content, np.uint8)
    ends, _ = _record_ends(buffer, 0)
    end = int(ends[0]) + 1 if ends.size else len(content)
    try:
        line = content[skip:end].decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"The header of {path} is not UTF-8 text.", "Write the file as UTF-8.") from error
    delimiter = max(",;\t", key=line.count)
    (header, *_) = [*csv.reader(io.StringIO(line, newline=""), delimiter=delimiter), []]
    names = tuple(name.strip() for name in header)
    if not any(names):
        raise DataError(f"{path} has no header.", "The first line must name the columns.")
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise DataError(
            f"The header of {path} names '{min(twice)}' twice.", "Give every column its own name."
        )
    # the last record may have been cut off
    text = content[end : int(ends[-1]) + 1 if len(content) == 1 << 20 else None].decode("utf-8", "replace")
    sample = []
    for record in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
        if record:
            sample.append(record)
        if len(sample) == _SAMPLE:
            break
    return names, delimiter, end, sample


def _numeric(header: tuple[str, ...], sample: list[list[str]]) -> list[str]:
    """Return the columns whose sampled cells are all numbers or empty, and some are numbers."""
    found = []
    for place, name in enumerate(header):
        cells = pd.Series([record[place].strip() for record in sample if len(record) > place], dtype=object)
        filled = cells[~cells.isin(_EMPTY)]
        numbers = pd.to_numeric(filled, errors="coerce").notna() | filled.str.lower().isin(_TRUTH)
        if len(filled) and bool(numbers.all()):
            found.append(name)
    return found


def _record_ends(buffer: NDArray[np.uint8], quotes: int) -> tuple[NDArray[np.int64], int]:
    """Return where newlines outside quotes are; `quotes` counts the quotes before the buffer."""
    ends = np.flatnonzero(buffer == _NEWLINE)
    marks = np.flatnonzero(buffer == _QUOTE)
    if marks.size or quotes % 2:
        ends = ends[(np.searchsorted(marks, ends) + quotes) % 2 == 0]
    return ends, quotes + marks.size


def _index(path: str, options: str, body: int, lead: int, rows: int) -> tuple[int, tuple[CsvOffset, ...]]:
    """Stream through a file: count its rows, and note where each run of `rows` begins.

    Parameters
    ----------
    path, options : str
        The file.
    body : int
        Byte after the header.
    lead : int
        Rows of the file that belong to a chunk begun in an earlier one.
    rows : int
        Rows of a chunk.
    """
    offsets = [(0, body)]
    n, quotes, at, line, last = 0, 0, body, body, 0
    with open_binary(path, options) as file:
        file.seek(body)
        while content := file.read(_BUFFER):
            buffer = np.frombuffer(content, np.uint8)
            ends, quotes = _record_ends(buffer, quotes)
            if ends.size:
                starts = np.concatenate([[line], at + ends[:-1] + 1])
                lengths = at + ends - starts
                before = np.where(ends > 0, buffer[ends - 1], last)
                filled = starts[(lengths > 1) | ((lengths == 1) & (before != _RETURN))]
                marks = np.arange((lead - n) % rows, filled.size, rows)
                offsets += [(n + int(i), int(filled[i])) for i in marks if n + i > 0]
                n += filled.size
                line = at + int(ends[-1]) + 1
            at += len(content)
            last = int(buffer[-1])
    if quotes % 2:
        raise DataError(f"{path} ends inside quotes.", "The file is cut off, or a quote is not closed.")
    if at > line and not (at == line + 1 and last == _RETURN):  # the last row lacks its newline
        if n and (n - lead) % rows == 0:
            offsets.append((n, line))
        n += 1
    offsets.append((n, at))
    return n, tuple(dict(sorted(offsets, reverse=True)).items())[::-1]


def _check_widths(file: CsvFile, content: bytes, row: int) -> None:
    """Refuse rows with more or fewer fields than the header: one cut off must not pass as missing."""
    buffer = np.frombuffer(content, np.uint8)
    ends, _ = _record_ends(buffer, 0)
    if not content.endswith(b"\n"):
        ends = np.append(ends, buffer.size)
    marks = np.flatnonzero(buffer == ord(file.delimiter))
    quotes = np.flatnonzero(buffer == _QUOTE)
    if quotes.size:
        marks = marks[np.searchsorted(quotes, marks) % 2 == 0]
    fields = np.diff(np.searchsorted(marks, ends), prepend=0) + 1
    lengths = np.diff(ends, prepend=-1) - 1
    filled = fields[(lengths > 1) | ((lengths == 1) & (buffer[ends - 1] != _RETURN))]
    wrong = np.flatnonzero(filled != len(file.header))
    if wrong.size:
        at = int(wrong[0])
        raise DataError(
            f"Row {file.first + row + at} of {file.path} has {filled[at]} fields, "
            f"the header {len(file.header)}.",
            "Mend the row: a text with the delimiter in it must be quoted.",
        )
