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
    (folder.path / "result.zarr").mkdir()
    (folder.path / "result.zarr" / "zarr.json").write_text("{}", encoding="utf-8")
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
        with pytest.raises(AlreadyRunning, match=f"process {os.getpid()} on") as refused, folder.lock():
            pass
        assert refused.value.exit_code == 75
    with folder.lock():
        pass
    assert {p.name for p in folder.path.iterdir()} <= {".lock"}


def test_the_next_writer_is_numbered_after_the_last_that_published(folder):
    with folder.lock() as first:
        folder.checkpoints(first.confirm).save("pass-000001", {}, {})
    with folder.lock() as second:
        assert second.token == first.token + 1


@pytest.mark.parametrize("name", ["result.zarr", "checkpoint.zarr", "manifest.json", "report.html"])
def test_parts_of_a_run_folder_are_no_links(folder, tmp_path, name):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").write_text("years", encoding="utf-8")
    (folder.path / name).symlink_to(tmp_path / "precious")
    with pytest.raises(RunFolderError, match="symbolic link"):
        folder.claim()
    folder.clear()
    assert (tmp_path / "precious" / "thesis.tex").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_what_is_no_manifest(folder, text):
    folder.manifest.write_text(text, encoding="utf-8")
    with pytest.raises(RunFolderError, match="is not a manifest"):
        folder.read_manifest()


def test_manifests_are_plain_json(folder):
    folder.write_manifest({"b": 1, "a": 2})
    assert list(json.loads(folder.manifest.read_text(encoding="utf-8"))) == ["a", "b"]
