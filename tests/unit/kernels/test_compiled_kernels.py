"""The compiled kernels against the reference, and what they promise beyond it."""

import math
from concurrent.futures import ThreadPoolExecutor

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distem.kernels import compiled, reference

KINDS = compiled.KINDS
FLOATS = (np.float64, np.float32)
TOLERANCE = {np.float64: 1e-12, np.float32: 3e-5}
NOTHING = {1e-12: 1e-280, 3e-5: 1e-30}
"""Where the kernels' exponential ends: far below what another component has of the same row."""


@pytest.fixture(scope="module", autouse=True)
def _warm():
    for kind in KINDS:
        for dtype in FLOATS:
            compiled.warm(kind, dtype)


class Case:
    """Rows and well conditioned parameters of one kind."""

    def __init__(self, kind, n, d, k, dtype=np.float64, weighted=True, seed=0, spread=1.0):
        rng = np.random.default_rng(seed)
        self.kind, self.n, self.d, self.k, self.dtype = kind, n, d, k, dtype
        self.means = rng.normal(size=(k, d)) * 2
        self.x = (self.means[rng.integers(k, size=n)] + rng.normal(size=(n, d)) * spread).astype(dtype)
        self.weights = rng.random(n) * (rng.random(n) < 0.9) if weighted else None
        self.log_weights = np.log(rng.dirichlet(np.full(k, 5.0)))
        upper = np.triu(rng.uniform(-1, 1, (k, d, d)), 1) * 0.3 / d
        upper += np.eye(d) * rng.choice([-1, 1], (k, 1, d)) * rng.uniform(0.5, 1.5, (k, 1, d))
        self.factor = {
            "full": upper,
            "tied": upper[0],
            "diag": rng.uniform(0.5, 1.5, (k, d)),
            "spherical": rng.uniform(0.5, 1.5, k),
        }[kind]
        self.resp = rng.dirichlet(np.ones(k), n) * (1.0 if self.weights is None else self.weights[:, None])

    def density(self, kernels=compiled):
        return getattr(kernels, f"log_density_{self.kind}")(self.x, self.means, self.factor)

    def moments(self, kernels=compiled, resp=None):
        resp = self.resp if resp is None else resp
        return getattr(kernels, f"moments_{self.kind}")(self.x, resp, self.means)

    def e_step(self, kernels=compiled):
        e_step = getattr(kernels, f"e_step_{self.kind}")
        return e_step(self.x, self.weights, self.log_weights, self.means, self.factor)

    def sizes(self, resp):
        """Return the sums of the absolute terms of the moments."""
        z = np.abs(self.x[:, None, :] - self.means)
        mass, first = resp.sum(axis=0), np.einsum("nk,nkd->kd", resp, z)
        second = {
            "full": lambda: np.einsum("nk,nki,nkj->kij", resp, z, z),
            "tied": lambda: np.einsum("nk,nki,nkj->ij", resp, z, z),
            "diag": lambda: np.einsum("nk,nki->ki", resp, z**2),
            "spherical": lambda: np.einsum("nk,nki->k", resp, z**2),
        }[self.kind]()
        return mass, first, second


def assert_within(found, expected, sizes, tolerance):
    for part, truth, size in zip(found, expected, sizes, strict=True):
        assert part.dtype == np.float64
        assert part.shape == truth.shape
        assert np.all(np.abs(part - truth) <= tolerance * size + NOTHING.get(tolerance, 1e-290))


@st.composite
def cases(draw):
    # the shapes cross every edge: of a panel (32 or 64 rows), a tile, a block of four features
    return Case(
        draw(st.sampled_from(KINDS)),
        draw(st.integers(0, 70) | st.sampled_from([128, 255, 256, 257, 600])),
        draw(st.integers(1, 9) | st.sampled_from([16, 17, 33])),
        draw(st.integers(1, 9) | st.just(40)),
        draw(st.sampled_from(FLOATS)),
        draw(st.booleans()),
        draw(st.integers(0, 2**32 - 1)),
    )


