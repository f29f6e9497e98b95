"""Choosing among fits: information criteria, smaller is better; or what unseen rows say, larger is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from distem.em.loop import Fit
from distem.models.base import Model


@dataclass(frozen=True, slots=True)
class Score:
    """What a fit is judged by.

    Attributes
    ----------
    log_likelihood : float
        Sum over the rows, weights considered, in the data's own units.
    mass : float
        Sum of row weights: the number of rows the criteria count.
    parameters : int
        Free parameters.
    entropy : float
        Of the responsibilities, summed over the rows: 0 when every row is certain.
    cv, cv_se : float
        Log-likelihood per row of the rows held out in turn, and its standard error over the folds;
        NaN where it was not asked for.
    """

    log_likelihood: float
    mass: float
    parameters: int
    entropy: float
    cv: float = np.nan
    cv_se: float = np.nan

    @property
    def bic(self) -> float:
        """Bayesian information criterion, Schwarz (1978)."""
        return float(-2.0 * self.log_likelihood + self.parameters * np.log(self.mass))

    @property
    def aic(self) -> float:
        """Akaike's information criterion, Akaike (1974)."""
        return -2.0 * self.log_likelihood + 2.0 * self.parameters

    @property
    def icl(self) -> float:
        """Integrated completed likelihood, Biernacki, Celeux and Govaert (2000)."""
        return self.bic + 2.0 * self.entropy


def score(model: Model, fit: Fit, offset: float = 0.0) -> Score:
    """Judge a fit; `offset` per row brings its log-likelihood to the data's own units."""
    stats = fit.stats
    entropy = max(0.0, float(stats.log_likelihood) - model.expected_complete(stats, fit.params))
    return Score(
        log_likelihood=float(stats.log_likelihood) + offset * float(stats.total),
        mass=float(stats.total),
        parameters=model.n_parameters(fit.params),
        entropy=entropy,
    )


def best_by(criterion: str, scores: Mapping[str, Score]) -> str:
    """Name of the candidate with the least bic, aic or icl, or the greatest cv. Of equals, the first."""
    sign = -1.0 if criterion == "cv" else 1.0
    return min(scores, key=lambda name: sign * float(getattr(scores[name], criterion)))
