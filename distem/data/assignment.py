"""The assignment: label, probability and density of every row, written where the blocks are."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray

from distem.data._encoding import codecs, coordinates_to_write, target_values
from distem.data._names import plain_attrs
from distem.data.encoding import Encoding
from distem.data.files import frozen, thawed
from distem.data.grid import Box, Grid, box_rows, box_shape
from distem.data.results import GROUP, open_root, opened, writing
from distem.data.source import Reader, Source
from distem.data.variables import MAPS, Stored
from distem.errors import ConfigError
from distem.types import Bools, Float64, Ints

if TYPE_CHECKING:
    from zarr.core.array_spec import ArrayConfigParams

VARIABLES = ("label", "probability", "log_density", "uncertainty")
KNOWN = (*VARIABLES, "distance", "hard_label", "path")
_LABELS = ("label", "hard_label", "path")
_FILLS: Mapping[str, tuple[Any, float]] = {"hard_label": (np.int32, -1), "path": (np.int32, -1)}
_WRITING: ArrayConfigParams = {"write_empty_chunks": True}


@dataclass(frozen=True, eq=False)
class Receipt:
    """What was written. Adds.

    Attributes
    ----------
    rows : int
        Rows written, missing ones included.
    missing : int
        Rows without a label.
    counts : ndarray of int64, shape (k,)
        Rows by label.
    chunks : int
        Chunks of the sample grid written.
    log_density : float
        Sum of weight times log density.
    mass : float
        Sum of weights.
    """

    rows: int
    missing: int
    counts: Ints
    chunks: int
    log_density: float
    mass: float

    def __add__(self, other: Receipt) -> Receipt:
        return Receipt(
            self.rows + other.rows,
            self.missing + other.missing,
            self.counts + other.counts,
            self.chunks + other.chunks,
            self.log_density + other.log_density,
            self.mass + other.mass,
        )


@dataclass(frozen=True, eq=False)
class AssignmentWriter:
    """Writes blocks of an assignment: small, picklable, safe to repeat.

    Attributes
    ----------
    path : str
        The result store.
    reader : Reader
        Of the input, whose coordinates are copied along.
    grid : Grid
        The input's chunks, which are the output's too.
    d, k : int
        Numbers of features and components.
    variables : tuple of str
        What is written.
    coordinates : tuple of str
        Coordinates that span the samples, written with the blocks.
    options : str
        Storage options; they may hold secrets and are not shown.
    token : str
        Tells this store from an earlier one at the same path.
    encoding : Encoding
        How probabilities are stored.
    """

    path: str
    reader: Reader
    grid: Grid
    d: int
    k: int
    variables: tuple[str, ...]
    coordinates: tuple[str, ...] = ()
    options: str = field(default="{}", repr=False)
    token: str = ""
    encoding: Encoding = field(default_factory=Encoding)

    def chunks(self, block: int) -> range:
        """Return a block's chunks."""
        return self.grid.blocks(self.d)[block]

    def write(
        self,
        chunks: range,
        kept: Bools | None,
        label: NDArray[np.integer[Any]],
        probability: Float64 | None = None,
        log_density: Float64 | None = None,
        uncertainty: Float64 | None = None,
        weights: Float64 | None = None,
        more: Mapping[str, NDArray[Any]] | None = None,
    ) -> Receipt:
        """Write the chunks of one block, each once and whole.

        Parameters
        ----------
        chunks : range
            The block's chunks.
        kept : ndarray of bool, shape (N,), or None
            Which of the N stored rows the others speak of; None means all.
        label : ndarray of int, shape (n,)
            Component of each row.
        probability : ndarray of float64, shape (n, k), optional
            Responsibilities.
        log_density : ndarray of float64, shape (n,), optional
            In the data's units.
        uncertainty : ndarray of float64, shape (n,), optional
            Probability that the label is wrong; by default 1 minus the largest probability.
        weights : ndarray of float64, shape (n,), optional
            For the sums of the receipt.
        more : mapping of ndarray, shape (n,), optional
            Further variables by name.

        Returns
        -------
        Receipt
            The same for the same block, however often it is written.

        Raises
        ------
        Interrupted
            If the disk is full.
        """
        stored = self.grid.rows(chunks)
        full: dict[str, NDArray[Any]] = {"label": _spread(label, kept, stored, np.int32, -1)}
        if "probability" in self.variables and probability is not None:
            packed = self.encoding.pack(probability)
            full["probability"] = _spread(packed, kept, stored, packed.dtype, self.encoding.fill_value)
        if uncertainty is None and probability is not None:
            uncertainty = 1.0 - probability.max(axis=1, initial=0.0)
        if "uncertainty" in self.variables and uncertainty is not None:
            full["uncertainty"] = _spread(uncertainty, kept, stored, np.float64, np.nan)
        for name, values in ({"log_density": log_density} | dict(more or {})).items():
            if values is not None:
                full[name] = _spread(values, kept, stored, *_FILLS.get(name, (np.float64, np.nan)))
        for name in self.variables:
            if name not in full:
                raise ConfigError(f"'{name}' is to be written, but was not given to the writer.")
        arrays = _arrays(self.path, self.options, self.token)
        at = 0
        with writing(self.path):
            for box in self.grid.boxes(chunks):
                rows = slice(at, at + box_rows(box))
                at = rows.stop
                for name in self.variables:
                    part = full[name][rows]
                    arrays[name][box] = part.reshape(*box_shape(box), *part.shape[1:])
                self._copy_coordinates(arrays, box)
        mass = float(len(label)) if weights is None else float(weights.sum())
        density = 0.0
        if log_density is not None:
            density = float((log_density if weights is None else log_density * weights).sum())
        counts = np.bincount(label, minlength=self.k).astype(np.int64)
        return Receipt(stored, stored - len(label), counts, len(chunks), density, mass)

    @property
    def nothing(self) -> Receipt:
        """The receipt of a block that is written already."""
        return Receipt(0, 0, np.zeros(self.k, np.int64), 0, 0.0, 0.0)

    def _copy_coordinates(self, arrays: Mapping[str, zarr.Array[Any]], box: Box) -> None:
        by_dim = dict(zip(self.grid.dims, box, strict=True))
        for name in self.coordinates:
            array = arrays[name]
            dims = array.metadata.dimension_names or ()  # type: ignore[union-attr]
            region = tuple(by_dim[str(dim)] for dim in dims)
            array[region] = target_values(self.reader.read_coordinate(name, by_dim))