@settings(max_examples=150, deadline=None)
@given(cases())
def test_log_density_is_the_references(case):
    found, truth = case.density(), case.density(reference)
    assert_within([found], [truth], [1 + np.abs(truth)], TOLERANCE[case.dtype])


@settings(max_examples=150, deadline=None)
@given(cases())
def test_moments_are_the_references(case):
    expected = case.moments(reference)
    assert_within(case.moments(), expected, case.sizes(case.resp), TOLERANCE[case.dtype])


@settings(max_examples=200, deadline=None)
@given(cases())
def test_e_step_is_the_references(case):
    likelihood, *found = case.e_step()
    expected, *sums = case.e_step(reference)
    log_norm, resp = reference.normalise(case.log_weights + case.density(reference))
    weights = np.ones(case.n) if case.weights is None else case.weights
    assert isinstance(likelihood, float)
    assert abs(likelihood - expected) <= TOLERANCE[case.dtype] * (weights @ np.abs(log_norm))
    assert_within(found, sums, case.sizes(resp * weights[:, None]), TOLERANCE[case.dtype])


@settings(max_examples=60, deadline=None)
@given(cases())
def test_e_step_is_its_parts_composed(case):
    likelihood, *found = case.e_step()
    log_norm, resp = compiled.normalise(case.log_weights + case.density())
    weights = np.ones(case.n) if case.weights is None else case.weights
    assert abs(likelihood - weights @ log_norm) <= TOLERANCE[case.dtype] * (weights @ np.abs(log_norm))
    resp = resp * weights[:, None]
    assert_within(found, case.moments(resp=resp), case.sizes(resp), TOLERANCE[case.dtype])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 300), st.integers(1, 40), st.floats(0.1, 1e4), st.integers(0, 2**32 - 1))
def test_normalise_is_the_references(n, k, scale, seed):
    joint = np.random.default_rng(seed).normal(size=(n, k)) * scale
    log_norm, resp = compiled.normalise(joint)
    expected, shares = reference.normalise(joint)
    # the exponential doubles what rounding the argument leaves
    assert_within([log_norm, resp], [expected, shares], [1 + np.abs(expected), shares + 1e-285], 1e-13)


@settings(max_examples=60, deadline=None)
@given(cases())
def test_nearest_is_the_references(case):
    label, square = compiled.nearest(case.x, case.means)
    expected, squares = reference.nearest(case.x, case.means)
    assert label.dtype == np.int64
    assert np.allclose(square, squares, rtol=TOLERANCE[case.dtype], atol=0)
    z = case.x - case.means[label]
    assert np.allclose((z**2).sum(axis=1), square, rtol=TOLERANCE[case.dtype], atol=0)
    if case.dtype == np.float64:
        assert np.array_equal(label, expected)


@pytest.mark.parametrize("dtype", FLOATS)
def test_nearest_takes_the_lower_index_of_equals(dtype):
    x, centres = np.array([[1.0], [3.0]], dtype), np.array([[0.0], [2.0], [2.0]])
    label, square = compiled.nearest(x, centres)
    assert np.array_equal(label, [0, 1])
    assert np.array_equal(square, [1.0, 1.0])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", KINDS)
def test_second_moments_are_exactly_symmetric(kind, dtype):
    for second in (Case(kind, 300, 7, 3, dtype).e_step()[3], Case(kind, 300, 7, 3, dtype).moments()[2]):
        if kind in ("full", "tied"):
            assert np.array_equal(second, np.swapaxes(second, -1, -2))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", KINDS)
