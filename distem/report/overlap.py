"""How far components cover each other."""

from __future__ import annotations

import numpy as np

from distem.report.colours import component
from distem.report.reading import Found
from distem.report.svg import Picture, canvas, label, picture
from distem.report.words import listed, number
from distem.types import Float64

MOST_NUMBERS = 12
"""Up to so many components have their numbers in the picture."""
MOST = 60
"""With more components a matrix is no longer to be read."""


def coefficients(means: Float64, covariances: Float64) -> Float64:
    """Bhattacharyya coefficients of Gaussians, shape (k, k): the integral of the root of both densities.

    1 for the same Gaussian, 0 for two that have no place in common.
    """
    k, d = means.shape
    variances = np.diagonal(covariances, axis1=1, axis2=2)
    scale = np.sqrt(np.maximum(variances.mean(axis=0), np.finfo(np.float64).tiny))
    at = means / scale
    # a spike is as wide as a millionth of the others
    matrices = covariances / scale[:, None] / scale[None, :] + 1e-12 * np.eye(d)
    logs = np.linalg.slogdet(matrices)[1]
    found = np.eye(k)
    for i in range(k):
        for j in range(i):
            middle = 0.5 * (matrices[i] + matrices[j])
            gap = at[i] - at[j]
            far = 0.125 * gap @ np.linalg.solve(middle, gap)
            far += 0.5 * (np.linalg.slogdet(middle)[1] - 0.5 * (logs[i] + logs[j]))
            found[i, j] = found[j, i] = np.exp(-max(float(far), 0.0))
    return found


def matrix(run: Found) -> Picture:
    """The coefficients as a picture."""
    with np.errstate(over="ignore", invalid="ignore"):
        found = np.nan_to_num(coefficients(run.means, run.covariances))
    k = run.k
    pairs = sorted(((found[i, j], i, j) for i in range(k) for j in range(i)), reverse=True)
    told = [f"{run.part}s {j} and {i} by {number(value, 2)}" for value, i, j in pairs[:6]]
    shown = found.copy()
    np.fill_diagonal(shown, np.nan)  # of a component with itself there is nothing to say
    with canvas(400, 360) as (figure, axes):
        drawn = axes.imshow(shown, cmap="cividis", vmin=0.0, vmax=1.0)
        axes.grid(visible=False)
        if k <= MOST_NUMBERS:
            for i in range(k):
                for j in range(k):
                    if i != j:
                        text = f"{found[i, j]:.2f}"
                        dark = "white" if found[i, j] < 0.5 else "black"
                        axes.text(j, i, text, ha="center", va="center", fontsize=9, color=dark)
        every = max(1, -(-k // 20))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(range(0, k, every), [str(i) for i in range(0, k, every)])
            if every == 1:
                for i, tick in enumerate(axis.get_ticklabels()):
                    tick.set_fontweight("bold")
                    tick.set_color(component(i))
        bar = figure.colorbar(drawn, ax=axes, shrink=0.85, pad=0.02)
        bar.set_label("Bhattacharyya coefficient")
        bar.outline.set_visible(False)
        label(axes, run.part, run.part)
        note = "0: nothing in common, 1: the same place and shape."
        if pairs:
            note += f" Most: {told[0]}."
        return picture(
            figure,
            "overlap",
            f"How far {run.part}s overlap",
            note,
            f"A matrix of {k} × {k} Bhattacharyya coefficients. The largest: {listed(told)}.",
        )