def _spread(
    values: NDArray[Any], kept: Bools | None, stored: int, dtype: Any, missing: float
) -> NDArray[Any]:
    """Put the rows that were kept back among the missing ones."""
    if kept is None:
        if len(values) != stored:
            raise ConfigError(f"A block of {stored} rows was given {len(values)} results.")
        return np.ascontiguousarray(values, dtype=dtype)
    full = np.full((stored, *values.shape[1:]), missing, dtype)
    full[kept] = values
    return full


def create_assignment(
    path: str,
    source: Source,
    k: int,
    variables: Iterable[str] = VARIABLES,
    attrs: Mapping[str, Any] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    encoding: Encoding | None = None,
) -> AssignmentWriter:
    """Make the templates of an assignment, on the input's dimensions, chunks and coordinates.

    Parameters
    ----------
    path : str
        The result store; made if there is none, and marked incomplete.
    source : Source
        The input.
    k : int
        Number of components.
    variables : iterable of str
        Of "label", "probability", "log_density", "uncertainty", "distance", "hard_label", "path".
    attrs : mapping, optional
        Attributes of the group, besides the input's own.
    storage_options : mapping, optional
        For URLs.
    encoding : Encoding, optional
        How probabilities are stored and all variables compressed.

    Returns
    -------
    AssignmentWriter
        To be sent to where the blocks are.

    Raises
    ------
    ConfigError
        If a variable is unknown, or the input's chunks are irregular.
    Interrupted
        If the disk is full.
    """
    encoding = encoding or Encoding()
    wanted = _known(variables)
    grid = source.grid
    if not grid.is_regular:
        raise ConfigError(
            "The input's chunks are irregular, and Zarr's cannot be.",
            "Rechunk the input so that all chunks but the last are equal.",
        )
    component = _component(grid)
    with writing(path):
        root = open_root(path, storage_options)
        root.update_attributes({"status": "incomplete"})
        about = {**source.attrs, "Conventions": "CF-1.11", **plain_attrs(attrs or {})}
        about.pop("coordinates", None)
        group = root.create_group(GROUP, overwrite=True, attributes=about)
        sizes = dict(zip(grid.dims, grid.regular_sizes, strict=True))
        lengths = dict(zip(grid.dims, grid.shape, strict=True))
        copies = coordinates_to_write(source.reader.coordinates(), {*wanted, component})
        links = _links(source, copies)
        dtypes = dict.fromkeys(_LABELS, "int32") | {"probability": encoding.probability}
        fills = dict.fromkeys(_LABELS, -1) | {"probability": encoding.fill_value}
        for name in wanted:
            dims = (*grid.dims, component) if name == "probability" else grid.dims
            group.create_array(
                name,
                shape=tuple(lengths.get(dim, k) for dim in dims),
                chunks=tuple(sizes.get(dim, max(1, k)) for dim in dims),
                dtype=dtypes.get(name, "float64"),
                fill_value=fills.get(name, np.nan),
                dimension_names=dims,
                compressors=encoding.codecs(),
                attributes=_about(name, k) | links | (encoding.attributes if name == "probability" else {}),
                config=_WRITING,
            )
        if "probability" in wanted:
            array = group.create_array(
                component, shape=(k,), chunks=(max(1, k),), dtype="int64", dimension_names=(component,),
                attributes={"long_name": "component"}, compressors=codecs(), config=_WRITING,
            )  # fmt: skip
            array[:] = np.arange(k)
        for name, (stored, dtype, its) in copies.items():
            array = group.create_array(
                name,
                shape=stored.shape,
                chunks=tuple(sizes[dim] for dim in stored.dims),
                dtype=dtype,
                dimension_names=stored.dims,
                attributes=its,
                compressors=codecs(),
                config=_WRITING,
            )
            if set(stored.dims) != set(grid.dims):
                _copy(source.reader, name, stored, sizes, array)
    return go_on_with(path, source, k, wanted, storage_options, encoding)