def test_two_equal_components_share_exactly(kind, dtype):
    case = Case(kind, 100, 3, 2, dtype, weighted=False)
    case.means[1] = case.means[0]
    if kind != "tied":
        case.factor[1] = case.factor[0]
    case.log_weights[:] = math.log(0.5)
    _, mass, first, second = case.e_step()
    assert np.array_equal(mass, [50.0, 50.0])
    assert np.array_equal(first[0], first[1])
    if kind != "tied":
        assert np.array_equal(second[0], second[1])
    _, resp = compiled.normalise(case.log_weights + case.density())
    assert np.all(resp == 0.5)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_component_without_weight_gets_exactly_nothing(kind, dtype):
    case = Case(kind, 100, 3, 3, dtype)
    case.log_weights[1] = -np.inf
    likelihood, mass, first, second = case.e_step()
    assert mass[1] == 0
    assert np.all(first[1] == 0)
    if kind != "tied":
        assert np.all(second[1] == 0)
    keep = [0, 2]
    case.means, case.log_weights = case.means[keep], case.log_weights[keep]
    case.factor = case.factor if kind == "tied" else case.factor[keep]
    assert np.isclose(likelihood, case.e_step()[0], rtol=1e-6 if dtype == np.float32 else 1e-13)
    _, resp = compiled.normalise(np.array([[0.0, -np.inf, 0.0]]))
    assert np.array_equal(resp, [[0.5, 0.0, 0.5]])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", KINDS)
