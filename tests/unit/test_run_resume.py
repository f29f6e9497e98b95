"""A run that was interrupted, wherever, and run again gives the bits of one that was not."""

import itertools

import numpy as np
import pytest
import zarr
from runs import arrays, assert_same_bits, blobs, config, events, manifest, small_blocks, snapshot, store

from distem import stages
from distem.assignment import AssignRows
from distem.data.assignment import AssignmentWriter
from distem.data.checkpoint import CheckpointStore
from distem.data.source import SourceBlock
from distem.errors import Interrupted
from distem.events import PassDone, PhaseStarted, Resumed, Warned
from distem.run import run

PASSES = 7


@pytest.fixture(autouse=True)
def _every_pass_is_kept(monkeypatch):
    monkeypatch.setattr(stages, "CHECKPOINT_SECONDS", 0.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Rows in a tree of many blocks."""
    folder = tmp_path_factory.mktemp("resume")
    values = blobs()
    values[17, 1] = np.nan
    store(folder / "data.zarr", values)
    with small_blocks():
        yield folder


def made(folder, place, **changes):
    options = {"data__missing": "drop", "fit__max_passes": PASSES, "fit__restarts": 2} | changes
    return config(folder, output__path=str(place), **options)


def stop_at(wanted):
    """An observer that ends the run when an event is the one."""

    def observe(event):
        if wanted(event):
            raise Interrupted("Enough.", "Run the same command to go on.")

    return observe


def after_pass(number):
    return stop_at(lambda event: isinstance(event, PassDone) and event.pass_ == number)


def at_phase(phase):
    return stop_at(lambda event: isinstance(event, PhaseStarted) and event.phase == phase)


CASES = {
    "plain, candidates and restarts": {"model__components": [2, 3], "fit__acceleration": "none"},
    "squarem": {"fit__acceleration": "squarem"},
    "anderson, two shapes": {"fit__acceleration": "anderson", "model__covariance": ["diag", "full"]},
    "a component collapses": {
        "model__covariance": "diag",
        "model__components": 3,
        "fit__restarts": 1,
        "fit__acceleration": "anderson",
        "fit__init": {
            "weights": [0.4, 0.3, 0.3],
            "means": [[0.0, 0.0, 0.0], [4.0, 1.0, -3.0], [500.0, 500.0, 500.0]],
            "covariances": [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1e-3, 1e-3, 1e-3]],
        },
    },
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_interrupted_after_any_pass(data, tmp_path, case):
    whole = tmp_path / "whole"
    run(made(data, whole, **CASES[case]))
    passes = max(line["pass"] for line in events(whole) if line["event"] == "pass")
    assert passes >= 4
    # anywhere is for one of them; what follows a first, a middle and a last pass is for all
    any_pass = range(1, passes + 1)
    for number in any_pass if case.startswith("anderson") else {1, passes // 2 + 1, passes}:
        place = tmp_path / f"after-{number}"
        cfg = made(data, place, **CASES[case])
        with pytest.raises(Interrupted):
            run(cfg, observers=(after_pass(number),))
        assert (place / "checkpoint.zarr").is_dir()
        assert manifest(place)["status"] == "interrupted"
        assert manifest(place)["exit"] == 75
        resumed = []
        done = run(cfg, observers=(resumed.append,))
        assert done.status == "complete"
        assert [e.passes for e in resumed if isinstance(e, Resumed)] == [number]
        assert not any(isinstance(e, PassDone) and e.pass_ <= number for e in resumed)
        assert not (place / "checkpoint.zarr").exists()
        assert_same_bits(place, whole)


def test_interrupted_again_and_again(data, tmp_path):
    whole, place = tmp_path / "whole", tmp_path / "often"
    run(made(data, whole, fit__acceleration="anderson"))
    cfg = made(data, place, fit__acceleration="anderson")
    for number in itertools.count(1):
        try:
            run(cfg, observers=(after_pass(number),))
        except Interrupted:
            continue
        break
    assert number > 5
    assert_same_bits(place, whole)
    assert len(arrays(place)["/trace/log_likelihood"]) == len(arrays(whole)["/trace/log_likelihood"])


@pytest.mark.parametrize("phase", ["scan", "seed", "fit", "assign", "finalise"])
@pytest.mark.parametrize("init", ["kmeans||"])
def test_interrupted_in_any_phase(data, tmp_path, phase, init):
    whole, place = tmp_path / "whole", tmp_path / "stopped"
    run(made(data, whole, fit__init=init, fit__max_passes=4))
    cfg = made(data, place, fit__init=init, fit__max_passes=4)
    with pytest.raises(Interrupted):
        run(cfg, observers=(at_phase(phase),))
    assert manifest(place)["status"] == "interrupted"
    assert events(place)[-1]["error"] == manifest(place)["error"] != ""
    run(cfg)
    assert_same_bits(place, whole)


def written(monkeypatch):
    """Numbers of the blocks that are written, as they are."""
    found, real = [], AssignmentWriter.write

    def write(self, chunks, *args, **more):
        done = real(self, chunks, *args, **more)
        found.append(next(i for i, c in enumerate(self.grid.blocks(self.d)) if c == chunks))
        return done

    monkeypatch.setattr(AssignmentWriter, "write", write)
    return found


@pytest.mark.parametrize(
    ("resident", "harm"), [(True, "gone"), (True, "empty"), (False, "none"), (False, "flip")], ids=str
)
def test_interrupted_while_rows_are_assigned(data, tmp_path, monkeypatch, resident, harm):
    whole, place = tmp_path / "whole", tmp_path / "stopped"
    options = {"fit__max_passes": 3, "fit__restarts": 1, "cluster__resident": resident}
    run(made(data, whole, **options))
    cfg = made(data, place, **options)
    real, calls = AssignRows.__call__, []

    def some(self, rows, block):
        calls.append(block)
        if len(calls) > 3:
            raise Interrupted("Enough.")
        return real(self, rows, block)

    with monkeypatch.context() as patched:
        patched.setattr(AssignRows, "__call__", some)
        with pytest.raises(Interrupted):
            run(cfg)
    chunk = place / "result.zarr" / "assignment" / "log_density" / "c" / "2"
    held = bytearray(chunk.read_bytes())
    if harm == "flip":
        held[len(held) // 2] ^= 8
        chunk.write_bytes(held)
    elif harm == "empty":
        chunk.write_bytes(b"")
    elif harm == "gone":
        chunk.unlink()
    said, redone, read = [], written(monkeypatch), []
    load = SourceBlock.load
    monkeypatch.setattr(SourceBlock, "load", lambda self: (read.append(self.index), load(self))[1])
    run(cfg, observers=(said.append,))
    # nothing is fitted a second time, and nothing is written a second time that was whole
    assert not any(isinstance(event, PassDone) for event in said)
    blocks = len(small_grid(cfg))
    hurt = {block.index for block in small_grid(cfg) if 2 in range(block.start, block.stop)}
    assert max(hurt) < 3 < blocks
    mine = set(range(3, blocks)) | (set() if harm == "none" else hurt)
    assert sorted(redone) == sorted(mine)
    if not resident:  # the scan, and what is left to be written
        assert sorted(read) == sorted([*range(blocks), *mine])
    assert_same_bits(place, whole)
    assert "attempt" not in zarr.open_group(place / "result.zarr", mode="r").attrs


def small_grid(cfg):
    return cfg.data.build(cfg.locate).blocks()


def test_another_model_begins_its_assignment_anew(data, tmp_path, monkeypatch):
    """What is left of an assignment counts only for the model that it was made with."""
    whole, place = tmp_path / "whole", tmp_path / "stopped"
    run(made(data, whole, fit__max_passes=3))
    cfg = made(data, place, fit__max_passes=3)
    with pytest.raises(Interrupted):
        run(cfg, observers=(at_phase("finalise"),))
    kept = CheckpointStore(place / "checkpoint.zarr", fence=lambda: 9)
    kept.save("assign-000000", {}, kept.latest("assign")[1] | {"of": "another"})
    redone = written(monkeypatch)
    run(cfg)
    assert sorted(redone) == list(range(len(small_grid(cfg))))
    assert_same_bits(place, whole)


def test_a_run_begun_by_another_version_says_so(data, tmp_path, monkeypatch):
    place = tmp_path / "run"
    cfg = made(data, place)
    with monkeypatch.context() as patched:
        patched.setattr(stages, "__version__", "0.0.1")
        with pytest.raises(Interrupted):
            run(cfg, observers=(after_pass(2),))
    run(cfg)
    assert any("begun by distem 0.0.1" in warning for warning in manifest(place)["warnings"])


def test_the_identity_is_of_config_data_and_version(data, tmp_path):
    for name, changes in {"one": {}, "same": {}, "seed": {"seed": 5}}.items():
        run(made(data, tmp_path / name, fit__max_passes=1, **changes))
    one, same, other = (manifest(tmp_path / name)["identity"] for name in ("one", "same", "seed"))
    assert one == same != other


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(data, tmp_path):
    whole, place = tmp_path / "whole", tmp_path / "stopped"
    run(made(data, whole))
    cfg = made(data, place)
    with pytest.raises(Interrupted):
        run(cfg, observers=(after_pass(6),))
    newest = sorted(p for p in (place / "checkpoint.zarr").iterdir() if p.name.startswith("pass-"))[-1]
    assert newest.name.startswith("pass-000006")
    chunk = next(p for p in newest.rglob("0") if p.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-7])
    said = []
    run(cfg, observers=(said.append,))
    assert [e.passes for e in said if isinstance(e, Resumed)] == [5]
    assert any("is damaged and was passed over" in e.message for e in said if isinstance(e, Warned))
    assert_same_bits(place, whole)


def test_a_complete_run_is_left_alone(data, tmp_path):
    place = tmp_path / "run"
    cfg = made(data, place)
    first = run(cfg)
    before, said = snapshot(place), []
    assert run(cfg, observers=(said.append,)) == first
    assert "already complete" in said[0].message
    assert len(said) == 1
    assert snapshot(place) == before


def test_a_run_killed_between_its_last_two_steps_is_complete(data, tmp_path):
    place = tmp_path / "run"
    cfg = made(data, place)
    run(cfg)
    (place / "checkpoint.zarr").mkdir()
    assert run(cfg).status == "complete"
    assert not (place / "checkpoint.zarr").exists()


def test_fresh_begins_again(data, tmp_path):
    place = tmp_path / "run"
    run(made(data, place, seed=1))
    before = arrays(place)["/model/means"]
    run(made(data, place, seed=2, fit__max_passes=2), fresh=True)
    assert manifest(place)["seed"] == 2
    assert len(arrays(place)["/trace/log_likelihood"]) == 2
    assert not np.array_equal(arrays(place)["/model/means"], before)


def test_fresh_forgets_a_checkpoint(data, tmp_path):
    place, whole = tmp_path / "run", tmp_path / "whole"
    cfg = made(data, place)
    with pytest.raises(Interrupted):
        run(cfg, observers=(after_pass(3),))
    said = []
    run(cfg, fresh=True, observers=(said.append,))
    assert not any(isinstance(event, Resumed) for event in said)
    run(made(data, whole))
    assert_same_bits(place, whole)


def test_other_data_than_at_the_start_is_refused(tmp_path):
    store(tmp_path / "data.zarr", blobs(200))
    cfg = config(tmp_path)
    with pytest.raises(Interrupted):
        run(cfg, observers=(after_pass(3),))
    store(tmp_path / "data.zarr", blobs(200, seed=9))
    with pytest.raises(ValueError, match="not what it was when this run was interrupted") as refused:
        run(cfg)
    assert "--fresh" in str(refused.value)
    assert (tmp_path / "run" / "checkpoint.zarr").exists()
    assert run(cfg, fresh=True).status == "complete"


def test_seconds_of_all_attempts_count(data, tmp_path):
    place = tmp_path / "run"
    cfg = made(data, place)
    with pytest.raises(Interrupted):
        run(cfg, observers=(after_pass(3),))
    assert 0 < manifest(place)["seconds"] < run(cfg).seconds
