"""Checkpoints come back bit for bit, or an older one does."""

import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal

from distem.data.checkpoint import CheckpointStore


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.text("abc/", min_size=1, max_size=6),
        hnp.arrays(
            st.sampled_from(["f8", "f4", "i8", "u1", "?"]),
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        ),
        max_size=5,
    )
)
def test_what_is_kept_comes_back(tmp_path, arrays):
    kept = CheckpointStore(tmp_path / "checkpoint.zarr")
    kept.save("pass-000001", arrays, {"n": 1})
    found, info = kept.latest("pass")
    assert info == {"n": 1}
    assert set(found) == set(arrays)
    for name, value in arrays.items():
        assert found[name].dtype == value.dtype
        assert found[name].shape == value.shape
        assert found[name].tobytes() == value.tobytes()


@pytest.fixture
def kept(tmp_path):
    made = CheckpointStore(tmp_path / "checkpoint.zarr")
    for number in range(1, 5):
        made.save(f"pass-{number:06d}", {"x": np.full(3, float(number))}, {"number": number})
    return made


def test_the_newest_two_are_kept(kept):
    assert sorted(p.name for p in kept.path.iterdir() if p.is_dir()) == ["pass-000003", "pass-000004"]
    assert kept.latest("pass")[1] == {"number": 4}


def test_kinds_do_not_mix(kept):
    kept.save("seed-000000", {"y": np.arange(2)}, {})
    assert_array_equal(kept.latest("seed")[0]["y"], [0, 1])
    assert kept.latest("pass")[1] == {"number": 4}
    assert kept.latest("other") is None


@pytest.mark.parametrize("damage", ["cut", "flip", "gone", "metadata"])
def test_a_damaged_one_gives_way_to_the_one_before(kept, damage):
    newest = kept.path / "pass-000004"
    chunk = newest / "c" / "0"
    held = bytearray(chunk.read_bytes())
    if damage == "cut":
        chunk.write_bytes(held[:-3])
    elif damage == "flip":
        held[-9] ^= 4
        chunk.write_bytes(held)
    elif damage == "gone":
        chunk.unlink()  # reads as zeros, in silence
    else:
        (newest / "zarr.json").write_text("{", encoding="utf-8")
    assert kept.latest("pass")[1] == {"number": 3}


def test_one_that_was_not_finished_does_not_count(kept):
    shutil.move(kept.path / "pass-000004", kept.path / ".pass-000004.partial")
    assert kept.latest("pass")[1] == {"number": 3}
    kept.save("pass-000004", {"x": np.zeros(1)}, {"number": 40})
    assert kept.latest("pass")[1] == {"number": 40}


def test_nothing_kept(tmp_path):
    empty = CheckpointStore(tmp_path / "none.zarr")
    assert empty.latest("pass") is None
    empty.remove()
    assert not empty.path.exists()


def test_a_stray_file_in_its_place_is_replaced(tmp_path):
    path = tmp_path / "checkpoint.zarr"
    path.write_text("not a checkpoint")
    store = CheckpointStore(path)
    assert store.latest("pass") is None
    store.save("pass-000001", {"x": np.arange(3.0)}, {"n": 1})
    arrays, info = store.latest("pass")
    np.testing.assert_array_equal(arrays["x"], np.arange(3.0))
    assert info == {"n": 1}
