"""Signals end a run where nothing can be left half done, and nowhere else."""

import os
import signal
import threading

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
