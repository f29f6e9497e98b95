import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distem.data.grid import BLOCK_BYTES, Grid, box_rows, box_shape, leading_sizes
from distem.errors import DataError

sizes = st.lists(st.integers(0, 5), min_size=1, max_size=5)
grids = st.lists(sizes, min_size=1, max_size=3).map(lambda c: Grid.of([f"d{i}" for i in range(len(c))], c))


@given(grids)
def test_chunks_tile_the_shape_in_c_order(grid):
    seen = np.zeros(grid.shape, int)
    for chunk in range(grid.n_chunks):
        seen[grid.region(chunk)] += 1
        assert grid.chunk_rows(chunk) == box_rows(grid.region(chunk))
        assert grid.chunk_shape(chunk) == box_shape(grid.region(chunk))
        assert grid.rows(range(chunk, chunk + 1)) == grid.chunk_rows(chunk)
    assert (seen == 1).all()
    assert Grid.of(grid.dims, grid.chunks) == grid


@given(grids, st.data())
def test_boxes_cover_a_run_once_and_coordinates_follow_them(grid, data):
    start = data.draw(st.integers(0, grid.n_chunks))
    stop = data.draw(st.integers(start, grid.n_chunks))
    seen = np.zeros(grid.shape, int)
    for chunk in range(start, stop):
        seen[grid.region(chunk)] += 1
    numbers = np.arange(grid.n).reshape(grid.shape)
    order = []
    for box in grid.boxes(range(start, stop)):
        seen[box] -= 1
        order += numbers[box].ravel().tolist()
    assert (seen == 0).all()
    assert len(order) == grid.rows(range(start, stop))
    assert len(grid.boxes(range(start, stop))) <= 2 * len(grid.dims) - 1
    for row in range(0, len(order), 7):
        at = grid.coordinates(range(start, stop), row)
        assert grid.row_number(at) == order[row]


@given(grids, st.integers(1, 1 << 17))
def test_blocks_hold_enough_and_miss_no_chunk(grid, d):
    blocks = grid.blocks(d)
    assert [c for b in blocks for c in b] == list(range(grid.n_chunks))
    for block in blocks[:-1]:
        assert grid.rows(block) * d * 8 >= BLOCK_BYTES
        assert grid.rows(block[:-1]) * d * 8 < BLOCK_BYTES
    assert blocks == Grid.of(grid.dims, grid.chunks).blocks(d)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 12)), min_size=1, max_size=3))
def test_regular_grids(pairs):
    shape, chunk = zip(*pairs, strict=True)
    grid = Grid.regular([str(i) for i in range(len(shape))], shape, chunk)
    assert grid.shape == shape
    assert grid.is_regular
    assert all(max(c) <= size for c, size in zip(grid.chunks, chunk, strict=True))


@pytest.mark.parametrize(
    ("chunks", "regular"),
    [((4, 4, 2), True), ((4, 4), True), ((0,), True), ((4, 4, 0), True), ((4, 2, 0, 0), True),
     ((2, 4), False), ((4, 2, 2), False), ((4, 0, 4), False), ((4, 3, 2), False), ((4, 2, 2, 0), False)],
)  # fmt: skip
def test_what_is_regular(chunks, regular):
    assert Grid.of(["x"], [chunks]).is_regular is regular


def test_many_tiny_chunks_stay_small_and_cost_few_blocks():
    grid = Grid.regular(["t"], [1_000_000], [10])
    assert grid.n_chunks == 100_000
    assert len(grid.blocks(8)) == 31
    assert len(pickle.dumps(grid)) < 300
    irregular = Grid.of(["t"], [[7] * 5000 + [3] * 5000])
    irregular.boxes(range(10))  # fills the caches, which must stay behind
    assert len(pickle.dumps(irregular)) < 300
    assert pickle.loads(pickle.dumps(irregular)) == irregular


def test_a_large_chunk_is_one_block():
    assert Grid.regular(["t"], [3_000_000], [1_000_000]).blocks(4) == [range(1), range(1, 2), range(2, 3)]


@given(st.lists(st.integers(0, 6), min_size=1, max_size=4), st.integers(1, 50))
def test_leading_chunks_are_contiguous(shape, rows):
    grid = Grid.regular([str(i) for i in range(len(shape))], shape, leading_sizes(shape, rows))
    numbers = np.arange(grid.n).reshape(shape)
    got = [numbers[grid.region(c)].ravel() for c in range(grid.n_chunks)]
    assert np.concatenate(got).tolist() == list(range(grid.n))
    assert max(map(len, got)) <= 2 * rows


@settings(max_examples=5)
@given(st.integers(-5, -1))
def test_bad_grids(size):
    with pytest.raises(DataError, match="negative"):
        Grid.of(["x"], [[3, size]])
    with pytest.raises(DataError, match="2 dimensions"):
        Grid.of(["x"], [[3], [2]])
