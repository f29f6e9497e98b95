"""The fixed tree and its partitions."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace

import dask
import numpy as np
import pytest
from blocks import ArrayBlock, BlockNumbers, Joined, blocks_of
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples

from distem.execution.base import (
    fold,
    load,
    merge,
    merge_groups,
    middle,
    partition,
    pass_name,
    reduce_blocks,
    reduce_rows,
    share_out,
)
from distem.execution.dask import PARTITIONS_PER_THREAD, DaskBlocks, local_capacity
from distem.execution.serial import SerialExecutor
from distem.execution.threads import ThreadsExecutor
from distem.types import Rows

sizes = st.lists(st.integers(0, 1000), min_size=1, max_size=60)


def nodes(span):
    """All nodes of the tree below a span."""
    yield span
    if span[1] - span[0] > 1:
        cut = middle(span)
        yield from nodes((span[0], cut))
        yield from nodes((cut, span[1]))


@examples(100)
@given(sizes, st.integers(1, 80))
def test_a_partition_is_a_run_of_subtrees_that_covers_all_blocks(sizes, count):
    spans = partition(sizes, count)
    assert len(spans) == min(count, len(sizes))
    assert (spans[0][0], spans[-1][1]) == (0, len(sizes))
    assert all(one[1] == two[0] for one, two in pairwise(spans))
    assert set(spans) <= set(nodes((0, len(sizes))))


@examples(100)
@given(sizes, st.integers(1, 80), st.integers(0, 2**32 - 1))
def test_merging_partitions_has_the_bits_of_the_whole_fold(sizes, count, seed):
    # numbers whose sum depends on the order of adding in nearly every digit
    rng = np.random.default_rng(seed)
    values = rng.normal(size=len(sizes)) * 10.0 ** rng.integers(-12, 12, len(sizes))
    whole = fold((0, len(sizes)), values.__getitem__)
    parts = {span: fold(span, values.__getitem__) for span in partition(sizes, count)}
    shuffled = dict(sorted(parts.items(), key=lambda _: rng.random()))
    assert merge((0, len(sizes)), shuffled).tobytes() == whole.tobytes()


def test_partitions_are_about_equal():
    spans = partition([10] * 64, 8)
    assert [b - a for a, b in spans] == [8] * 8
    heavy = partition([1000, *[1] * 63], 4)
    assert heavy[0][1] <= 16  # the heaviest node is cut first


def test_a_block_in_no_partition_is_found_out():
    with pytest.raises(KeyError, match="block 1"):
        merge((0, 2), {(0, 1): np.float64(1.0)})


@dataclass(frozen=True)
class Counting:
    """A block that knows how many of its kind are held at once."""

    index: int
    held: list
    n: int = 1
    nbytes: int = 8

    def load(self) -> Rows:
        self.held.append(threading.current_thread().name)
        return Rows(np.full((1, 1), float(self.index)))


def test_streaming_reads_each_block_once_in_order_one_ahead():
    seen: list = []
    blocks = [Counting(i, seen) for i in range(9)]

    def run(rows, block):
        assert len(seen) <= block + 2  # this one and the next
        return Joined(np.array([[block, rows.values[0, 0]]]))

    found = reduce_blocks(blocks[3:], (3, 9), run).values
    assert found.tolist() == [[i, i] for i in range(3, 9)]
    assert len(seen) == 6
    assert all(name.startswith("distem-read") for name in seen)


def test_rows_in_memory_are_numbered_by_their_block():
    blocks = blocks_of(np.zeros((6, 1)), (1, 2, 3))
    assert reduce_rows(load(blocks[1:]), (1, 3), BlockNumbers()).values.tolist() == [[1, 2], [2, 3]]


@dataclass(frozen=True, eq=False)
class Failing(ArrayBlock):
    def load(self) -> Rows:
        raise ValueError(f"block {self.index} is broken")


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("place", [SerialExecutor, ThreadsExecutor])
def test_an_error_in_a_block_comes_out_as_it_is(place, resident):
    blocks = blocks_of(np.zeros((6, 1)), (1, 2, 3))
    blocks[2] = Failing(2, blocks[2].rows)
    with (
        place() as executor,
        pytest.raises(ValueError, match="block 2 is broken"),
        executor.open(blocks, resident=resident, partitions=2) as opened,
    ):
        opened.map_reduce(BlockNumbers())


@examples(60)
@given(
    st.lists(st.integers(0, 1000), min_size=1, max_size=40),
    st.lists(st.integers(1, 8), min_size=1, max_size=6),
)
def test_workers_get_equal_shares(sizes, threads):
    """No worker could be spared its last partition: with it, all others had as much per thread."""
    spans = {(i, i + 1): size for i, size in enumerate(sizes)}
    workers = {f"w{i}": count for i, count in enumerate(threads)}
    shares = share_out(spans, workers)
    assert sorted(span for mine in shares.values() for span in mine) == sorted(spans)
    load = {w: sum(spans[s] for s in shares.get(w, [])) / workers[w] for w in workers}
    for worker, mine in shares.items():
        lightest = min(spans[s] for s in mine)
        assert load[worker] - lightest / workers[worker] <= min(load.values()) + 1e-9


def test_a_pass_has_a_name():
    assert pass_name(BlockNumbers()) == "BlockNumbers"


def test_tasks_are_called_by_what_they_do_and_annotated():
    seen = []

    class Client:
        id = "Client-1"

        def map(self, function, *columns, key, pure, **same):
            seen.extend((name, dask.get_annotations()) for name in key)
            return [function(*row, **same) for row in zip(*columns, strict=True)]

        def gather(self, values):
            return values

    blocks = blocks_of(np.zeros((6, 1)), (1, 2, 3))
    vigil = SimpleNamespace(over=lambda futures: [])
    DaskBlocks(Client(), blocks, partition([1] * 3, 3), None, vigil).map_reduce(BlockNumbers())
    assert [name.split("-")[0] for name, _ in seen] == ["BlockNumbers"] * 3
    assert {str(about) for _, about in seen} == {str({"distem": {"pass": "BlockNumbers", "partitions": 3}})}


def test_capacities():
    assert SerialExecutor().capacity.threads == 1
    with ThreadsExecutor(3) as threads:
        assert threads.capacity.threads == 3
    found = local_capacity(2, 3, "1GiB")
    assert (found.workers, found.threads, found.memory_per_worker) == (2, 6, 2**30)
    assert PARTITIONS_PER_THREAD >= 1


@examples(40)
@given(st.integers(1, 300), st.integers(1, 300))
def test_sums_of_many_partitions_are_merged_on_the_workers_with_the_same_bits(blocks, count):
    """The merge levels of a Dask pass, with values in the place of futures."""
    rng = np.random.default_rng(blocks)
    values = rng.normal(size=blocks) * 10.0 ** rng.integers(-12, 12, blocks)
    whole = fold((0, blocks), values.__getitem__)

    class Client:
        def map(self, function, *columns, key, pure):
            return [function(*row) for row in zip(*columns, strict=True)]

    spans = partition([1] * blocks, count)
    opened = DaskBlocks(Client(), [None] * blocks, spans, None, vigil=None)
    sums = {span: fold(span, values.__getitem__) for span in spans}
    rounds = 0
    while len(sums) > 16:
        sums = opened._merge_level((0, blocks), sums, "merge")
        rounds += 1
        assert rounds < 10
    assert merge((0, blocks), sums).tobytes() == whole.tobytes()


@given(sizes, st.integers(1, 80), st.integers(1, 20))
def test_merge_groups_are_the_highest_nodes_with_few_enough_parts(sizes, count, most):
    parts, whole = partition(sizes, count), (0, len(sizes))
    groups = merge_groups(whole, parts, most)
    assert [part for _, group in groups for part in group] == parts

    def below(span):
        return [part for part in parts if span[0] <= part[0] and part[1] <= span[1]]

    tree = list(nodes(whole))
    for span, group in groups:
        assert span in tree
        assert below(span) == group
        assert 1 <= len(group) <= most
        above = [node for node in tree if node != span and node[0] <= span[0] and span[1] <= node[1]]
        assert all(len(below(node)) > most for node in above)
