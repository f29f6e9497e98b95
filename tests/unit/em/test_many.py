"""Many fits in one sweep: the bits of separate runs, and what happens to the hopeless."""

from __future__ import annotations

import numpy as np
import pytest
from blocks import bits, blocks_of, ready
from runs import FEATURES, blobs, small_blocks, store
from strategies import random_params

from distem.data.open import open_source
from distem.data.transform import Transform
from distem.em.checkpoint import dump, restore
from distem.em.dropping import Hopeless
from distem.em.loop import Climb, climb
from distem.em.stopping import Reason, TracePoint
from distem.events import CandidateBack, CandidateDropped
from distem.execution.serial import SerialExecutor
from distem.execution.threads import ThreadsExecutor
from distem.models.gaussian import Gaussian
from distem.models.mixture import Mixture


@pytest.mark.parametrize("executor", [SerialExecutor, lambda: ThreadsExecutor(2)], ids=["serial", "threads"])
@pytest.mark.parametrize("acceleration", [None, "anderson"])
def test_eight_restarts_on_streamed_data_have_the_bits_of_eight_runs(tmp_path, executor, acceleration):
    path, model = store(tmp_path / "x.zarr", blobs()), Mixture(Gaussian())
    rng = np.random.default_rng(0)
    starts = [random_params(model, 3, 3, rng) for _ in range(8)]

    def fitted(begun):
        fits = [ready(model, p, passes=9, acceleration=acceleration, name=str(i)) for i, p in begun]
        with executor() as run, run.open(source.blocks(Transform()), resident=False) as opened:
            climb(fits, opened)
        return [(bits(model, f.fit.params), f.fit.trace) for f in fits]

    with small_blocks():
        source = open_source("zarr", str(path), list(FEATURES))
        assert len(source.blocks(Transform())) >= 4
        together = fitted(enumerate(starts))
        alone = [fitted([(i, p)])[0] for i, p in enumerate(starts)]
    assert together == alone


class Known:
    """Statistics of which only the likelihood is asked."""

    total = 1000.0

    def __init__(self, value: float) -> None:
        self.mean_log_likelihood = value


class Priced:
    """A model of which only the number of parameters is asked."""

    def n_parameters(self, params: int) -> int:
        return params


def at(name: str, end: float, left: float, *, passes=30, rate=0.5, parameters=5, reason=None) -> Climb:
    """A fit whose steps shrink by `rate`, with `left` to gain before it comes to `end`."""
    values = [end - left / rate**back for back in range(passes)][::-1]
    fit = Climb(name, Priced(), parameters, None, None, family=name.rpartition("-")[0], reason=reason)
    fit.trace = [TracePoint(v) for v in values]
    fit.best = (parameters, Known(values[-1]))
    return fit


RULE = Hopeless("bic")


def test_a_restart_far_behind_is_dropped_and_the_sentence_has_the_numbers():
    found = RULE([at("3-full-1", -1.0, 1e-4), at("3-full-2", -2.0, 1e-4)])
    assert list(found) == ["3-full-2"]
    assert found["3-full-2"].dropped
    assert not found["3-full-2"].converged
    assert "after 30 passes: 1 per row behind 3-full-1" in found["3-full-2"].sentence


def test_ten_times_the_largest_estimate_of_the_last_passes_is_given():
    lead = at("3-full-1", -1.0, 1e-9)
    late = at("3-full-2", -1.1, 1e-4)  # the fifth estimate back is 16e-4: ten of these are 0.016
    assert list(RULE([lead, late])) == ["3-full-2"]
    assert not RULE([lead, at("3-full-2", -1.01, 1e-4)])


@pytest.mark.parametrize("passes", [19, 20])
def test_every_fit_gets_its_least_passes(passes):
    found = RULE([at("3-full-1", -1.0, 1e-4), at("3-full-2", -2.0, 1e-4, passes=passes)])
    assert bool(found) == (passes >= RULE.least)


@pytest.mark.parametrize("last", [0.3, -0.3], ids=["a plateau is left", "a repair"])
def test_an_estimate_that_is_not_settled_keeps_a_fit(last):
    late = at("3-full-2", -2.0, 1e-4)
    late.trace[-1] = TracePoint(late.trace[-2].log_likelihood + last, fresh=last < 0)
    assert not RULE([at("3-full-1", -1.0, 1e-4), late])


