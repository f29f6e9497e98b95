"""Pictures of a fit on Matplotlib: the report's own, drawn into axes of yours.

Each function takes what was fitted, in one of three forms: an estimator, the path of a run folder, or its
``result.zarr`` opened with ``xarray.open_datatree``. It draws into `ax`, or makes a figure, and returns the
axes, so that whatever Matplotlib can do may follow.

>>> import distem
>>> from distem import plot
>>> gm = distem.GaussianMixture(2, random_state=0).fit([[0.0], [0.1], [0.2], [5.0], [5.1], [5.3]])
>>> plot.components(gm).get_ylabel()
'density'
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import xarray as xr
from matplotlib.axes import Axes

from distem.errors import ConfigError
from distem.report import densities, figures, progress
from distem.report import overlap as overlaps
from distem.report import profile as profiles
from distem.report.colours import real
from distem.report.fits import of_estimator, of_tree
from distem.report.frames import frame
from distem.report.kinds import motion as motions
from distem.report.kinds import segments as rasters
from distem.report.kinds import states
from distem.report.reading import Found, read
from distem.report.svg import Picture, onto, settings

__all__ = [
    "components",
    "convergence",
    "motion",
    "overlap",
    "profile",
    "segments",
    "selection",
    "transitions",
    "uncertainty",
]

_OURS = ("axes.", "grid.", "xtick.", "ytick.", "text.", "lines.")


def components(
    fit: Any, features: Sequence[str] | str | None = None, X: Any = None, *, ax: Any = None
) -> Axes:
    """The components in one or two features.

    Of two features: the data in hexagons in the colour of the component most rows belong to, and
    ellipses of one and two standard deviations. Of one: the data's histogram, the mixture's density
    and that of each component, scaled by its share.

    Parameters
    ----------
    fit : estimator, path or DataTree
        What was fitted.
    features : str or sequence of str, optional
        One or two names; the two that tell the components apart best, where there are two.
    X : array-like, optional
        Rows to show, for estimators; rows drawn from the model stand in for them. Runs have their own.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes

    Raises
    ------
    ConfigError
        There is no such feature, or the parts of this model have no means and covariances.
    """
    run = _with_moments(_found(fit, X))
    names = [features] if isinstance(features, str) else list(features or ())
    for name in names:
        if name not in run.features:
            raise ConfigError(f"There is no feature {name!r}.", f"There are {', '.join(run.features)}.")
    chosen = [run.features.index(name) for name in names] or sorted(run.telling[:2])
    if len(chosen) > 2:
        raise ConfigError(f"{len(chosen)} features were asked for; a picture has one or two.", "Name two.")
    ax, size = _axes(ax, (5.2, 4.4))
    with onto(ax):
        if len(chosen) == 1:
            made = densities.marginal(run, frame(run, chosen[0]), size)
        else:
            made = figures.pair(run, frame(run, chosen[0]), frame(run, chosen[1]), size)
    return _titled(ax, made)


def convergence(fit: Any, *, ax: Any = None) -> Axes:
    """The log-likelihood per row by pass: of the chosen candidate in colour, of others in grey."""
    run = _found(fit, None)
    if not run.trace.sizes.get("pass"):
        raise ConfigError(f"The {run.family.title} kept no log-likelihood by pass.", "Give a run's folder.")
    ax, _ = _axes(ax, (5.6, 4.0))
    with onto(ax):
        made = progress.climb(run)
    return _titled(ax, made)


def selection(
    fit: Any, criterion: Literal["bic", "aic", "icl", "cv"] | None = None, *, ax: Any = None
) -> Axes:
    """A criterion of the candidates by number of components; the chosen one ringed.

    Parameters
    ----------
    fit : path or DataTree
        A run: an estimator has no candidates.
    criterion : {"bic", "aic", "icl", "cv"}, optional
        What they are judged by; default: what decided.
    ax : Axes, optional
        Where to draw.

    Raises
    ------
    ConfigError
        No candidate has that criterion.
    """
    run = _found(fit, None)
    if not isinstance(fit, (str, Path, xr.DataTree)):
        raise ConfigError(
            "An estimator is one fit: there are no candidates.", "Give a run that chose among some."
        )
    asked = str(run.say("config", "fit", "select", otherwise="bic"))
    ax, _ = _axes(ax, (5.2, 4.0))
    with onto(ax):
        made = progress.criterion(run, criterion or asked, asked) if len(run.selection) else None
    if made is None:
        raise ConfigError(
            f"There are no candidates with {progress.CRITERIA.get(criterion or asked, criterion)}.",
            "Give a run that chose among some.",
        )
    return _titled(ax, made)


def uncertainty(fit: Any, X: Any = None, *, ax: Any = None) -> Axes:
    """How sure the labels are: a histogram of the probability that a row's label is wrong."""
    run = _found(fit, X)
    if "uncertainty" not in run.sample:
        raise ConfigError(
            f"Rows of this {run.family.title} are not known.",
            "Give a run's folder, or draw predict_proba(X).",
        )
    ax, _ = _axes(ax, (5.6, 4.0))
    with onto(ax):
        made = figures.uncertainty(run)
    return _titled(ax, made)


