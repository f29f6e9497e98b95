"""Threads of this process that stand still: the run ends, says so, and goes on when it is begun again."""

import os
import threading
import time
from dataclasses import dataclass

import numpy as np
import pytest
from runs import assert_same_bits, blobs, command, config_file, manifest, store

from distem.errors import Stalled
from distem.execution.threads import ThreadsExecutor
from distem.types import Rows

GATE = threading.Event()


@dataclass(frozen=True)
class Slow:
    """A block that takes its time, or waits for the gate."""

    index: int
    seconds: float | None = 0.0
    n: int = 4
    nbytes: int = 64

    def load(self):
        if self.seconds is None:
            GATE.wait(30)
        else:
            time.sleep(self.seconds)
        return Rows(np.full((self.n, 2), float(self.index)))


def rows(block, _):
    return block.n


@pytest.fixture
def threads():
    GATE.clear()
    with ThreadsExecutor(2) as found:
        yield found
        GATE.set()  # or closing would wait for what hangs


@pytest.mark.parametrize("resident", [False, True], ids=["streamed", "loading"])
def test_what_stands_still_ends(threads, resident):
    threads.guard(0.4)
    blocks = [Slow(0), Slow(1), Slow(2, None), Slow(3), Slow(4)]
    with (
        pytest.raises(Stalled) as ended,
        threads.open(blocks, resident=resident, partitions=5) as opened,
    ):
        opened.map_reduce(rows)
    assert ended.value.exit_code == 75
    assert "No block was done for 0.4 s (fit.stall_timeout), 1 of 5 partitions are left" in str(ended.value)


@pytest.mark.parametrize("resident", [False, True], ids=["streamed", "loading"])
def test_what_moves_is_waited_for(threads, resident):
    threads.guard(1.0)
    blocks = [Slow(i, 0.3) for i in range(12)]  # 1.8 s for each of two partitions
    with threads.open(blocks, resident=resident, partitions=2) as opened:
        assert opened.map_reduce(rows) == 48


def test_nobody_is_hurried_who_was_not_told_to_be(threads):
    with threads.open([Slow(0, 0.3)], resident=False) as opened:
        assert opened.map_reduce(rows) == 4


def test_the_first_partition_that_fails_is_the_one_that_is_told_of(threads):
    threads.guard(5.0)

    def failing(_, block):
        time.sleep(0.2 if block == 0 else 0.0)
        raise ValueError(f"block {block}")

    with (
        threads.open([Slow(i) for i in range(4)], resident=False, partitions=4) as opened,
        pytest.raises(ValueError, match="block 0"),
    ):
        opened.map_reduce(failing)


STUCK = """
import os
import threading

from distem.em.loop import EStep
from distem.pipelines import cluster


def run(session):
    real, calls = EStep.__call__, []

    def stuck(self, rows, block):
        calls.append(block)
        if len(calls) > 20 and "T_STUCK" in os.environ:
            threading.Event().wait()
        return real(self, rows, block)

    EStep.__call__ = stuck
    return cluster.run(session)
"""


def test_a_run_that_stands_still_ends_with_75_says_why_and_goes_on(tmp_path):
    """Its thread is never done: the process ends all the same."""
    store(tmp_path / "data.zarr", blobs(400))
    (tmp_path / "stuck.py").write_text(STUCK, encoding="utf-8")
    path = config_file(
        tmp_path,
        pipeline="stuck.py",
        cluster={"kind": "threads", "workers": 2, "grace": 1.0},
        fit__stall_timeout=2.0,
        fit__max_passes=60,
    )
    ended = command("run", path, env=os.environ | {"T_STUCK": "1"})
    assert ended.returncode == 75, ended.stderr
    for said in (ended.stderr, manifest(tmp_path / "run")["error"]):
        assert "No block was done for 2 s (fit.stall_timeout)" in said
    assert manifest(tmp_path / "run")["status"] == "interrupted"
    assert command("run", path).returncode == 0
    whole = config_file(tmp_path, "whole.yaml", pipeline="stuck.py", fit__max_passes=60, output__path="whole")
    assert command("run", whole).returncode == 0
    assert_same_bits(tmp_path / "run", tmp_path / "whole")