def go_on_with(
    path: str,
    source: Source,
    k: int,
    variables: Iterable[str] = VARIABLES,
    storage_options: Mapping[str, Any] | None = None,
    encoding: Encoding | None = None,
) -> AssignmentWriter:
    """The writer of an assignment whose templates `create_assignment` made, with the same arguments."""
    wanted, encoding = _known(variables), encoding or Encoding()
    grid = source.grid
    copies = coordinates_to_write(source.reader.coordinates(), {*wanted, _component(grid)})
    return AssignmentWriter(
        path=path,
        reader=source.reader,
        grid=grid,
        d=source.d,
        k=k,
        variables=wanted,
        coordinates=tuple(n for n, (stored, _, _) in copies.items() if set(stored.dims) == set(grid.dims)),
        options=frozen(storage_options),
        token=secrets.token_hex(8),
        encoding=encoding,
    )


def _known(variables: Iterable[str]) -> tuple[str, ...]:
    wanted = tuple(dict.fromkeys(variables))
    for name in wanted:
        if name not in KNOWN:
            raise ConfigError(f"There is no output variable '{name}'.", f"It can be {', '.join(KNOWN)}.")
    return wanted


def _component(grid: Grid) -> str:
    return "component" if "component" not in grid.dims else "mixture_component"


def _links(source: Source, copies: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that tie a variable to its coordinates."""
    maps = {a.get("grid_mapping") for a in source.feature_attrs.values()} & set(copies)
    maps = maps or {name for name, (stored, _, _) in copies.items() if set(MAPS) & set(stored.attrs)}
    others = sorted(name for name in copies if name not in source.grid.dims)
    links: dict[str, Any] = {"coordinates": " ".join(others)} if others else {}
    return links | ({"grid_mapping": maps.pop()} if len(maps) == 1 else {})


def _copy(
    reader: Reader, name: str, stored: Stored, sizes: Mapping[str, int], array: zarr.Array[Any]
) -> None:
    if not stored.dims:
        array[...] = target_values(reader.read_coordinate(name, {}))
        return
    grid = Grid.regular(stored.dims, stored.shape, [sizes[dim] for dim in stored.dims])
    for chunk in range(grid.n_chunks):
        box = grid.region(chunk)
        if box_rows(box):
            by_dim = dict(zip(stored.dims, box, strict=True))
            array[box] = target_values(reader.read_coordinate(name, by_dim))


def _about(name: str, k: int) -> dict[str, Any]:
    """Return a variable's CF attributes."""
    if name in _LABELS:
        said = {
            "label": "most probable component",
            "hard_label": "cluster by k-means, numbered as label",
            "path": "state on the likeliest path through the sequence",
        }[name]
        # no _FillValue: it would turn the labels into floats when they are opened
        return {
            "long_name": f"{said}; -1 where a value is missing",
            "flag_values": list(range(-1, k)),
            "flag_meanings": " ".join(["missing", *(f"component_{i}" for i in range(k))]),
        }
    words = {
        "probability": "probability of each component given the row",
        "log_density": "natural log of the mixture density at the row",
        "uncertainty": "1 minus the probability of the label",
        "distance": "distance from the nearest centre, in the model's units",
    }
    units = {} if name in ("log_density", "distance") else {"units": "1"}
    return {"long_name": words[name], **units}


@lru_cache(maxsize=8)
def _arrays(path: str, options: str, token: str) -> dict[str, zarr.Array[Any]]:  # noqa: ARG001 -- token is a key
    group = opened(path, "r+", thawed(options))[GROUP]
    arrays = group.arrays() if isinstance(group, zarr.Group) else ()
    return {name: array.with_config(_WRITING) for name, array in arrays}


def held_arrays(writer: AssignmentWriter) -> dict[str, zarr.Array[Any]]:
    """The arrays a writer writes to, held open in this process."""
    return _arrays(writer.path, writer.options, writer.token)
