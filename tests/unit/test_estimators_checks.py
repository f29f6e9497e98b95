"""scikit-learn's own checks of estimators; what cannot pass is in docs/estimator_checks.md."""

from __future__ import annotations

from pathlib import Path

import pytest
from sklearn.utils.estimator_checks import (
    estimator_checks_generator,
    parametrize_with_checks,
)

import distem

RANDOM_START = (
    "With two components or more the start is drawn from the rows, and a row given twice is drawn "
    "otherwise than one of weight two; from one and the same start both give the same fit."
)
EXPECTED_FAILED: dict[str, dict[str, str]] = {
    "several components": {"check_sample_weight_equivalence_on_dense_data": RANDOM_START},
}
"""By the kind of estimator: checks that cannot pass, each with its reason."""


def expected(estimator: distem.GaussianMixture) -> dict[str, str]:
    return EXPECTED_FAILED["several components"] if estimator.n_components > 1 else {}


ESTIMATORS = [
    distem.GaussianMixture(),
    distem.GaussianMixture(2, covariance_type="tied", init_params="kmeans||", acceleration="anderson"),
    distem.GaussianMixture(2, covariance_type="diag", init_params="k-means++", acceleration="squarem"),
    distem.GaussianMixture(3, covariance_type="spherical", init_params="random", n_init=2),
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # the checks' data is noise
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def test_of_the_plain_estimator_nothing_is_excepted():
    """All its checks run above, and must pass."""
    assert ESTIMATORS[0].get_params() == distem.GaussianMixture().get_params()
    assert not expected(ESTIMATORS[0])
    assert len(list(estimator_checks_generator(ESTIMATORS[0], legacy=True))) >= 40


def test_the_documented_exceptions_are_the_real_ones():
    page = (Path(__file__).parents[2] / "docs" / "estimator_checks.md").read_text()
    listed = {name for checks in EXPECTED_FAILED.values() for name in checks}
    for name in listed:
        assert f"`{name}`" in page
    known = {
        getattr(check, "func", check).__name__
        for _, check in estimator_checks_generator(distem.GaussianMixture(), legacy=True)
    }
    assert listed <= known
