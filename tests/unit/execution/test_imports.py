"""What a process pays for at its start."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("code", "spared"),
    [
        ("import distem.cli", ["numpy", "dask", "pydantic"]),
        ("import distem.execution.dask.worker", ["dask.array", "numba", "xarray", "sklearn"]),
        (
            "import distem.run, distem.execution.dask",
            ["dask.array", "sklearn", "matplotlib", "scipy.optimize"],
        ),
        ("import distem.models.mixture", ["dask", "xarray", "zarr", "sklearn", "scipy"]),
    ],
)
def test_imports_that_a_process_is_spared(code: str, spared: list[str]) -> None:
    show = f"{code}\nimport sys\nprint([name for name in {spared!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
