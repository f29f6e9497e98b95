"""How long until something happens: help, the first pass of a process, the first pass of a cluster."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import numpy as np

from benchmarks.harness import Goal, Section, Table, medians, seconds

FIRST_PASS = """
import time
import numpy as np
x = np.random.default_rng(0).normal(size=(10_000, 8))
begin = time.perf_counter()
from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture, MixtureParams
from distem.types import Rows
component = Gaussian("full")
params = MixtureParams(np.full(8, 1 / 8), component.theta(x[:8].copy(), np.stack([np.eye(8)] * 8)))
Mixture(component).e_step(Rows(x), params)
print(time.perf_counter() - begin)
"""
FIRST_FIT = """
import time
import numpy as np
x = np.random.default_rng(0).normal(size=(10_000, 8))
begin = time.perf_counter()
import distem
distem.GaussianMixture(8, max_iter=1, tol=0, weights_init=np.full(8, 1 / 8), means_init=x[:8]).fit(x)
print(time.perf_counter() - begin)
"""


def said(code: str) -> float:
    """Seconds that a new Python process measured itself."""
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True, text=True
    )
    return float(found.stdout)


def prepare(folder: Path) -> None:
    import zarr

    x = np.random.default_rng(0).normal(size=(20_000, 4)) + 3 * np.arange(20_000)[:, None] % 2
    store = zarr.open_group(folder / "x.zarr", mode="w")
    store.create_array("x", data=x, chunks=(5_000, 4), dimension_names=("row", "feature"))
    (folder / "small.yaml").write_text(
        "version: 1\nname: small\n"
        "data: {kind: zarr, path: x.zarr, features: [x]}\n"
        "model: {kind: gaussian_mixture, components: 2}\n"
        "cluster: {kind: local, workers: 2}\n"
        "output: {path: run, variables: [label]}\n"
    )


def to_first_pass(folder: Path) -> tuple[float, float]:
    """Return the seconds from the command to the first pass's begin, and to its end."""
    begin = time.time()
    command = [sys.executable, "-m", "distem", "run", str(folder / "small.yaml"), "--fresh", "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    events = [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]

    def when(name: str, phase: str) -> float:
        first = next(e for e in events if e["event"] == name and e["phase"] == phase)
        return datetime.fromisoformat(first["time"]).timestamp() - begin

    return when("phase", "fit"), when("pass", "fit")


def run(quick: bool) -> Section:
    """Start all."""
    repeats = 3 if quick else 5
    nothing = [sys.executable, "-c", "import numpy"]
    help_ = [sys.executable, "-m", "distem", "--help"]

    def silent(command: list[str]) -> float:
        return seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))

    table = Table("Seconds, kernels compiled before", ["what", "seconds"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        found = medians(
            {
                "nothing": lambda: silent(nothing),
                "help": lambda: silent(help_),
                "pass": lambda: said(FIRST_PASS),
                "fit": lambda: said(FIRST_FIT),
            },
            repeats,
        )
        to_first_pass(folder)
        ways = [to_first_pass(folder) for _ in range(repeats)]
    begins, ends = (statistics.median(each) for each in zip(*ways, strict=True))
    table.add("Python that imports NumPy, for comparison", f"{found['nothing']:.2f}")
    table.add("`distem --help`, whole process", Goal(found["help"], 0.3))
    table.add(
        "a second process: imports and first E-step, beyond Python, NumPy and data", Goal(found["pass"], 0.5)
    )
    table.add(
        "the same by `distem.GaussianMixture(...).fit`, with all it imports, scikit-learn among it",
        f"{found['fit']:.2f}",
    )
    table.add(
        "`distem run` on two local workers, from the command to the begin of the first pass",
        Goal(begins, 4.0),
    )
    table.add("the same, to the end of the first pass", f"{ends:.2f}")
    return Section("Start", ABOUT, [table], TRIED)


ABOUT = (
    "Each in a new process, with the kernels in Numba's cache on disk. The run's times are those of its "
    "log: cluster started, data scanned, seeds drawn and refined before the first pass of the fit."
)
TRIED = (
    "(1) dask.array is imported late: neither a run nor its workers need it, and a worker's own "
    "preparation fell from 1.34 to 0.50 s of processor time. (2) SciPy's linear algebra, 0.18 s of "
    "every process, gave way to an inverse of all triangles at once. (3) Numba's kernels are loaded "
    "by the driver before workers start, and by these from the cache. What is left is imports, on two "
    "cores: about 1.6 s of the driver's own (xarray with pandas, zarr, Numba), 0.5 s for distributed, "
    "0.5 s for Bokeh's dashboard. (4) Seeds are refined by distem's own k-means: scikit-learn is not "
    "imported. (5) SciPy's optimisation had come back with the pairing of components, a fifth of all "
    "modules: it is imported late again. The goals were met, 0.49 and 3.90 s, on a machine where Python "
    "with NumPy takes 0.10 s."
)
