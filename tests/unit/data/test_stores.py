"""A folder and an object store: the same operations, and the same answers when several ask at once."""

import os
import threading

import pytest

from distem.data.object_store import RemoteStore
from distem.data.stores import LocalStore
from distem.errors import RunFolderError, TooLargeError

memory_store = pytest.importorskip("obstore.store").MemoryStore


@pytest.fixture(params=["folder", "objects"])
def store(request, tmp_path):
    if request.param == "folder":
        return LocalStore(tmp_path / "run")
    return RemoteStore(memory_store(), "memory://run")


def test_what_is_put_is_got(store):
    assert store.get("a/b") is None
    version = store.put("a/b", b"one")
    assert store.get("a/b") == (b"one", version)
    assert store.put("a/b", b"two") != version
    assert store.get("a/b")[0] == b"two"
    assert store.names("a") == ["b"]
    assert store.names("none") == []


def test_create_finds_the_name_free_once(store):
    version = store.create("x", b"mine")
    assert version is not None
    assert store.create("x", b"theirs") is None
    assert store.get("x") == (b"mine", version)


def test_swap_replaces_what_was_seen_and_nothing_else(store):
    first = store.create("x", b"1")
    second = store.swap("x", b"2", first)
    assert second is not None
    assert store.swap("x", b"3", first) is None
    assert store.get("x") == (b"2", second)
    assert store.swap("none", b"1", first) is None


def test_delete_takes_what_is_below(store):
    for name in ("a/b/c", "a/b/d", "a/e"):
        store.put(name, b"x")
    store.delete("a/b")
    assert store.names("a") == ["e"]
    store.delete("a/b")


def test_no_more_is_read_than_was_asked_for(store):
    store.put("x", b"12345")
    assert store.get("x", 5)[0] == b"12345"
    with pytest.raises(TooLargeError, match="5 bytes"):
        store.get("x", 4)


def at_once(count, work):
    """What so many threads come back with, let go together."""
    gate, found = threading.Barrier(count), []

    def run(number):
        gate.wait()
        found.append(work(number))

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_of_many_who_create_one_does(store):
    store.put("other", b"")  # the folder is there
    for name in "abc":
        done = at_once(8, lambda number, name=name: store.create(name, str(number).encode()))
        assert sum(version is not None for version in done) == 1


def test_of_many_who_swap_none_is_lost(store):
    store.put("x", b"0 by nobody")

    def count(number):
        while True:
            value, version = store.get("x")
            if store.swap("x", f"{int(value.split()[0]) + 1} by {number}".encode(), version) is not None:
                return True

    at_once(6, count)
    assert store.get("x")[0].startswith(b"6 ")


# what only a folder has


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "a//b", ".", "a\0b", "a/b\n"])
def test_names_stay_below(tmp_path, name):
    with pytest.raises(RunFolderError):
        LocalStore(tmp_path / "run").put(name, b"x")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_nothing_is_written_through_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunFolderError, match="symbolic link"):
        LocalStore(tmp_path / "run").put("a/x", b"x")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_file_and_folder_are_synced_before_and_after_the_rename(tmp_path, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append(_kind(handle)), fsync(handle)))
    real = type(tmp_path).replace

    def renamed(self, target):
        done.append("rename")
        return real(self, target)

    monkeypatch.setattr(type(tmp_path), "replace", renamed)
    assert replace is os.replace
    LocalStore(tmp_path).put("x", b"1")
    assert done == ["file", "rename", "folder"]


def _kind(handle):
    import stat

    return "folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file"


def test_without_links_a_name_is_still_taken_once(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refused)
    store = LocalStore(tmp_path)
    assert store.create("x", b"1") is not None
    assert store.create("x", b"2") is None
    assert store.get("x")[0] == b"1"


def test_scraps_of_a_killed_write_are_no_names(tmp_path):
    (tmp_path / ".x.0123.partial").write_bytes(b"half")
    assert LocalStore(tmp_path).names("") == []


# what only an object store has


class Forgetful:
    """A store that does what it is asked and loses the acknowledgement, once."""

    def __init__(self, store):
        self.store, self.lost = store, False

    def put(self, name, data, **how):
        done = self.store.put(name, data, **how)
        if how and not self.lost:
            self.lost = True
            self.store.put(name, data, **how)  # the client tries again: refused this time
        return done

    def __getattr__(self, name):
        return getattr(self.store, name)


def test_a_put_whose_acknowledgement_is_lost_is_done():
    store = RemoteStore(Forgetful(memory_store()), "memory://run")
    first = store.create("x", b"mine")
    assert first is not None
    again = RemoteStore(Forgetful(store.store.store), "memory://run")
    assert again.swap("x", b"more", first) is not None
    assert again.create("x", b"theirs") is None
