"""What a fit looks like on its way, for those who watch: weights of all candidates, and the leading mixture.

Made by the driver between passes, on a budget: what it costs is a small share of the time that has gone by.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from distem.data.transform import Transform
from distem.em.loop import Climb
from distem.events import Observer, Picture, Shares
from distem.families.base import Family
from distem.families.base import family as family_of
from distem.session import Scanned, Seeded, Session
from distem.types import Float64

SHARE = 0.003
"""Of the time since the fit began, what sightings may take."""
LAST_SHARE = 0.006
"""Likewise once it has ended: short fits are seen once, at their end."""
EVERY = 1.0
"""Seconds between two."""
FIRST = 0.012
"""Seconds that the first is expected to take."""
MOST_WEIGHTS = 512
"""Of more weights only the leading candidate's are told."""
MOST_COMPONENTS = 64
"""Of a mixture of more no picture is made."""
SIDE = 72
"""Cells of the density image along each axis."""
MOST_ROWS = 20_000
STAYS = 1.2
"""Two features must tell so many times more than those on the picture before they take their place."""


def telling(weights: Float64, means: Float64, covariances: Float64) -> Float64:
    """How much of each feature's variance lies between the components, from 0 to 1, shape (d,).

    Parameters
    ----------
    weights : ndarray, shape (k,)
        Shares.
    means : ndarray, shape (k, d)
    covariances : ndarray, shape (k, d, d)
    """
    middle = weights @ means
    between = weights @ np.square(means - middle)
    within = weights @ np.diagonal(covariances, axis1=1, axis2=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = between / (between + within)
    return np.nan_to_num(np.asarray(share, dtype=np.float64))


def density(values: Float64, weights: Float64) -> dict[str, Any]:
    """An image of how densely rows lie, as `Picture` has it.

    Parameters
    ----------
    values : ndarray, shape (n, 2)
        In the data's own units.
    weights : ndarray, shape (n,)
        Of the rows.
    """
    low, high = np.quantile(values, [0.002, 0.998], axis=0)
    room = np.where(high > low, 0.08 * (high - low), 0.5)
    low, high = low - room, high + room
    cells = np.floor((values - low) * (SIDE / (high - low)))
    inside = ((cells >= 0) & (cells < SIDE)).all(axis=1)
    at = cells[inside].astype(np.int64) @ np.array([1, SIDE])
    counts = np.bincount(at, weights[inside], SIDE * SIDE).reshape(SIDE, SIDE)  # a row of it is one height
    top = float(np.quantile(counts[counts > 0], 0.995)) if (counts > 0).any() else 1.0
    tones = np.round(255 * np.sqrt(np.clip(counts / top, 0.0, 1.0)))
    return {
        "counts": tones.astype(np.uint8).tobytes(),
        "side": SIDE,
        "x": [float(low[0]), float(high[0])],
        "y": [float(low[1]), float(high[1])],
    }


class Sightings:
    """Looks at fits after a pass, when it is time, and tells observers what is to be seen.

    Parameters
    ----------
    family : Family
        Of the models.
    transform : Transform
        From the data's units to the model's.
    labels : sequence of str
        Of the features, with their units.
    values, weights : ndarray, shape (n, d) and (n,)
        A sample, in the model's units.
    tell : callable
        Is told.
    """

    def __init__(
        self,
        family: Family,
        transform: Transform,
        labels: Sequence[str],
        values: Float64,
        weights: Float64,
        tell: Observer,
    ) -> None:
        self._family, self._transform, self._labels, self._tell = family, transform, list(labels), tell
        self._sample = values[:MOST_ROWS], weights[:MOST_ROWS]
        self._rows: Float64 | None = None
        self._axes: tuple[int, int] | None = None
        self._began = time.perf_counter()
        self._last = -math.inf
        self._costs = FIRST
        self.spent = 0.0
        """Seconds spent in here."""

    def __call__(self, climbs: Sequence[Climb], *, last: bool = False) -> None:
        """Tell what is to be seen, unless that would cost too much now."""
        began = time.perf_counter()
        budget = (LAST_SHARE if last else SHARE) * (began - self._began)
        if self.spent + self._costs > budget or (not last and began - self._last < EVERY):
            return
        self._last = began
        seen = [c for c in climbs if c.best is not None and c.held is None]
        if seen:
            self._look(seen)
            self._costs = time.perf_counter() - began
        self.spent += time.perf_counter() - began

    def _look(self, climbs: Sequence[Climb]) -> None:
        leading = max(climbs, key=lambda c: float(c.best[1].mean_log_likelihood) if c.best else -math.inf)
        shown = climbs if sum(int(c.params.k) for c in climbs) <= MOST_WEIGHTS else [leading]
        weights = {c.name: found for c in shown if (found := self._weights(c)) is not None}
        number = max(len(c.trace) for c in climbs)
        if weights:
            self._tell(Shares(number, leading.name, weights))
        picture = self._picture(leading)
        if picture is not None:
            self._tell(picture)

    def _weights(self, fit: Climb) -> list[float] | None:
        """Shares of a fit's components; of clusters and states by the rows they hold."""
        if fit.best is None:
            return None
        params, stats = fit.best
        weights = getattr(params, "weights", None)
        if weights is None:
            mass = np.asarray(self._family.facts(fit.model, stats).get("mass", ()), dtype=np.float64)
            weights = mass / mass.sum() if mass.sum() > 0.0 else None
        return None if weights is None else [round(float(w), 6) for w in np.asarray(weights).ravel()]

    def _picture(self, fit: Climb) -> Picture | None:
        if fit.best is None or int(fit.best[0].k) > MOST_COMPONENTS:
            return None
        params, stats = fit.best
        found = self._family.variables(
            fit.model, params, self._family.facts(fit.model, stats), self._transform
        )
        parts = [_values(found, name) for name in ("weights", "means", "covariances")]
        weights, means, covariances = parts
        if weights is None or means is None or covariances is None or means.shape[1] < 2:
            return None
        if not all(np.isfinite(part).all() for part in (weights, means, covariances)):
            return None
        if covariances.ndim != 3:
            return None
        image = self._chosen(telling(weights, means, covariances))
        across, up = self._axes or (0, 1)
        picked = np.ix_(range(len(means)), (across, up), (across, up))
        return Picture(
            candidate=fit.name,
            pass_=len(fit.trace),
            axes=[self._labels[across], self._labels[up]],
            means=means[:, [across, up]].tolist(),
            covariances=covariances[picked].tolist(),
            weights=weights.tolist(),
            image=image,
        )

    def _chosen(self, score: Float64) -> dict[str, Any] | None:
        """Choose the two features that tell most; return their image if they are others than before."""
        best = np.argsort(-score, kind="stable")[:2]
        across, up = (int(j) for j in sorted(best))
        if self._axes is not None and score[[across, up]].sum() <= STAYS * score[list(self._axes)].sum():
            return None
        if self._axes == (across, up):
            return None
        self._axes = across, up
        if self._rows is None:
            self._rows = self._transform.backward_means(self._sample[0])
        return density(self._rows[:, [across, up]], self._sample[1])


def _values(found: Mapping[str, Any], name: str) -> Float64 | None:
    return np.asarray(found[name][1], dtype=np.float64) if name in found else None


def sightings(session: Session, scanned: Scanned, seeded: Seeded) -> Callable[..., None]:
    """What those who watch a run are shown after a pass; nothing where nobody does."""
    if not session.watched:
        return lambda *_, **__: None
    source = session.source
    return Sightings(
        family_of(session.config.model.kind),
        scanned.transform,
        [_labelled(name, source.feature_attrs.get(name, {})) for name in source.features],
        seeded.sample.values,
        seeded.sample.weights,
        session.observe,
    )


def _labelled(name: str, attrs: Mapping[str, Any]) -> str:
    """A feature as axes call it: its long name if it has one, and its units."""
    called = str(attrs.get("long_name", name)).replace("_", " ")
    return f"{called} ({attrs['units']})" if attrs.get("units") else called
