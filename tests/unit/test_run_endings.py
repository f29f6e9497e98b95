"""The last moments of a run: a complete one stays so, another can be gone on with."""

import dataclasses
import errno
import json
import os
import signal
import time

import pytest
from runs import assert_same_bits, blobs, config, manifest, small_blocks, store

import distem.data.results as results
from distem import stages
from distem.data.folder import RunFolder
from distem.data.lease import NAME, Lease
from distem.data.stores import LocalStore
from distem.errors import AlreadyRunning, Interrupted, RunFolderError
from distem.events import Ended, PassDone
from distem.run import run
from distem.signals import Interrupts


@pytest.fixture(autouse=True)
def _every_pass_is_kept(monkeypatch):
    monkeypatch.setattr(stages, "CHECKPOINT_SECONDS", 0.0)


@pytest.fixture
def data(tmp_path):
    store(tmp_path / "data.zarr", blobs())
    with small_blocks():
        yield tmp_path


def made(data, name, **changes):
    return config(
        data, output__path=str(data / name), **{"output__report": False, "fit__max_passes": 5} | changes
    )


def test_a_signal_that_comes_when_all_is_written_takes_nothing_back(data, monkeypatch):
    left = []
    monkeypatch.setattr("distem.run.Interrupts", lambda grace, redact: Interrupts(0.05, left.append, redact))

    def observe(event):
        if isinstance(event, Ended):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)

    run(made(data, "run"), observers=(observe,))
    assert left == [75]  # where the process would have ended
    assert manifest(data / "run")["status"] == "complete"
    assert not (data / "run" / "checkpoint.zarr").exists()


def test_a_disk_that_is_full_under_the_last_manifest_can_be_gone_on_with(data, monkeypatch):
    write, full = RunFolder.write_manifest, [True]

    def written(folder, content):
        if content["status"] == "complete" and full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(folder, content)

    monkeypatch.setattr(RunFolder, "write_manifest", written)
    with pytest.raises(Interrupted, match="full"):
        run(made(data, "run"))
    assert manifest(data / "run")["status"] == "interrupted"
    assert (data / "run" / "checkpoint.zarr").exists()
    full.clear()
    run(made(data, "run"))
    run(made(data, "whole"))
    assert_same_bits(data / "run", data / "whole")


def test_who_was_overtaken_writes_nothing_any_more(data):
    """Another process took the lease of one that slept, and is done by the time it wakes."""
    theirs = {"status": "complete", "theirs": True}
    folder = data / "run"

    def overtake(event):
        if isinstance(event, PassDone) and event.pass_ == 3:
            held = Lease(LocalStore(folder))
            text = json.loads((folder / NAME).read_text())
            mine = dataclasses.replace(held._mine(text["token"]), machine="another", holder="other")
            (folder / NAME).write_bytes(mine.encoded())
            (folder / "manifest.json").write_text(json.dumps(theirs))

    with pytest.raises(AlreadyRunning):
        run(made(data, "run"), observers=(overtake,))
    assert manifest(folder) == theirs


def test_a_complete_run_of_other_data_is_no_result_of_this(data):
    run(made(data, "run"))
    assert run(made(data, "run")).status == "complete"
    before = manifest(data / "run")
    store(data / "data.zarr", blobs(seed=4))
    with pytest.raises(RunFolderError, match="changed since"):
        run(made(data, "run"))
    assert manifest(data / "run") == before
    run(made(data, "run"), fresh=True)
    assert manifest(data / "run")["data"]["fingerprint"] != before["data"]["fingerprint"]


def test_data_that_is_gone_takes_nothing_from_a_complete_run(data):
    run(made(data, "run"))
    (data / "data.zarr").rename(data / "moved.zarr")
    assert run(made(data, "run")).status == "complete"


def test_the_mark_of_a_complete_result_is_on_the_disk_too(data, monkeypatch):
    done, sync, consolidate = [], results._sync, results._consolidate
    monkeypatch.setattr(results, "_sync", lambda path: (done.append("sync"), sync(path)))
    monkeypatch.setattr(results, "_consolidate", lambda *a: (done.append("mark"), consolidate(*a)))
    run(made(data, "run"))
    assert done[-3:] == ["sync", "mark", "sync"]