def profile(fit: Any, X: Any = None, *, ax: Any = None) -> Axes:
    """Parallel coordinates: each component's mean in every feature, in the data's standard deviations."""
    run = _with_moments(_found(fit, X))
    ax, _ = _axes(ax, (5.6, 1.5 + 0.33 * min(run.d, profiles.FEATURES)))
    with onto(ax):
        made = profiles.profile(run)
    return _titled(ax, made)


def overlap(fit: Any, *, ax: Any = None) -> Axes:
    """How far components cover each other: a matrix of Bhattacharyya coefficients, from 0 to 1."""
    run = _with_moments(_found(fit, None))
    ax, _ = _axes(ax, (4.8, 4.4))
    with onto(ax):
        made = overlaps.matrix(run)
    return _titled(ax, made)


def transitions(fit: Any, *, ax: Any = None) -> Axes:
    """The transition matrix of a hidden Markov model."""
    run = _found(fit, None)
    if "transition" not in run.model:
        raise ConfigError(f"A {run.family.title} has no transitions.", "Give a hidden Markov model.")
    ax, _ = _axes(ax, (5.0, 4.6))
    with onto(ax):
        made = states.transition_matrix(run.model["transition"].values.astype(float))
    return _titled(ax, made)


def motion(fit: Any, what: Literal["speed", "share", "paths"] = "speed", *, ax: Any = None) -> Axes:
    """How the layers of a video move: their speed or their share by pair of frames, or their paths."""
    run = _found(fit, None)
    if "velocity_x" not in run.model:
        raise ConfigError(f"A {run.family.title} has no layers that move.", "Give a run of kind motion.")
    drawers = {"speed": motions.velocities, "share": motions.shares, "paths": motions.paths}
    _one_of(what, drawers)
    ax, _ = _axes(ax, (5.6, 4.0))
    with onto(ax):
        made = drawers[what](run.model)
    return _titled(ax, made)


def segments(
    fit: Any,
    what: Literal["picture", "segments", "boundaries", "uncertainty"] = "segments",
    frame: int = 0,
    *,
    ax: Any = None,
) -> Axes:
    """A segmented picture: as it is, in the colours of its segments, with their boundaries, or how unsure.

    Parameters
    ----------
    fit : path or DataTree
        A run of the pipeline segment_image.
    what : {"picture", "segments", "boundaries", "uncertainty"}
        What of it.
    frame : int
        Of several pictures which one.
    ax : Axes, optional
        Where to draw.

    Raises
    ------
    ConfigError
        The run has no picture.
    """
    run = _found(fit, None)
    held = run.group(rasters.GROUP)
    if held is None:
        raise ConfigError("The run holds no picture.", "Give a run of the pipeline segment_image.")
    layers = rasters.layers(run, held.isel(frame=frame), frame, "")
    _one_of(what, layers)
    ax, _ = _axes(ax, (6.0, 4.4))
    with onto(ax):
        made = rasters.image(layers[what], int(held.attrs.get("stride", 1)), beside=True)
    return _titled(ax, made)


def _found(fit: Any, X: Any) -> Found:
    """What was fitted, as the report knows it."""
    if isinstance(fit, (str, Path)):
        return read(fit)
    if isinstance(fit, xr.DataTree):
        return of_tree(fit)
    return of_estimator(fit, X)


def _with_moments(run: Found) -> Found:
    if not run.has_moments:
        raise ConfigError(
            f"The {run.part}s of a {run.family.title} have no means and covariances.", "Draw something else."
        )
    return run


def _one_of(what: str, known: Any) -> None:
    if what not in known:
        raise ConfigError(f"There is no picture {what!r}.", f"There are {', '.join(known)}.")


def _axes(ax: Any, size: tuple[float, float]) -> tuple[Axes, tuple[float, float]]:
    """Axes of the caller, or new ones in the report's style; and their size in points."""
    if ax is None:
        from matplotlib import pyplot as plt

        with real():
            style = {k: v for k, v in settings().items() if k.startswith(_OURS)}
        with mpl.rc_context(style):
            ax = plt.subplots(figsize=size, layout="constrained")[1]
    return ax, (72.0 * size[0], 72.0 * size[1])


def _titled(ax: Axes, made: Picture) -> Axes:
    ax.set_title(made.title)
    return ax
