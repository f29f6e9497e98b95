"""Processes that begin at once: forked from one that has imported everything and compiled nothing anew.

A process of the command line takes seconds of CPU until it does anything, and so does each worker that it
starts; a night of faults is made of hundreds. Each of these is a process of its own all the same: it has its
pid, its files, its threads and its connections for itself, is killed like any other, and leaves behind what
any other would. It is asked for like `subprocess.Popen`, as far as tests need that.
"""

from __future__ import annotations

import ctypes
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

import dask
import psutil

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["loaded"])
_RUNNING: list[Warm] = []


def die_with_parent() -> None:
    """Before the program of a child starts: it shall be killed when its parent ends, however that ends."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _work(
    module: str, arguments: Sequence[str], env: dict[str, str], cwd: str, net: str, out: str, err: str
) -> None:
    """Be `python -m MODULE ARGUMENTS`."""
    die_with_parent()
    if net:
        _enter(net)
    for number, path in [(1, out), (2, err)]:
        held = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(held, number)
        os.close(held)
    os.environ.clear()
    os.environ.update(env)
    dask.config.update(dask.config.config, dask.config.collect_env(env))
    os.chdir(cwd)
    sys.argv = [module, *arguments]
    importlib.import_module(module).main(args=list(arguments))


def _enter(net: str) -> None:
    """Be on the network of a namespace; for root, before there are threads."""
    clone_newnet, libc = 0x40000000, ctypes.CDLL(None, use_errno=True)
    held = os.open(f"/run/netns/{net}", os.O_RDONLY)
    if libc.setns(held, clone_newnet):
        raise OSError(ctypes.get_errno(), "setns")
    os.close(held)


class Warm:
    """A command as a process of its own.

    Parameters
    ----------
    module : str
        With a click command `main`.
    arguments : object
        Of the command.
    cwd : Path, optional
        Where it runs.
    env : mapping, optional
        Its environment: what modules read of it as they are loaded is not read anew, but what Dask does.
    net : str
        The network namespace it is in, by name; empty for this one's.
    """

    def __init__(
        self,
        module: str,
        *arguments: object,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        net: str = "",
    ) -> None:
        # what it has loaded lies beside this file, where a Python that is started does not look
        with mock.patch.dict(os.environ, PYTHONPATH=str(Path(__file__).parent)):
            forkserver.ensure_running()
        self._said = Path(tempfile.mkdtemp(prefix="warm-"))
        self.args = [module, *map(str, arguments)]
        out, err = (str(self._said / name) for name in ("out", "err"))
        words = (module, self.args[1:], dict(env or os.environ), str(cwd or Path.cwd()), net, out, err)
        self._process = _CONTEXT.Process(target=_work, args=words)
        self._process.start()
        _RUNNING.append(self)

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """As of a `Popen`."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""
        self._process.join(timeout)
        if (code := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Nothing happens to one that is over."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """As `kill -9`."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """As `kill`."""
        self.send_signal(signal.SIGTERM)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; what it said."""
        self.wait(timeout)
        found = [self._said / name for name in ("out", "err")]
        out, err = (path.read_text(encoding="utf-8") if path.exists() else "" for path in found)
        return out, err

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, *exc: object) -> None:
        self.wait()


def forked() -> list[psutil.Process]:
    """All that are forked so, those that a process of the command line started with them."""
    number = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    return psutil.Process(number).children() if number else []


def none_is_left() -> None:
    """End what tests that failed have left running."""
    for process in _RUNNING:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
    _RUNNING.clear()
