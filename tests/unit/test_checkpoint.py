"""Checkpoints come back bit for bit, or an older one does."""

import json

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal

from distem.data.checkpoint import HEAD, CheckpointStore
from distem.data.object_store import RemoteStore
from distem.errors import AlreadyRunning


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


def fill(store, numbers):
    for number in numbers:
        store.save(f"pass-{number:06d}", {"x": np.full(3, float(number))}, {"number": number})


@pytest.fixture
def warned():
    return []


@pytest.fixture
def kept(tmp_path, warned):
    made = CheckpointStore(tmp_path / "checkpoint.zarr", warn=warned.append)
    fill(made, range(1, 5))
    return made


def folders(kept):
    return sorted(p for p in kept.store.iterdir() if p.is_dir())


def test_the_newest_two_are_kept(kept):
    assert [p.name for p in folders(kept)] == ["pass-000003.000003", "pass-000004.000004"]
    assert kept.latest("pass")[1] == {"number": 4}


def test_kinds_do_not_mix(kept):
    kept.save("seed-000000", {"y": np.arange(2)}, {})
    assert_array_equal(kept.latest("seed")[0]["y"], [0, 1])
    assert kept.latest("pass")[1] == {"number": 4}
    assert kept.latest("other") is None


def test_they_lie_in_a_zarr_group(kept):
    array = zarr.open_group(kept.store, mode="r")["pass-000004.000004"]
    assert_array_equal(array[:].view("f8"), [4.0, 4.0, 4.0])
    assert array.attrs["info"] == {"number": 4}


def test_one_is_never_changed(kept):
    before = {p: (p / "c" / "0").read_bytes() for p in folders(kept)}
    kept.save("pass-000004", {"x": np.zeros(3)}, {"number": 40})
    assert kept.latest("pass")[1] == {"number": 40}
    newest = folders(kept)[0]
    assert newest.name == "pass-000004.000004"
    assert (newest / "c" / "0").read_bytes() == before[newest]


def damage(folder, how):
    chunk, facts = folder / "c" / "0", folder / "zarr.json"
    held = bytearray(chunk.read_bytes())
    if how == "cut":
        chunk.write_bytes(held[:-3])
    elif how == "longer":
        chunk.write_bytes(held + b"1")
    elif how == "flip":
        held[-9] ^= 4
        chunk.write_bytes(held)
    elif how == "gone":
        chunk.unlink()
    elif how == "facts":
        text = facts.read_text(encoding="utf-8")
        facts.write_text(text.replace('"number": 4', '"number": 5'), encoding="utf-8")
    else:
        facts.write_text("{", encoding="utf-8")


@pytest.mark.parametrize("how", ["cut", "longer", "flip", "gone", "facts", "metadata"])
def test_a_damaged_one_gives_way_to_the_one_before(kept, warned, how):
    damage(folders(kept)[-1], how)
    assert kept.latest("pass")[1] == {"number": 3}
    assert len(warned) == 1
    assert "pass-000004.000004 is damaged and was passed over" in warned[0]
    fill(kept, [4])  # and takes nothing away from the next
    assert kept.latest("pass")[1] == {"number": 4}


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"[" * 100_000, b'{"format": 1}'], ids=lambda t: t[:9])
def test_a_damaged_head_is_made_good_from_the_folder(kept, warned, text):
    (kept.store / HEAD).write_bytes(text)
    assert kept.latest("pass")[1] == {"number": 4}
    assert "list of checkpoints" in warned[0]
    damage(folders(kept)[-1], "flip")
    assert kept.latest("pass")[1] == {"number": 3}
    fill(kept, [4])
    warned.clear()
    assert kept.latest("pass")[1] == {"number": 4}
    assert not warned


def test_a_head_that_was_changed_is_damaged(kept, warned):
    facts = json.loads((kept.store / HEAD).read_text(encoding="utf-8"))
    facts["kept"]["pass"].reverse()
    (kept.store / HEAD).write_text(json.dumps(facts), encoding="utf-8")
    assert kept.latest("pass")[1] == {"number": 4}
    assert warned


def test_one_that_was_not_published_does_not_count(kept):
    def killed():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill(CheckpointStore(kept.store, fence=killed), [5])
    assert kept.latest("pass")[1] == {"number": 4}
    fill(kept, [5])
    assert kept.latest("pass")[1] == {"number": 5}


def test_who_was_overtaken_publishes_nothing(kept):
    fill(CheckpointStore(kept.store, fence=lambda: 3), [5])
    with pytest.raises(AlreadyRunning, match="was not published"):
        fill(CheckpointStore(kept.store, fence=lambda: 2), [6])
    assert kept.latest("pass")[1] == {"number": 5}

    def meanwhile():
        fill(CheckpointStore(kept.store, fence=lambda: 3), [7])
        return 3

    with pytest.raises(AlreadyRunning, match="was not published"):
        fill(CheckpointStore(kept.store, fence=meanwhile), [6])
    assert kept.latest("pass")[1] == {"number": 7}
    assert kept.token == 3


def test_nothing_kept(tmp_path):
    empty = CheckpointStore(tmp_path / "none.zarr")
    assert empty.latest("pass") is None
    empty.remove()
    assert not empty.store.exists()


def test_a_stray_file_in_its_place_is_replaced(tmp_path):
    path = tmp_path / "checkpoint.zarr"
    path.write_text("not a checkpoint")
    store = CheckpointStore(path)
    assert store.latest("pass") is None
    fill(store, [1])
    assert store.latest("pass")[1] == {"number": 1}


def test_on_an_object_store(warned):
    held = pytest.importorskip("obstore.store").MemoryStore()
    kept = CheckpointStore(RemoteStore(held, "memory://run"), warn=warned.append, prefix="checkpoint.zarr/")
    assert kept.latest("pass") is None
    fill(kept, range(1, 5))
    assert kept.latest("pass")[1] == {"number": 4}
    held.put("checkpoint.zarr/pass-000004.000004/c/0", b"x" * 24)
    assert kept.latest("pass")[1] == {"number": 3}
    assert "digest" in warned[0]
    kept.remove()
    assert kept.latest("pass") is None
    assert held.list().collect() == []


# what somebody else may have put there


def rewritten(folder, change):
    facts = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))
    change(facts["attributes"]["layout"]["x"])
    (folder / "zarr.json").write_text(json.dumps(facts), encoding="utf-8")


@pytest.mark.parametrize(
    "spec",
    [
        {"dtype": "|O"},
        {"dtype": "O8"},
        {"dtype": "V9"},
        {"dtype": "f8" * 9},
        {"dtype": ["f8"]},
        {"shape": [10**15]},
        {"shape": [2**62, 2**62]},
        {"shape": [-3]},
        {"shape": [True]},
        {"shape": "3"},
        {"shape": [1] * 40},
        {"start": -8},
        {"start": 10**30},
    ],
    ids=str,
)
def test_hostile_layouts_are_damage(kept, spec):
    rewritten(folders(kept)[-1], lambda held: held.update(spec))
    assert kept.latest("pass")[1] == {"number": 3}


def test_deep_facts_are_damage(kept):
    (folders(kept)[-1] / "zarr.json").write_text("[" * 200_000, encoding="utf-8")
    assert kept.latest("pass")[1] == {"number": 3}


def test_sparse_giants_are_not_read(kept):
    with (folders(kept)[-1] / "c" / "0").open("r+b") as file:
        file.truncate(1 << 42)
    assert kept.latest("pass")[1] == {"number": 3}


def test_objects_are_not_kept(kept):
    with pytest.raises(TypeError, match="numbers only"):
        kept.save("pass-000005", {"x": np.array([None])}, {})
