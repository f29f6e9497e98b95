"""What every benchmark shares: candidates that take turns, medians, goals beside their figures.

A section is a module of this package with a function ``run(quick: bool) -> Section``. Its result is kept
as JSON in ``results/``, and RESULTS.md is drawn from all of them.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"

REST = 0.1
"""Seconds of rest before each turn: the threads of a BLAS go on spinning for about 30 ms after a product,
and took half of the cores of whoever came next (measured: a pass of 16 ms took 31)."""


def seconds(call: Callable[[], Any]) -> float:
    """Wall time of a call."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def take_turns(
    candidates: Mapping[str, Callable[[], float]], repeats: int, *, warm: bool = True
) -> dict[str, list[float]]:
    """Measure candidates in turns, so that a busy machine is unfair to none.

    Each is called once unmeasured if `warm`, then `repeats` times after a rest; it returns its own time.
    """
    if warm:
        for run in candidates.values():
            run()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, run in candidates.items():
            time.sleep(REST)
            times[name].append(run())
    return times


def medians(
    candidates: Mapping[str, Callable[[], float]], repeats: int, *, warm: bool = True
) -> dict[str, float]:
    """The median time of each candidate, all of them taking turns."""
    return {n: statistics.median(t) for n, t in take_turns(candidates, repeats, warm=warm).items()}


@dataclass(frozen=True)
class Goal:
    """A figure beside its goal.

    Parameters
    ----------
    figure : float
        What was measured.
    limit : float
        What was asked.
    at_least : bool
        Whether more is better.
    form : str
        Format of both.
    """

    figure: float
    limit: float
    at_least: bool = False
    form: str = ".2f"

    @property
    def met(self) -> bool:
        """Whether the figure, unrounded, is within the goal."""
        return self.figure >= self.limit if self.at_least else self.figure <= self.limit

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        figure, limit = format(self.figure, self.form), format(self.limit, self.form)
        text = f"{figure} ({sign} {limit})"
        return text if self.met else f"**{text} missed**"


@dataclass(frozen=True)
class Table:
    """A table of figures; cells are text, numbers already formatted, or goals."""

    title: str
    headers: Sequence[str]
    rows: list[list[Any]] = field(default_factory=list)

    def add(self, *cells: Any) -> None:
        """Add a row and show it at once."""
        self.rows.append(list(cells))
        print("  ".join(f"{h}: {c}" for h, c in zip(self.headers, cells, strict=True)), flush=True)

    @property
    def goals(self) -> list[Goal]:
        """The goals among the cells."""
        return [cell for row in self.rows for cell in row if isinstance(cell, Goal)]

    def markdown(self) -> str:
        """The table as it stands in RESULTS.md."""
        lines = [
            f"**{self.title}**",
            "",
            "| " + " | ".join(self.headers) + " |",
            "|---" * len(self.headers) + "|",
        ]
        lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in self.rows]
        return "\n".join(lines)


@dataclass(frozen=True)
class Section:
    """What a benchmark found.

    Attributes
    ----------
    title : str
        Heading.
    about : str
        What was measured and how, in a few sentences.
    tables : list of Table
    tried : str
        Where a goal is missed: what was tried, and why it stays so. Shown only then.
    """

    title: str
    about: str
    tables: list[Table]
    tried: str = ""

    def save(self, name: str, *, quick: bool) -> None:
        """Keep the section for RESULTS.md."""
        RESULTS.mkdir(exist_ok=True)
        content = asdict(self) | {"machine": machine(), "command": command(name, quick), "quick": quick}
        (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Section:
        """The section that was kept."""

        def cell(value: Any) -> Any:
            return Goal(**value) if isinstance(value, dict) else value

        tables = [
            Table(t["title"], t["headers"], [[cell(c) for c in row] for row in t["rows"]])
            for t in content["tables"]
        ]
        return cls(content["title"], content["about"], tables, content["tried"])

    def markdown(self) -> str:
        """The section as it stands in RESULTS.md."""
        parts = [f"## {self.title}", self.about, *(t.markdown() for t in self.tables)]
        goals = [goal for table in self.tables for goal in table.goals]
        missed = sum(not goal.met for goal in goals)
        if goals:
            parts.append(f"Goals met: {len(goals) - missed} of {len(goals)}.")
        if missed and self.tried:
            parts.append(f"Where a goal is missed: {self.tried}")
        return "\n\n".join(parts)


def command(name: str, quick: bool) -> str:
    """The command that measures a section again."""
    return f"python -m benchmarks {name}" + (" --quick" if quick else "")


def machine() -> dict[str, str]:
    """What the figures depend on, without naming the machine."""
    found = {
        "processor": f"{_processor()} ({'with' if _wide() else 'without'} AVX-512)",
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
    }
    for package in (
        "distem",
        "numpy",
        "numba",
        "dask",
        "zarr",
        "scikit-learn",
        "hmmlearn",
        "daal",
        "pyspark",
    ):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE, check=False
    ).stdout.strip()
    return found | ({"commit": commit} if commit else {})


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _wide() -> bool:
    try:
        return " avx512f" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def python_seconds(code: str, *arguments: str) -> float:
    """Wall time of another Python process that runs some code."""
    return seconds(lambda: subprocess.run([sys.executable, "-c", code, *arguments], check=True))