def test_weightless_rows_contribute_nothing(kind, dtype):
    case = Case(kind, 90, 3, 3, dtype)
    case.weights[40:] = 0
    case.x[40:] *= 1e6
    found = case.e_step()
    case.x, case.weights = case.x[:40], case.weights[:40]
    for part, truth in zip(found, case.e_step(), strict=True):
        assert np.allclose(part, truth, rtol=1e-5 if dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_huge_rows_leave_everything_finite(kind):
    for dtype, size in ((np.float64, 1e150), (np.float32, 1e38)):
        case = Case(kind, 70, 3, 3, dtype, weighted=False)
        case.x[5:9] *= dtype(size) / np.abs(case.x[5:9]).max()
        assert np.isfinite(case.density()).all()
        for part in (*case.e_step(), *case.moments()):
            assert np.isfinite(part).all()
        _, resp = compiled.normalise(case.log_weights + case.density())
        assert np.allclose(resp.sum(axis=1), 1)
        assert np.isclose(case.e_step()[1].sum(), 70)
        expected = case.e_step(reference)
        assert np.isclose(case.e_step()[0], expected[0], rtol=1e-6)
        assert np.isfinite(compiled.nearest(case.x, case.means)[1]).all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_rows(kind, dtype):
    case = Case(kind, 0, 3, 2, dtype)
    likelihood, mass, first, second = case.e_step()
    assert likelihood == 0
    assert all(np.all(part == 0) for part in (mass, first, second))
    assert second.shape == case.e_step(reference)[3].shape
    assert case.density().shape == (0, 2)
    assert all(np.all(part == 0) for part in case.moments())
    assert compiled.nearest(case.x, case.means)[0].shape == (0,)
    assert compiled.normalise(np.empty((0, 2)))[1].shape == (0, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_an_offset_costs_no_digits(kind):
    rng = np.random.default_rng(0)
    n, d, k = 150, 2, 2
    case = Case(kind, n, d, k, weighted=False)
    case.means = 1e7 + rng.normal(size=(k, d)) * 1e-2
    case.x = 1e7 + rng.normal(size=(n, d)) * 1e-2
    with mpmath.workdps(40):
        exact = np.vectorize(mpmath.mpf)
        z = exact(case.x)[:, None, :] - exact(case.means)
        r = exact(case.resp)
        mass = r.sum(axis=0)
        first = (r[:, :, None] * z).sum(axis=0)
        outer = (r[:, :, None, None] * z[:, :, :, None] * z[:, :, None, :]).sum(axis=0)
        second = {
            "full": lambda: outer,
            "tied": lambda: outer.sum(axis=0),
            "diag": lambda: np.array([np.diagonal(o) for o in outer]),
            "spherical": lambda: np.array([np.trace(o) for o in outer]),
        }[kind]()
        expected = [part.astype(float) for part in (mass, first, second)]
    assert_within(case.moments(), expected, case.sizes(case.resp), 1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_an_offset_costs_float32_rows_no_more_than_their_own_rounding(kind):
    case = Case(kind, 500, 3, 3, np.float32, weighted=False)
    case.means += 1e4
    case.x = (case.x.astype(np.float64) + 1e4).astype(np.float32)
    _, *sums = case.e_step(reference)
    _, resp = reference.normalise(case.log_weights + case.density(reference))
    assert_within(case.e_step()[1:], sums, case.sizes(resp), 3e-5)


def copies(x):
    """Yield the same rows elsewhere in memory: off a cache line, off their own size, not to be written."""
    for shift in (0, 8, 3):
        memory = np.zeros(x.nbytes + 128, np.uint8)
        there = memory[shift : shift + x.nbytes].view()
        there[:] = np.frombuffer(x.tobytes(), np.uint8)
        yield np.ndarray(x.shape, x.dtype, buffer=memory, offset=shift)
    still = x.copy()
    still.flags.writeable = False
    yield still


def same_bits(one, other):
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", KINDS)
def test_bits_depend_on_the_numbers_alone(kind, dtype):
    case = Case(kind, 700, 5, 3, dtype)
    e_step, moments, density = case.e_step(), case.moments(), case.density()
    near = compiled.nearest(case.x, case.means)
    for x in copies(case.x):
        case.x = x
        assert same_bits(case.e_step(), e_step)
        assert same_bits(case.moments(), moments)
        assert same_bits([case.density()], [density])
        assert same_bits(compiled.nearest(x, case.means), near)


@pytest.mark.parametrize("power", [-130, -110, 110, 130])
def test_spherical_e_step_in_any_units(power):
    """Squared distances in the rows' own units stand in for those in deviations only where they can."""
    case = Case("spherical", 300, 5, 3)
    expected = case.e_step()
    unit = 10.0**power
    case.x, case.means, case.factor = case.x * unit, case.means * unit, case.factor / unit
    likelihood, mass, first, second = case.e_step()
    change = case.weights.sum() * case.d * np.log(unit)
    assert np.isclose(likelihood + change, expected[0], rtol=0, atol=1e-11 * abs(change))
    assert np.allclose(mass, expected[1], rtol=1e-10)
    assert np.allclose(first / unit, expected[2], rtol=0, atol=1e-10 * np.abs(expected[2]).max())
    assert np.allclose(second / unit / unit, expected[3], rtol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_bits_do_not_depend_on_what_other_threads_do(kind):
    case = Case(kind, 20_000, 6, 4)
    alone = case.e_step()
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: case.e_step(), range(16)):
            assert same_bits(found, alone)


def test_arguments_may_be_read_only_and_keep_one_compiled_version():
    case = Case("full", 50, 3, 2)
    for name in ("x", "weights", "log_weights", "means", "factor"):
        getattr(case, name).flags.writeable = False
    before = case.x.copy()
    case.e_step()
    assert np.array_equal(case.x, before)
    versions = compiled._entries.e_step_full.signatures
    assert len(versions) == len(set(map(str, versions))) <= 2


def test_blending_the_means_is_chosen_by_shape_and_changes_nothing(monkeypatch):
    case = Case("tied", 500, 4, 6)
    results = []
    for choice in (True, False):
        monkeypatch.setattr(compiled, "_blends", lambda n, k, d, choice=choice: choice)
        results.append((case.moments(), case.e_step()))
    resp = case.resp
    assert_within(results[0][0], results[1][0], case.sizes(resp), 1e-13)
    assert np.allclose(results[0][1][3], results[1][1][3], rtol=1e-12)


def test_warm_says_how_long_it_took():
    assert 0 <= compiled.warm("full", np.float32) < 60
