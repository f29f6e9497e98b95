"""Compile every kernel for this machine and keep the code: python -m distem.kernels

Kinds are compiled side by side, as many at a time as there are cores; a second call finds all in the cache.
Runs do this by themselves for what they need; images of containers may do it once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from distem.kernels import (
    chains_compiled,
    compiled,
    compiled_centres,
    regression_compiled,
    scaling,
    warping_compiled,
)

KINDS = ("full", "tied", "diag", "spherical")
TYPES = ("float64", "float32")


def main() -> None:
    """Compile what is not compiled yet; the longest first."""
    shared: list[Callable[[], float]] = [partial(scaling.warm, dtype) for dtype in TYPES]
    shared += [chains_compiled.warm]
    jobs: list[Callable[[], float]] = [
        partial(compiled.warm, kind, dtype) for dtype in TYPES for kind in KINDS
    ]
    jobs += [partial(compiled_centres.warm, dtype) for dtype in TYPES]
    jobs += [regression_compiled.warm, warping_compiled.warm]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), get_context("spawn")) as pool:
        for found in [pool.submit(job) for job in shared + jobs]:
            found.result()


if __name__ == "__main__":
    main()
