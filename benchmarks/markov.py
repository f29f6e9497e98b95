"""Hidden Markov models: one core beside hmmlearn's, and a long sequence in the memory that was promised."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import zarr
from hmmlearn import hmm

from benchmarks.harness import Goal, Section, Table, medians
from distem.execution.base import one_blas_thread
from distem.models.gaussian import Gaussian
from distem.models.markov import HiddenMarkov, MarkovParams
from distem.types import Rows

STATES = (4, 16)
COVARIANCES = ("diag", "full")
FEATURES = 3
FASTER = 3.0
STEPS = 50_000_000
CHUNK = 1_000_000
PASSES = 2
MEBI = 2**20
LOOK = 0.1
"""Seconds between looks at the workers."""


def run(quick: bool) -> Section:
    logging.getLogger("hmmlearn").setLevel(logging.CRITICAL)
    return Section(
        "Hidden Markov models",
        "One EM iteration (E-step and M-step) of one sequence in memory, from one start, on one thread; "
        "hmmlearn's is its `fit` with one iteration. Then a sequence that is read from a Zarr store "
        "in every pass: what `distem plan` promised a worker, and the high-water mark of the larger one "
        "(VmHWM, start-up, libraries and compiling included).",
        [_speed(quick), _long(quick)],
    )


def _speed(quick: bool) -> Table:
    table = Table(
        f"ns per row of one EM iteration, {FEATURES} features, one thread",
        ("covariance", "states", "rows", "distem", "hmmlearn", "times as fast"),
    )
    for covariance in COVARIANCES:
        for k in STATES:
            n = (20_000 if quick else 200_000) // (k // 4)
            found = _pair(covariance, k, n, 3 if quick else 7)
            table.add(
                covariance,
                str(k),
                f"{n:,}",
                f"{found['distem'] / n * 1e9:.0f}",
                f"{found['hmmlearn'] / n * 1e9:.0f}",
                Goal(found["hmmlearn"] / found["distem"], FASTER, at_least=True, form=".1f"),
            )
    return table


def _pair(covariance: str, k: int, n: int, repeats: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    level = np.repeat(rng.integers(0, k, n // 50 + 1), 50)[:n, None]
    x = level + rng.normal(size=(n, FEATURES))
    transition = np.full((k, k), 0.1 / (k - 1))
    np.fill_diagonal(transition, 0.9)
    component = Gaussian(covariance, reg_covar=0.0)
    means = np.arange(k)[:, None] + 0.3 * rng.normal(size=(k, FEATURES))
    even = np.full(k, 1.0 / k)
    eyes = np.broadcast_to(np.eye(FEATURES), (k, FEATURES, FEATURES))
    params = MarkovParams(even, transition, component.from_matrices(means, eyes, even))
    model, rows = HiddenMarkov(component), Rows(x)

    def ours() -> float:
        with one_blas_thread():
            begun = time.perf_counter()
            model.m_step(model.e_step(rows, params), params)
            return time.perf_counter() - begun

    def theirs() -> float:
        other = hmm.GaussianHMM(
            k, covariance, n_iter=1, init_params="", covars_prior=0.0, min_covar=0.0, tol=-np.inf
        )
        other.startprob_, other.transmat_, other.means_ = even, transition, means
        other.covars_ = params.theta.covariances
        with one_blas_thread(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            begun = time.perf_counter()
            other.fit(x)
            return time.perf_counter() - begun

    candidates: dict[str, Callable[[], float]] = {"distem": ours, "hmmlearn": theirs}
    return medians(candidates, repeats)


def _long(quick: bool) -> Table:
    steps = STEPS // 50 if quick else STEPS
    table = Table(
        f"One sequence of {steps:,} steps in chunks of {CHUNK:,}, 4 states, {PASSES} iterations, streamed, "
        "two workers",
        ("decoded, MiB", "promised, MiB", "peak, MiB", "peak / promised", "seconds"),
    )
    with tempfile.TemporaryDirectory() as folder:
        config = _prepared(Path(folder), steps)
        promised = _asked("plan", config)["memory_per_worker_bytes"]
        begun = time.perf_counter()
        peak = _peak_of_workers(config)
        took = time.perf_counter() - begun
    table.add(
        f"{steps * 8 / MEBI:,.0f}",
        f"{promised / MEBI:,.0f}",
        f"{peak / MEBI:,.0f}",
        Goal(peak / promised, 1.0),
        f"{took:.0f}",
    )
    return table


def _prepared(folder: Path, steps: int) -> Path:
    """A store of one long sequence, and a config that fits it."""
    group = zarr.open_group(folder / "data.zarr", mode="w")
    array = group.create_array(
        "x", shape=(steps,), chunks=(CHUNK,), dtype="float64", dimension_names=("step",)
    )
    rng = np.random.default_rng(0)
    for start in range(0, steps, CHUNK):
        level = np.repeat(rng.integers(0, 4, CHUNK // 100), 100)
        array[start : start + CHUNK] = 3.0 * level + rng.normal(size=CHUNK)
    path = folder / "long.json"
    path.write_text(
        json.dumps(
            {
                "version": 1,
                "name": "long",
                "data": {"kind": "zarr", "path": "data.zarr", "features": "x"},
                "model": {"kind": "hidden_markov", "states": 4, "covariance": "diag"},
                "fit": {
                    "max_passes": PASSES,
                    "tolerance": 1e-12,
                    "acceleration": "none",
                },
                "cluster": {"kind": "local", "workers": 2, "threads": 1, "resident": False},
                "output": {"path": "run", "variables": [], "report": False},
            }
        )
    )
    return path


def _peak_of_workers(config: Path) -> float:
    """The high-water mark of the largest worker of a run, looked at until it ends."""
    command = [sys.executable, "-m", "distem", "run", str(config)]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0.0
    while run.poll() is None:
        time.sleep(LOOK)
        for worker in _children(run.pid):
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{worker}/status").read_text()
                marks = [line for line in status.splitlines() if line.startswith("VmHWM")]
                peak = max([peak, *(float(line.split()[1]) * 1024 for line in marks)])
    if run.returncode:
        raise subprocess.CalledProcessError(run.returncode, command)
    return peak


def _children(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _asked(verb: str, config: Path) -> dict[str, float]:
    """What a command says, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "distem", verb, str(config), "--json"],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found
