"""How tasks and clusters fail, in words a user can act on."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from distributed.client import FutureCancelledError, FuturesCancelledError
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker

from distem.errors import DistemError, FitError, Interrupted
from distem.execution.base import pass_name
from distem.types import Block

TRIES = 3
"""How often a task is tried that raises."""


def give_up(error: BaseException | None, run: Any, blocks: Sequence[Block], where: Sequence[str]) -> NoReturn:
    """Raise for a task that failed wherever it was tried: distem's own errors say it themselves."""
    passing = isinstance(error, DistemError | KilledWorker) or (isinstance(error, OSError) and error.errno)
    if error is not None and passing:
        raise error
    on = f", tried {TRIES} times on {', '.join(where)}" if where else f", tried {TRIES} times"
    name = getattr(run, "__name__", None) or pass_name(run)
    raise FitError(
        f"The pass {name} failed on {described(blocks)}{on}: {type(error).__name__}: {error}.",
        "Look at the workers' logs; if it is the data, leave it out or mend it.",
    ) from error


def described(blocks: Sequence[Block]) -> str:
    """Which blocks, chunks and arrays a task works on."""
    first, last = blocks[0], blocks[-1]
    many = first.index != last.index
    said = f"blocks {first.index} to {last.index}" if many else f"block {first.index}"
    where = [str(block.where) for block in (first, last) if hasattr(block, "where")]
    return said + (f" ({' to '.join(dict.fromkeys(where))})" if where else "")


@contextmanager
def cluster_failures(blocks: Sequence[Block] = ()) -> Iterator[None]:
    """Turn the ways a cluster is lost into one ending the user can act on."""
    try:
        with warnings.catch_warnings():
            # rows in the caller's memory come in the graph, where they outlive a worker
            warnings.filterwarnings("ignore", message="Sending large graph", category=UserWarning)
            yield
    except KilledWorker as error:
        raise Interrupted(
            f"{error.allowed_failures + 1} workers died while running {error.task}"
            f"{_partition(error.task, blocks)}, the last one {error.last_worker.address}: "
            "most likely for want of memory.",
            "Give each worker more memory (cluster.memory), cut the work finer (cluster.partitions) or "
            "set cluster.resident: false, then run the same command again.",
        ) from error
    except (FutureCancelledError, FuturesCancelledError, CommClosedError, TimeoutError, OSError) as error:
        # a number from the system comes from a task: a disk that is full, a folder that is closed
        if isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError):
            raise
        raise Interrupted(
            f"The cluster was lost: {type(error).__name__}: {error}.", "Run the same command to go on."
        ) from error


def _partition(task: Any, blocks: Sequence[Block]) -> str:
    """The partition a task works on, by its key, which ends with the first of its blocks."""
    start = str(task).partition("-again")[0].rpartition("-")[2]
    if not start.isdigit() or int(start) >= len(blocks):
        return ""
    return f", the partition that begins with {described(blocks[int(start) : int(start) + 1])}"
