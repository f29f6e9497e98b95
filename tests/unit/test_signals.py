"""Signals end a run where nothing can be left half done, and nowhere else."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time

import pytest

from distem.errors import Interrupted
from distem.signals import Interrupts


def receive(number):
    os.kill(os.getpid(), number)
    threading.Event().wait(5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_inside_at_once(number):
    with Interrupts() as interrupts, pytest.raises(Interrupted, match=number.name), interrupts.here():
        receive(number)


def test_outside_at_the_next_place():
    with Interrupts() as interrupts:
        with interrupts.here():
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        done = True
        with pytest.raises(Interrupted), interrupts.here():
            done = False
        assert done


def test_what_compiled_code_makes_of_it_is_an_interruption():
    def compiled():
        try:
            receive(signal.SIGTERM)
        except Interrupted as error:
            raise SystemError("returned a result with an exception set") from error

    with Interrupts() as interrupts, pytest.raises(Interrupted) as ended, interrupts.here():
        compiled()
    assert isinstance(ended.value.__cause__, SystemError)


def test_other_errors_stay_what_they_are():
    with Interrupts() as interrupts, pytest.raises(KeyError), interrupts.here():
        raise KeyError("mine")


@pytest.fixture
def left():
    """Told when the process would have ended, and with what."""
    return queue.Queue()


def test_a_second_signal_ends_the_process_at_once(left, capfd):
    with Interrupts(grace=60.0, leave=left.put):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert left.get(timeout=5) == 75
    assert "ended at once by a second signal; the last checkpoint stands" in capfd.readouterr().err


def test_what_cannot_be_interrupted_has_its_grace_and_no_more(left, capfd):
    said = []
    with Interrupts(grace=0.2, leave=left.put) as interrupts:
        interrupts.last_words = lambda: said.append("so far")
        started = time.monotonic()
        os.kill(os.getpid(), signal.SIGTERM)
        assert left.get(timeout=5) == 75
        assert time.monotonic() - started >= 0.2
    assert said == ["so far"]
    assert "after 0.2 s of grace (cluster.grace)" in capfd.readouterr().err


def test_last_words_that_hang_hold_nothing_up(left, monkeypatch):
    monkeypatch.setattr("distem.signals.LAST_WORDS", 0.1)
    with Interrupts(grace=0.1, leave=left.put) as interrupts:
        interrupts.last_words = lambda: threading.Event().wait(10)
        os.kill(os.getpid(), signal.SIGTERM)
        assert left.get(timeout=5) == 75


def test_who_ends_in_time_is_left_alone(left):
    with Interrupts(grace=0.3, leave=left.put):
        os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(queue.Empty):
        left.get(timeout=0.6)


def test_the_grace_time_runs_while_the_main_thread_is_in_c():
    """As it is in a compiler: the handler itself is not called before that returns."""
    script = (
        "import ctypes, os, signal, threading, time\n"
        "from distem.signals import Interrupts\n"
        "with Interrupts(grace=0.3):\n"
        "    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()\n"
        "    libc = ctypes.CDLL(None)\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, ()); start = time.monotonic()\n"
        "    while time.monotonic() - start < 30: libc.sleep(30)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 75, ended.stderr
    assert "0.3 s of grace" in ended.stderr


def test_handlers_are_given_back():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with Interrupts():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_another_thread_takes_no_handlers():
    seen = []

    def work():
        with Interrupts() as interrupts, interrupts.here():
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
