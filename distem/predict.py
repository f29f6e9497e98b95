"""A fitted model on new data: the assignment of every row, written as a run writes it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from distem.assignment import AssignRows
from distem.data import results
from distem.data.assignment import create_assignment
from distem.data.encoding import Encoding
from distem.data.open import KINDS, open_like, open_source
from distem.data.sequences import in_sequences
from distem.data.source import Source
from distem.em.links import Linked
from distem.errors import ConfigError, RunFolderError
from distem.execution.base import Executor
from distem.fitted import FittedModel

ENDINGS = {
    ending: kind
    for kind, endings in {
        "zarr": ".zarr",
        "netcdf": ".nc .nc4 .h5 .hdf5",
        "parquet": ".parquet .pq",
        "npy": ".npy",
        "csv": ".csv",
        "image": ".png .jpg .jpeg .tif .tiff",
    }.items()
    for ending in endings.split()
}


def kind_of(path: str, kind: str | None = None) -> str:
    """What data is stored in, by its ending.

    Raises
    ------
    ConfigError
        The ending says nothing.
    """
    found = kind or ENDINGS.get(Path(path.rstrip("/")).suffix.lower())
    if found is None:
        raise ConfigError(
            f"What {path} is stored in cannot be told from its name.", f"Give --kind: {', '.join(KINDS)}."
        )
    return found


def predict(
    model: FittedModel,
    source: Source,
    out: Path,
    executor: Executor,
    encoding: Encoding | None = None,
) -> None:
    """Write the assignment of every row of `source` to the Zarr store `out`.

    Parameters
    ----------
    model : FittedModel
        A fitted model; rows with missing features get the label -1.
    source : Source
        Data with the model's features.
    out : Path
        Must not exist.
    executor : Executor
        Where the pass runs.
    encoding : Encoding, optional
        How the answers are stored.

    Raises
    ------
    RunFolderError
        `out` exists.
    """
    if out.exists():
        raise RunFolderError(f"{out} exists.", "Choose another output, or remove it.")
    try:
        results.create_result(str(out))
        writer = create_assignment(str(out), source, model.k, model.family.answers, encoding=encoding)
        chained = isinstance(model.model, Linked)
        blocks = source.blocks(replace(model.transform, missing="marginalise" if chained else "drop"))
        with executor.open(blocks, resident=False) as opened:
            opened.map_reduce(AssignRows.over(opened, model, writer))
        results.write_group(str(out), "model", model.dataset())
        results.finalise(str(out))
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)  # it was not there before: the same command can run again
        raise


def open_for(model: FittedModel, path: str, kind: str | None = None) -> Source:
    """Open data for a model: the features it was fitted to, wherever they now lie."""
    source = open_like(model.source, kind_of(path, kind), path)
    if not isinstance(model.model, Linked):
        return source

    def again(column: str) -> Source:
        return open_source(kind_of(path, kind), path, features=(column,))

    return in_sequences(source, tuple(model.source.get("sequence", ())), again)
