"""K-means as a run knows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from distem.data.transform import Transform
from distem.em.loop import Fit
from distem.em.selection import Score
from distem.errors import ConfigError
from distem.families.base import Beginning, Facts, Variables
from distem.families.mixture import moments
from distem.models import seeding
from distem.models.kmeans import KMeans, KMeansParams, KMeansStats
from distem.types import Float64


class KMeansFamily:
    """Lloyd's k-means: hard clusters, all round and alike."""

    kind = "kmeans"
    title = "k-means"
    part = "cluster"
    variant = "covariance"
    objective = "minus inertia"
    step = "pass"
    answers = ("label", "distance")

    def start(self, model: KMeans, begin: Beginning) -> KMeansParams:  # noqa: ARG002
        """Centres by name.

        Raises
        ------
        ConfigError
            There is no such start for clusters that share no row.
        """
        if begin.init == "random":
            raise ConfigError(
                "fit.init: random shares rows out at random; k-means then begins with equal centres.",
                "Use kmeans||, kmeans++, kmeans or random_from_data.",
            )
        centres = begin.centres
        if centres is None:
            scaled = seeding.in_units(begin.sample, begin.matrix)
            centres = seeding.centres_by_name(begin.init, begin.k, scaled, begin.rng)
        return KMeansParams(seeding.out_of_units(centres, begin.matrix))

    def given(self, model: KMeans, values: Mapping[str, Float64], transform: Transform) -> KMeansParams:  # noqa: ARG002
        """From means."""
        return KMeansParams(transform.forward_means(values["means"]))

    def facts(self, model: KMeans, stats: KMeansStats) -> Facts:  # noqa: ARG002
        """Row weight of each cluster, and the inertia in the model's units."""
        return {"mass": stats.mass, "inertia": np.asarray(stats.inertia)}

    def variables(self, model: KMeans, params: KMeansParams, facts: Facts, transform: Transform) -> Variables:  # noqa: ARG002
        """Centres; of a fit also shares, the inertia, and the round covariance that all clusters share."""
        if not facts:
            return moments(None, params.centres, None, transform, self.part)
        k, d = params.centres.shape
        mass, inertia = facts["mass"], float(facts["inertia"])
        matrix = np.eye(d) * inertia / (float(mass.sum()) * d)
        found = moments(mass / mass.sum(), params.centres, np.stack([matrix] * k), transform, self.part)
        words = "weighted sum of squared distances from the nearest centre, in the scaled units"
        return found | {"inertia": ((), np.asarray(inertia), {"long_name": words})}

    def attributes(self, model: KMeans) -> dict[str, Any]:
        """The kernels."""
        return {"kernels": model.kernels, "covariance": "spherical"}

    def model(self, attributes: Mapping[str, Any]) -> KMeans:
        """The model of `attributes`."""
        return KMeans(kernels=attributes["kernels"])

    def offset(self, model: KMeans, transform: Transform) -> float:  # noqa: ARG002
        """None: minus the inertia is no log-likelihood."""
        return 0.0

    def score(self, model: KMeans, fit: Fit, transform: Transform) -> Score:  # noqa: ARG002
        """As hard clusters of one round Gaussian shape, with the variance that fits best [1]_.

        References
        ----------
        .. [1] Pelleg and Moore, X-means: extending k-means with efficient estimation of the number of
           clusters, ICML (2000).
        """
        stats: KMeansStats = fit.stats
        k, d = fit.params.centres.shape
        mass = stats.mass[stats.mass > 0]
        total = float(stats.total)
        with np.errstate(divide="ignore"):
            spread = np.log(2.0 * np.pi * max(stats.inertia, np.finfo(np.float64).tiny) / (total * d)) + 1.0
        likelihood = float(mass @ np.log(mass / total)) - 0.5 * total * d * float(spread)
        return Score(
            log_likelihood=likelihood + total * transform.log_jacobian,
            mass=total,
            parameters=k - 1 + k * d + 1,
            entropy=0.0,
        )
