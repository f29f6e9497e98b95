"""Mixtures and other EM models fitted to more data than fits in memory."""

from typing import TYPE_CHECKING, Any

from distem._version import __version__ as __version__

if TYPE_CHECKING:
    from distem.estimators.emissions import GMMHMM as GMMHMM
    from distem.estimators.emissions import CategoricalHMM as CategoricalHMM
    from distem.estimators.emissions import GaussianHMM as GaussianHMM
    from distem.estimators.emissions import PoissonHMM as PoissonHMM
    from distem.estimators.kmeans import KMeans as KMeans
    from distem.estimators.mixture import GaussianMixture as GaussianMixture
    from distem.estimators.regression import RegressionMixture as RegressionMixture

_HOMES = {
    "CategoricalHMM": "distem.estimators.emissions",
    "GMMHMM": "distem.estimators.emissions",
    "GaussianHMM": "distem.estimators.emissions",
    "PoissonHMM": "distem.estimators.emissions",
    "GaussianMixture": "distem.estimators.mixture",
    "KMeans": "distem.estimators.kmeans",
    "RegressionMixture": "distem.estimators.regression",
}

__all__ = [
    "GMMHMM",
    "CategoricalHMM",
    "GaussianHMM",
    "GaussianMixture",
    "KMeans",
    "PoissonHMM",
    "RegressionMixture",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Import public names when they are first asked for: `import distem` alone stays cheap."""
    if name not in _HOMES:
        raise AttributeError(f"module 'distem' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
