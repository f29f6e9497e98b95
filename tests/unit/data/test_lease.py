"""One writer: who takes a lease, who is refused, who finds out that it is lost."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from distem.data import lease as leases
from distem.data.lease import NAME, Lease
from distem.data.object_store import RemoteStore
from distem.data.stores import LocalStore
from distem.errors import AlreadyRunning

memory_store = pytest.importorskip("obstore.store").MemoryStore


@pytest.fixture(params=["folder", "objects"])
def store(request, tmp_path):
    if request.param == "folder":
        return LocalStore(tmp_path / "run")
    return RemoteStore(memory_store(), "memory://run")


@pytest.fixture
def hosts(monkeypatch):
    """Say which machine this is: what another one wrote can only be watched."""

    def on(name):
        monkeypatch.setattr(leases, "_machine", lambda: name)

    return on


def test_one_holder_at_a_time(store):
    with Lease(store) as first:
        assert first.token == 1
        with pytest.raises(AlreadyRunning) as refused, Lease(store):
            pass
        assert refused.value.exit_code == 75
        assert f"is already running, by process {os.getpid()} on {socket.gethostname()}, since 20" in str(
            refused.value
        )
    with Lease(store) as second:
        assert second.confirm() == second.token


def test_a_token_is_higher_than_what_was_published(store):
    with Lease(store, after=lambda: 7) as held:
        assert held.token == 8


def test_of_eight_at_once_one_holds(store):
    gate, held, refused = threading.Barrier(8), [], []

    def run():
        mine = Lease(store)
        gate.wait()
        try:
            mine.acquire()
            held.append(mine)
        except AlreadyRunning as error:
            refused.append(error)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(held), len(refused)) == (1, 7)
    held[0].release()


def test_a_killed_holder_on_this_machine_holds_no_one_up(tmp_path):
    script = (
        "import pathlib, sys; from distem.data.lease import Lease\n"
        "from distem.data.stores import LocalStore\n"
        "Lease(LocalStore(pathlib.Path(sys.argv[1]))).acquire(); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(AlreadyRunning, match=f"by process {other.pid} on"), Lease(LocalStore(tmp_path)):
            pass
        other.kill()
        # not waited for yet: what remains of a process is no holder either
        deadline = time.monotonic() + 5
        while leases._started(other.pid) is not None:
            assert time.monotonic() < deadline
        with Lease(LocalStore(tmp_path), ttl=3000) as taken:
            assert taken.token == 2


def test_a_number_that_another_process_has_by_now_is_not_the_holder(tmp_path):
    store = LocalStore(tmp_path)
    held = Lease(store)._mine(0)
    store.put(NAME, json.dumps({**json.loads(held.encoded()), "started": "12"}).encode())
    with Lease(store) as taken:
        assert taken.token == 2


def test_a_live_holder_elsewhere_is_seen_by_its_renewals(store, hosts):
    hosts("there")
    with Lease(store, ttl=5.0, beat=0.05):
        hosts("here")
        said, started = [], time.monotonic()
        with pytest.raises(AlreadyRunning), Lease(store, say=said.append):
            pass
        assert time.monotonic() - started < 4.0  # no longer than it took to see one
        assert "still held by process" in said[0]


def test_a_dead_holder_elsewhere_is_succeeded_after_its_time(store, hosts):
    hosts("there")
    dead = Lease(store, ttl=0.6, beat=60.0)
    dead.acquire()
    hosts("here")
    with Lease(store, beat=60.0) as taken:
        assert taken.token == dead.token + 1
        # it was only asleep: nothing it does counts any more
        with pytest.raises(AlreadyRunning, match="it went to process"):
            dead.confirm()
        with pytest.raises(AlreadyRunning):
            dead.check()
        dead.release()
        assert taken.confirm() == taken.token


def test_a_clock_that_is_an_hour_off_changes_nothing(store, hosts, monkeypatch):
    hosts("there")
    with Lease(store, ttl=5.0, beat=0.05):
        hosts("here")
        wrong = time.time() + 3600
        monkeypatch.setattr(time, "time", lambda: wrong)
        with pytest.raises(AlreadyRunning), Lease(store):
            pass


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[1]", b"null", b'{"token": 1}', b"[" * 3000], ids=lambda text: text[:14]
)
def test_what_is_no_lease_is_watched_and_then_replaced(store, text):
    store.put(NAME, text)
    with Lease(store, ttl=0.3) as taken:
        assert taken.token == 1


def test_a_lease_that_was_removed_is_lost(tmp_path):
    store = LocalStore(tmp_path)
    held = Lease(store)
    held.acquire()
    store.delete(NAME)
    with pytest.raises(AlreadyRunning, match="it is gone"):
        held.confirm()
    held.release()


def test_nothing_is_left_in_a_folder(tmp_path):
    with Lease(LocalStore(tmp_path / "run")):
        pass
    assert {p.name for p in (tmp_path / "run").iterdir()} <= {".lock"}


def test_who_takes_the_lease_sweeps_up_after_killed_writers(tmp_path):
    scrap = tmp_path / ".lease.0123abcd.partial"
    scrap.write_bytes(b"half")
    (tmp_path / "mine.partial").write_bytes(b"not a scrap")
    with Lease(LocalStore(tmp_path)) as held:
        assert not scrap.exists()
        scrap.write_bytes(b"somebody at work")
        Lease(LocalStore(tmp_path)).sweep()
        assert scrap.exists()  # the holder lives
        assert held.token == 1
    Lease(LocalStore(tmp_path)).sweep()
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "mine.partial"]


def test_a_write_whose_scrap_was_swept_away_is_not_done(tmp_path, monkeypatch):
    store = LocalStore(tmp_path)

    def swept(beside, path):
        beside.unlink()
        raise FileNotFoundError(beside)

    monkeypatch.setattr("os.link", swept)
    assert store.create("x", b"1") is None
