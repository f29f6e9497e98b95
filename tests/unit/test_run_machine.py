"""Run, kill, resume, submit twice, damage a checkpoint, in any order: a model says what must be on disk."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from runs import assert_same_bits, blobs, config, manifest, small_blocks, store

from distem import stages
from distem.data.lease import NAME as LEASE
from distem.data.results import status
from distem.errors import AlreadyRunning, Interrupted
from distem.events import PassDone, PhaseStarted, Resumed
from distem.run import run

PASSES = 5
LATE = ("assign", "finalise")


class Runs(RuleBasedStateMachine):
    """One run folder, and what is known of it."""

    data: Path

    @initialize()
    def begin(self):
        self.place = Path(tempfile.mkdtemp(dir=self.data)) / "run"
        self.config = config(
            self.data,
            output__path=str(self.place),
            fit__max_passes=PASSES,
            fit__kernels="reference",
            output__variables=["label"],
        )
        # number and whether it is intact, newest first: as many as are kept
        self.kept: list[list] = []
        self.complete = self.began = False
        self.head = True  # whether it can be read

    @property
    def newest(self):
        return next((number for number, intact in self.kept if intact), 0)

    def went(self, last):
        """Passes up to `last` were kept, from wherever it went on."""
        numbers = range(self.newest + 1, last + 1)
        self.head |= len(numbers) > 0
        self.kept = [*([n, True] for n in reversed(numbers)), *self.kept][:2]

    def attempt(self, stop):
        """Run until `stop`; it goes on where the model says."""
        heard, wanted, was = [], self.newest, self.complete

        def observe(event):
            heard.append(event)
            stop(event)

        try:
            run(self.config, observers=(observe,))
        finally:
            if not was and any(isinstance(e, PhaseStarted) and e.phase == "fit" for e in heard):
                assert [e.passes for e in heard if isinstance(e, Resumed)] == ([wanted] if wanted else [])
                done = [e.pass_ for e in heard if isinstance(e, PassDone)]
                assert done == list(range(wanted + 1, wanted + 1 + len(done)))

    # what can happen

    @precondition(lambda self: not self.complete and self.newest < PASSES)
    @rule(more=st.integers(1, PASSES))
    def interrupt(self, more):
        last = min(self.newest + more, PASSES)

        def stop(event):
            if isinstance(event, PassDone) and event.pass_ == last:
                raise Interrupted("Enough.", "Go on.")

        with pytest.raises(Interrupted):
            self.attempt(stop)
        self.went(last)
        self.began = True
        assert manifest(self.place)["status"] == "interrupted"

    @precondition(lambda self: not self.complete)
    @rule(at=st.one_of(st.integers(1, PASSES), st.sampled_from(LATE)))
    def kill(self, at):
        """As kill -9 leaves it: the folder as it is at that moment, its lease that of a process now dead."""
        if isinstance(at, int):
            at = min(self.newest + at, PASSES)
            if at <= self.newest:
                at = "assign"
        moment = self.place.with_name("moment")

        def stop(event):
            pass_ = isinstance(event, PassDone) and event.pass_ == at
            if pass_ or (isinstance(event, PhaseStarted) and event.phase == at):
                shutil.copytree(self.place, moment)
                raise Interrupted("Killed.", "Go on.")

        with pytest.raises(Interrupted):
            self.attempt(stop)
        shutil.rmtree(self.place)
        moment.rename(self.place)
        lease = json.loads((self.place / LEASE).read_text(encoding="utf-8"))
        (self.place / LEASE).write_text(json.dumps(lease | {"started": "gone"}), encoding="utf-8")
        self.began = True
        if isinstance(at, int):
            self.went(at - 1)
        else:
            self.went(PASSES)
            self.kept = [[PASSES, True], *self.kept][:2]  # the last is kept once more when all are done
        assert manifest(self.place)["status"] == "running"

    @precondition(lambda self: self.head and any(intact for _, intact in self.kept))
    @rule(how=st.sampled_from(["flip", "cut", "gone"]))
    def damage(self, how):
        index = next(i for i, (_, intact) in enumerate(self.kept) if intact)
        head = json.loads((self.place / "checkpoint.zarr" / "head.json").read_text(encoding="utf-8"))
        chunk = self.place / "checkpoint.zarr" / head["kept"]["pass"][index] / "c" / "0"
        held = bytearray(chunk.read_bytes())
        held[len(held) // 2] ^= 1
        if how == "gone":
            chunk.unlink()
        else:
            chunk.write_bytes(held[:-1] if how == "cut" else held)
        self.kept[index][1] = False

    @precondition(lambda self: self.began and not self.complete)
    @rule()
    def damage_the_head(self):
        """What counts is then found in the folder, which holds the same."""
        head = self.place / "checkpoint.zarr" / "head.json"
        if head.exists():
            head.write_bytes(b"{")
            self.head = False

    @precondition(lambda self: not self.complete)
    @rule()
    def submit_twice(self):
        from distem.data.folder import RunFolder

        folder = RunFolder(self.place)
        folder.claim()
        with folder.lock(), pytest.raises(AlreadyRunning, match="is already running, by process"):
            run(self.config)

    def teardown(self):
        """Whatever went before, the same command in the end completes the run, once."""
        if hasattr(self, "place"):
            for _ in range(2):
                self.attempt(lambda event: None)
                self.complete, self.kept = True, []
                self.a_result_is_the_whole_one_or_is_not_called_complete()
            shutil.rmtree(self.place.parent)

    # what must be

    @invariant()
    def a_result_is_the_whole_one_or_is_not_called_complete(self):
        if not hasattr(self, "place") or not self.place.exists():
            return
        if self.complete:
            assert manifest(self.place)["status"] == "complete"
            assert not (self.place / "checkpoint.zarr").exists()
            assert_same_bits(self.place, self.data / "whole")
        elif self.began:
            assert manifest(self.place)["status"] in ("interrupted", "running")
            assert status(str(self.place / "result.zarr")) in (None, "incomplete")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr("os.fsync", lambda _: None)  # none of these kills takes the power away
    store(tmp_path / "data.zarr", blobs(200))
    with small_blocks():
        run(
            config(
                tmp_path,
                output__path="whole",
                fit__max_passes=PASSES,
                fit__kernels="reference",
                output__variables=["label"],
            )
        )
        yield type("Runs", (Runs,), {"data": tmp_path})


def drive(machine, examples, steps):
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=examples < 50,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_in_any_order(machine):
    drive(machine, 3, 5)


@pytest.mark.slow_cluster
def test_in_any_order_at_length(machine):
    drive(machine, 80, 12)