def test_a_fit_that_shoots_up_is_ahead_of_nobody():
    shooting = at("3-full-1", 5.0, 1e-4)
    shooting.trace[-1] = TracePoint(9.0)
    shooting.best = (5, Known(9.0))
    assert not RULE([shooting, at("3-full-2", -2.0, 1e-4)])


def test_candidates_compare_by_their_criterion_and_by_icl_not_at_all():
    few, many = at("2-full-1", -1.0, 1e-6, parameters=5), at("9-full-1", -0.9, 1e-6, parameters=60)
    assert list(Hopeless("bic")([few, many])) == ["9-full-1"]  # 60 cost 0.21, 5 cost 0.02
    assert list(Hopeless("aic")([few, many])) == ["2-full-1"]  # 60 cost 0.06
    assert not Hopeless("icl")([few, many])
    assert not Hopeless()([few, many])


def test_what_has_ended_by_itself_is_never_dropped():
    done = at("3-full-2", -2.0, 1e-4, reason=Reason(True, "Converged."))
    assert not RULE([at("3-full-1", -1.0, 1e-4), done])


def slow(n=600):
    rng = np.random.default_rng(4)
    x = np.concatenate([rng.normal(size=(n // 2, 2)), rng.normal(size=(n // 2, 2)) + np.array([6.0, 0.0])])
    return np.concatenate([x, rng.normal(size=(n // 2, 2)) + np.array([0.0, 6.0])])


def sweep():
    model, rng = Mixture(Gaussian()), np.random.default_rng(1)
    fits = []
    for k in (1, 2, 3, 4):
        for restart in range(3):
            name = f"{k}-full-{restart}"
            fits.append(ready(model, random_params(model, k, 2, rng), passes=120, tol=1e-10, name=name))
            fits[-1].family = name.rpartition("-")[0]
    return fits


def finished(**how):
    fits, seen = sweep(), []
    with SerialExecutor().open(blocks_of(slow(), (400, 0, 500)), resident=True) as opened:
        climb(fits, opened, observe=seen.append, **how)
    return fits, seen


def test_a_sweep_that_drops_has_the_bits_of_one_that_does_not_in_all_that_stay():
    rule = Hopeless("bic", least=8)
    (dropping, seen), (whole, _) = finished(drop=rule), finished()
    gone = {e.candidate for e in seen if isinstance(e, CandidateDropped)}
    assert gone == {c.name for c in dropping if c.reason.dropped}
    assert 0 < len(gone) < len(whole)
    assert not any(isinstance(e, CandidateBack) for e in seen)
    for one, two in zip(dropping, whole, strict=True):
        if one.name in gone:
            assert list(two.trace[: len(one.trace)]) == one.trace
        else:
            assert bits(one.model, one.fit.params) == bits(two.model, two.fit.params)


def test_one_that_was_dropped_goes_on_when_the_one_ahead_falls():
    fits, _ = finished(drop=Hopeless("bic", least=8))
    gone = next(c for c in fits if c.reason.dropped)
    passes, seen = len(gone.trace), []
    for c in fits:  # nobody is ahead any more
        if c is not gone:
            c.best = (c.best[0], Known(-1e6))
    other = sweep()[0]
    other.name = "other"
    with SerialExecutor().open(blocks_of(slow(), (400, 0, 500)), resident=True) as opened:
        climb([*fits, other], opened, observe=seen.append, drop=Hopeless("bic", least=8))
    assert [e.candidate for e in seen if isinstance(e, CandidateBack)][:1] == [gone.name]
    assert len(gone.trace) > passes
    assert not gone.reason.dropped


def test_a_checkpoint_of_a_sweep_that_drops_resumes_with_the_same_bits():
    rule, kept = Hopeless("bic", least=8), []
    fits = sweep()
    with SerialExecutor().open(blocks_of(slow(), (400, 0, 500)), resident=True) as opened:
        climb(fits, opened, drop=rule, after_pass=lambda: kept.append(dump(fits)))
        dropped = [any(f["reason"] and f["reason"]["dropped"] for f in info["climbs"]) for _, info in kept]
        assert True in dropped[:-1]
        for number in {0, dropped.index(True), len(kept) - 2}:
            again = sweep()
            restore(again, *kept[number])
            climb(again, opened, drop=rule)
            assert [bits(c.model, c.fit.params) for c in again] == [bits(c.model, c.fit.params) for c in fits]
            assert [c.reason for c in again] == [c.reason for c in fits]
