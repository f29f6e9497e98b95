"""When a fit stops, and the sentence it says."""

from __future__ import annotations

import numpy as np
import pytest

from distem.em.stopping import Change, FirstOf, GainLeft, MaxPasses, TracePoint, gain_left, recent


def trace(*values: float, **marks) -> list[TracePoint]:
    return [TracePoint(v) for v in values]


def geometric(rate: float, passes: int, top: float = -1.0, first: float = 1.0) -> list[TracePoint]:
    """A likelihood that climbs to `top` with steps that shrink by `rate`."""
    return [TracePoint(top - first * rate**i) for i in range(passes)]


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9, 0.99])
def test_the_gain_left_of_a_geometric_climb_is_exact(rate):
    points = geometric(rate, 6)
    assert gain_left(points) == pytest.approx(-1.0 - points[-1].log_likelihood, rel=1e-6)


def test_nothing_is_said_of_few_passes_or_steps_that_do_not_shrink():
    assert gain_left(geometric(0.5, 3)) is None
    assert gain_left(trace(0.0, 1.0, 2.0, 3.0)) is None  # rate 1
    assert gain_left(trace(0.0, 1.0, 1.5, 2.5)) is None  # growing
    assert gain_left(trace(0.0, 1.0, 0.5, 0.75)) is None  # a fall


def test_steps_of_rounding_leave_nothing():
    assert gain_left(trace(-1e6, -1e6, -1e6, -1e6)) == 0.0
    reason = GainLeft(1e-15)(trace(-5.0, -4.0, -3.0, -3.0 + 1e-16))
    assert reason is not None
    assert reason.converged


def test_gain_left_stops_below_its_tolerance():
    points = geometric(0.5, 30)
    passes = next(i for i in range(1, 31) if GainLeft(1e-4)(points[:i]))
    assert -1.0 - points[passes - 1].log_likelihood < 1e-4 <= -1.0 - points[passes - 2].log_likelihood
    reason = GainLeft(1e-4)(points[:passes])
    assert reason.converged
    assert "0.0001" in reason.sentence


def test_slow_climbs_do_not_stop_by_their_last_step():
    """scikit-learn's rule stops far from the top; the gain still expected does not."""
    points = geometric(0.999, 10, first=1.0)
    assert Change(1e-2)(points).converged
    assert GainLeft(1e-2)(points) is None


def test_rejected_steps_and_what_came_before_a_repair_do_not_count():
    points = [*trace(-9.0, -8.0), TracePoint(-50.0, accepted=False), *trace(-7.5)]
    assert recent(points, 4) == [-9.0, -8.0, -7.5]
    points = [*trace(-9.0, -8.0), TracePoint(-7.0, fresh=True), *trace(-6.5)]
    assert recent(points, 4) == [-7.0, -6.5]
    assert recent(points, 1) == [-6.5]
    # a fresh pass that was rejected still hides what came before it
    points = [*trace(-9.0, -8.0), TracePoint(-7.0, accepted=False, fresh=True), *trace(-6.5)]
    assert recent(points, 4) == [-6.5]


def test_change_is_scikit_learns_rule():
    rule = Change(0.125)
    assert rule(trace(-1.0)) is None
    assert rule(trace(-1.0, -0.875)) is None  # not less than
    assert rule(trace(-1.0, -0.95)).converged
    assert rule(trace(-1.0, -1.05)).converged  # a small fall, too
    assert rule([*trace(-1.0, -0.99), TracePoint(-5.0, accepted=False)]) is None
    assert Change(0.0)(trace(-1.0, -1.0)) is None


def test_max_passes_says_what_was_still_expected():
    assert MaxPasses(4)(geometric(0.5, 3)) is None
    reason = MaxPasses(4)(geometric(0.5, 4))
    assert not reason.converged
    assert "4 passes" in reason.sentence
    assert "per row still expected" in reason.sentence


def test_the_first_rule_that_holds_is_the_reason():
    rule = FirstOf((Change(1.0), MaxPasses(2)))
    assert rule(trace(-5.0)) is None
    assert rule(trace(-5.0, -4.5)).converged
    assert not rule(trace(-5.0, -2.0)).converged


def test_infinite_values_do_not_trip_the_rules():
    assert gain_left(trace(-np.finfo(float).max, -1e300, -1.0, -0.5)) is not None
