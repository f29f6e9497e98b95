"""What a worker process that `local` starts is told: Dask loads this module in it."""

from __future__ import annotations

import signal
from typing import Any


def dask_setup(_: Any) -> None:
    """Prepare a worker process: Dask calls this in each that `local` starts.

    A Ctrl-C at the terminal reaches the workers too, and is for the driver to answer.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
