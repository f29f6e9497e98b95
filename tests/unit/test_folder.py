"""Run folders: who may write, what is cleared, files that are whole or not there."""

import json
import os

import pytest

from distem.data.folder import RunFolder, write_atomically
from distem.errors import AlreadyRunning, RunFolderError


@pytest.fixture
def folder(tmp_path):
    made = RunFolder(tmp_path / "deep" / "run")
    made.claim()
    return made


def test_claim_makes_parents_and_may_be_repeated(folder):
    assert folder.path.is_dir()
    folder.claim()


def test_a_manifest_is_read_as_it_was_written(folder):
    assert folder.read_manifest() is None
    folder.write_manifest({"a": 1.5, "b": ["ü"]})
    assert folder.read_manifest() == {"a": 1.5, "b": ["ü"]}


def test_what_json_cannot_say_is_not_written(folder):
    folder.write_manifest({"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        folder.write_manifest({"a": float("nan")})
    assert folder.read_manifest() == {"a": 1}


def test_a_failed_write_leaves_the_old_text_and_no_scraps(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, "old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text(encoding="utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_clear_removes_what_a_run_wrote_and_nothing_else(folder):
    folder.write_manifest({})
    folder.result.mkdir()
    (folder.result / "zarr.json").write_text("{}", encoding="utf-8")
    (folder.path / "notes.txt").write_text("mine", encoding="utf-8")
    folder.clear()
    assert [p.name for p in folder.path.iterdir()] == ["notes.txt"]


def test_a_folder_without_a_manifest_must_be_empty(folder):
    (folder.path / ".result.zarr.partial").mkdir()
    folder.claim()
    (folder.path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"notes\.txt"):
        folder.claim()


def test_one_writer_at_a_time(folder):
    with folder.lock():
        assert str(os.getpid()) in (folder.path / ".writer").read_text(encoding="utf-8")
        with pytest.raises(AlreadyRunning, match=f"process {os.getpid()} on") as refused, folder.lock():
            pass
        assert refused.value.exit_code == 75
    assert not (folder.path / ".writer").exists()
    with folder.lock():
        pass


def test_a_lock_that_was_left_behind_holds_no_one_up(folder):
    (folder.path / ".lock").touch()
    (folder.path / ".writer").write_text("process 1 on nowhere", encoding="utf-8")
    with folder.lock():
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_what_is_no_manifest(folder, text):
    folder.manifest.write_text(text, encoding="utf-8")
    with pytest.raises(RunFolderError, match="is not a manifest"):
        folder.read_manifest()


def test_manifests_are_plain_json(folder):
    folder.write_manifest({"b": 1, "a": 2})
    assert list(json.loads(folder.manifest.read_text(encoding="utf-8"))) == ["a", "b"]
