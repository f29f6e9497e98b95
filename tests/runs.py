"""Small runs for the tests: a store, a config beside it, and what a run folder holds, bit for bit."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import psutil
import xarray as xr
import yaml
import zarr
from numpy.typing import NDArray

from distem.config import Config, load
from distem.data import grid

FEATURES = ("a", "b", "c")
CENTRES = np.array([[0.0, 0.0, 0.0], [4.0, 1.0, -3.0], [-3.0, 5.0, 2.0]])


def blobs(n: int = 400, seed: int = 3, spread: float = 1.6) -> NDArray[np.float64]:
    """Rows of three overlapping groups: an EM fit takes some tens of passes."""
    rng = np.random.default_rng(seed)
    return CENTRES[rng.integers(3, size=n)] + rng.normal(scale=spread, size=(n, 3))


def dataset(values: NDArray[Any], dims: tuple[str, ...] = ("row",), **more: Any) -> xr.Dataset:
    """The columns as variables of their own."""
    found = {name: (dims, values[..., j]) for j, name in enumerate(FEATURES)}
    return xr.Dataset({**found, **{name: (dims, column) for name, column in more.items()}})


def store(path: Path, data: xr.Dataset | NDArray[Any], chunks: int | tuple[int, ...] = 64) -> Path:
    """Write data as a Zarr store on the chunks asked for."""
    data = data if isinstance(data, xr.Dataset) else dataset(data)
    for variable in data.variables.values():
        sizes = chunks if isinstance(chunks, tuple) else (chunks,) * variable.ndim
        variable.encoding["chunks"] = sizes[: variable.ndim]
    data.to_zarr(path, mode="w", consolidated=False)
    return path


def checked_store(path: Path, values: NDArray[Any], chunk: int) -> Path:
    """A store whose chunks carry a checksum, so that damage shows."""
    group = zarr.open_group(path, mode="w")
    for j, name in enumerate(FEATURES):
        array = group.create_array(
            name,
            shape=(len(values),),
            chunks=(chunk,),
            dtype="float64",
            dimension_names=("row",),
            compressors=[zarr.codecs.ZstdCodec(checksum=True), zarr.codecs.Crc32cCodec()],
        )
        array[:] = values[:, j]
    return path


@contextmanager
def small_blocks(rows: int = 90) -> Iterator[None]:
    """Cut little data into many blocks; for executors of this process."""
    grid._blocks.cache_clear()
    with mock.patch.object(grid, "rows_per_chunk", return_value=rows):
        yield
    grid._blocks.cache_clear()


def settings(**changes: Any) -> dict[str, Any]:
    """A config as a tree; keys with dots go down into it."""
    tree: dict[str, Any] = {
        "version": 1,
        "name": "small",
        "data": {"kind": "zarr", "path": "data.zarr"},
        "model": {"kind": "gaussian_mixture", "components": 3},
        "fit": {"max_passes": 12, "tolerance": 1e-12, "init": "random_from_data", "init_tries": 1},
        "cluster": {"kind": "serial"},
        "output": {"path": "run", "report": False},
    }
    for key, value in changes.items():
        *way, last = key.split("__")
        section = tree
        for name in way:
            section = section.setdefault(name, {})
        section[last] = value
    return tree


def config_file(folder: Path, file: str = "small.yaml", /, **changes: Any) -> Path:
    """Write a config; ``model__components=4`` sets ``model.components``."""
    path = folder / file
    path.write_text(yaml.safe_dump(settings(**changes), sort_keys=False), encoding="utf-8")
    return path


def config(folder: Path, **changes: Any) -> Config:
    """A loaded config."""
    return load(config_file(folder, **changes))


def arrays(run: Path) -> dict[str, NDArray[Any]]:
    """Every array of a result that the clock has no part in."""
    with xr.open_datatree(run / "result.zarr", engine="zarr") as tree:
        return {
            f"{node.path}/{name}": np.asarray(variable.values)
            for node in tree.subtree
            for name, variable in node.dataset.variables.items()
            if name != "seconds"
        }


def assert_same_bits(one: Path, other: Path) -> None:
    """Refuse two results that differ in a single bit."""
    first, second = arrays(one), arrays(other)
    assert sorted(first) == sorted(second)
    for name, value in first.items():
        there = second[name]
        assert value.dtype == there.dtype, name
        if value.dtype.kind in "OTU":
            assert value.tolist() == there.tolist(), name
        else:
            assert value.shape == there.shape, name
            assert value.tobytes() == there.tobytes(), name


def manifest(run: Path) -> dict[str, Any]:
    """The manifest of a run folder."""
    found: dict[str, Any] = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    return found


def events(run: Path) -> list[dict[str, Any]]:
    """The lines of its log."""
    return [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, for a look before and after."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def large_store(
    path: Path, gibibytes: float, *, rows_per_chunk: int = 131_072, features: int = 8, **codecs: Any
) -> int:
    """A store of so much data that takes little room: many chunks are names of one file.

    Returns
    -------
    int
        Its rows.
    """
    chunks = round(gibibytes * 2**30 / (rows_per_chunk * features * 8))
    rng = np.random.default_rng(0)
    array = zarr.open_group(path, mode="w").create_array(
        "x",
        shape=(chunks * rows_per_chunk, features),
        chunks=(rows_per_chunk, features),
        dtype="float64",
        dimension_names=("row", "feature"),
        **codecs,
    )
    first = min(8, chunks)
    for chunk in range(first):
        centre = rng.integers(2, size=(rows_per_chunk, 1)) * 3.0
        # few digits, so that they compress
        values = np.round(centre + rng.standard_normal((rows_per_chunk, features)), 1)
        array[chunk * rows_per_chunk : (chunk + 1) * rows_per_chunk] = values
    for chunk in range(first, chunks):
        os.link(path / "x" / "c" / str(chunk % first) / "0", _folder(path / "x" / "c" / str(chunk)) / "0")
    return chunks * rows_per_chunk


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def peak_per_worker(process: subprocess.Popen[str]) -> list[int]:
    """Wait for a run to end; return the most memory that each of its worker processes ever held, in bytes."""
    peaks: dict[int, int] = {}
    driver = psutil.Process(process.pid)
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            # its own children only: what a worker starts bears the worker's name until it is another program
            for child in driver.children():
                if "spawn_main" in " ".join(child.cmdline()):
                    peaks[child.pid] = max(peaks.get(child.pid, 0), _peak(child.pid))
        time.sleep(0.05)
    return sorted(peaks.values())


def _peak(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmHWM")), 0)


def start(*arguments: object, **more: Any) -> subprocess.Popen[str]:
    """Start the command line as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "distem", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **{"env": os.environ | {"PYTHONWARNINGS": "default"}, **more},
    )


def command(*arguments: object, timeout: float = 120, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    process = start(*arguments, **more)
    out, err = process.communicate(timeout=timeout)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)
