"""What everything that the engine fits keeps to, through the engine itself: see `kinds.py` for the table."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from blocks import ArrayBlock, bits
from hypothesis import given
from hypothesis import strategies as st
from kinds import KINDS
from strategies import chunkings, examples

from distem.em.acceleration import accelerator
from distem.em.checkpoint import dump, restore
from distem.em.loop import Climb, climb
from distem.em.repair import Repair
from distem.em.stopping import FirstOf, MaxPasses
from distem.execution.serial import SerialExecutor
from distem.execution.threads import ThreadsExecutor
from distem.types import Rows

every = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def cut(rows: Rows, sizes) -> list[ArrayBlock]:
    """Rows in blocks of the given sizes, with all that belongs to them."""
    parts = [slice(a, b) for a, b in pairwise(np.concatenate([[0], np.cumsum(sizes)]))]
    names = [n for n in ("values", "weights", "begins") if getattr(rows, n) is not None]
    return [
        ArrayBlock(i, replace(rows, **{name: getattr(rows, name)[part] for name in names}))
        for i, part in enumerate(parts)
    ]


def ready(kind, start, rows, *, passes=6, acceleration=None, name="fit") -> Climb:
    repair = Repair(rows.values[:50], 0, 9)
    return Climb(name, kind.model, start, FirstOf((MaxPasses(passes),)), repair, accelerator(acceleration))


def climbed(kind, start, rows, sizes=None, *, executor=None, partitions=None, **how) -> Climb:
    fit = ready(kind, start, rows, **how)
    blocks = cut(rows, [rows.n] if sizes is None else sizes)
    with (executor or SerialExecutor()).open(blocks, resident=True, partitions=partitions) as opened:
        climb([fit], opened)
    return fit


def arrays(kind, params) -> dict[str, np.ndarray]:
    named = kind.model.arrays(params)
    return {name: value for name, value in named.items() if not kind.exact or name in kind.exact}


def assert_alike(kind, one, two, rtol=1e-10) -> None:
    for name, value in arrays(kind, one).items():
        scale = max(np.abs(value).max(), 1.0)
        np.testing.assert_allclose(arrays(kind, two)[name], value, rtol=rtol, atol=rtol * scale, err_msg=name)


@every
def test_the_likelihood_never_falls(kind):
    fit = climbed(kind, kind.near, kind.draw(500, np.random.default_rng(0)), passes=25)
    values = np.array([point.log_likelihood for point in fit.trace])
    assert (np.diff(values) >= -1e-11 * np.maximum(1.0, np.abs(values[1:]))).all()
    assert values[-1] > values[0]


@every
def test_the_chunks_have_no_say(kind):
    rows = kind.draw(120, np.random.default_rng(1))
    whole = climbed(kind, kind.near, rows)

    @examples(8)
    @given(chunkings(rows.n))
    def check(sizes):
        fit = climbed(kind, kind.near, rows, sizes)
        assert_alike(kind, whole.params, fit.params)
        for one, two in zip(whole.trace, fit.trace, strict=True):
            assert two.log_likelihood == pytest.approx(one.log_likelihood, rel=1e-10, abs=1e-10)

    check()


@every
def test_partitions_and_threads_give_the_same_bits(kind):
    """Merging is associative along the tree: whoever adds which part of it."""
    rows = kind.draw(400, np.random.default_rng(2))
    sizes = [50, 1, 99, 0, 150, 100]
    one = climbed(kind, kind.near, rows, sizes, partitions=1)
    for count in (2, 3, 6):
        with ThreadsExecutor(2) as threads:
            other = climbed(kind, kind.near, rows, sizes, executor=threads, partitions=count)
        assert bits(kind.model, other.params) == bits(kind.model, one.params)
        assert other.trace == one.trace


@every
@examples(5)
@given(seed=st.integers(0, 1000))
def test_relabelling_the_start_relabels_the_fit(kind, seed):
    rows = kind.draw(300, np.random.default_rng(3))
    order = np.random.default_rng(seed).permutation(kind.right.k)
    fit = climbed(kind, kind.near, rows)
    turned = climbed(kind, kind.relabelled(kind.near, order), rows)
    assert_alike(kind, kind.relabelled(fit.params, order), turned.params)


@every
def test_models_and_parameters_pickle_with_the_same_bits(kind):
    rows = kind.draw(100, np.random.default_rng(4))
    model, params = pickle.loads(pickle.dumps((kind.model, kind.near)))
    assert bits(model, params) == bits(kind.model, kind.near)
    again = climbed(replace(kind, model=model), params, rows)
    assert bits(model, again.params) == bits(kind.model, climbed(kind, kind.near, rows).params)
    stats = pickle.loads(pickle.dumps(again.fit.stats))
    stored = kind.model.stats_type.from_arrays(stats.to_arrays())
    for name, value in again.fit.stats.to_arrays().items():
        assert np.asarray(stored.to_arrays()[name]).tobytes() == np.asarray(value).tobytes(), name


@every
def test_it_finds_what_its_own_rows_were_drawn_from(kind):
    rows = kind.draw(6000, np.random.default_rng(5))
    fit = climbed(kind, kind.near, rows, (1000, 2500, 2500), passes=25)
    found = arrays(kind, fit.params)
    for name, value in arrays(kind, kind.right).items():
        np.testing.assert_allclose(found[name], value, atol=kind.close, err_msg=name)


@every
@pytest.mark.parametrize("acceleration", [None, "anderson"])
def test_a_checkpoint_after_any_pass_goes_on_with_the_same_bits(kind, acceleration):
    rows = kind.draw(300, np.random.default_rng(6))
    blocks = cut(rows, (120, 0, 1, 179))

    def fresh() -> list[Climb]:
        return [
            ready(kind, kind.near, rows, acceleration=acceleration, name="a"),
            ready(kind, kind.right, rows, passes=4, acceleration=acceleration, name="b"),
        ]

    def outcome(climbs):
        return [(bits(kind.model, c.fit.params), c.trace, c.reason) for c in climbs]

    whole, kept = fresh(), []

    def keep() -> None:
        named, info = dump(whole)
        kept.append(({name: np.array(value) for name, value in named.items()}, json.dumps(info)))

    with SerialExecutor().open(blocks, resident=True) as opened:
        climb(whole, opened, after_pass=keep)
        for named, info in kept:
            again = fresh()
            restore(again, named, json.loads(info))
            climb(again, opened)
            assert outcome(again) == outcome(whole)
