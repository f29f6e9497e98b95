"""What a mixture of regressions has to show: curves over the data, and how well coefficients are known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distem.report.colours import component, dash, shade
from distem.report.frames import called
from distem.report.reading import Found
from distem.report.section import Section, Table
from distem.report.svg import Picture, canvas, label, picture
from distem.report.words import number, plus_minus, share, short, whole
from distem.types import Float64, Ints

CURVES = 4
"""Pairs of a predictor and a response that are drawn at most."""
POINTS = 200
"""Places at which a curve is drawn."""
ROWS = 3000
"""Rows that are drawn."""
STRAY = (130, 130, 130)
"""Colour of outliers."""
BAND = 2.0
"""Standard deviations of the noise on each side of a curve."""
_COMPOUND = re.compile(r"[\s/^*·.\d-]")  # such a unit goes into brackets


@dataclass(frozen=True, eq=False)
class Regressions:
    """A fitted mixture, in the data's units.

    Attributes
    ----------
    names : tuple of str
        Of all features.
    units : tuple of str
        Of all features; empty where one has none, "1" where it is a number.
    labels : tuple of str
        What to write along their axes.
    factors : ndarray, shape (p, f)
        Features whose product is a term; -1 for none.
    responses : ndarray of int64, shape (q,)
        Features that are explained.
    coef, errors : ndarray, shape (k, q, p)
        Coefficients; standard errors, NaN where they are not known.
    noise : ndarray, shape (k, q)
        Standard deviations.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    labels: tuple[str, ...]
    factors: Ints
    responses: Ints
    coef: Float64
    errors: Float64
    noise: Float64

    @classmethod
    def of(cls, run: Found) -> Regressions:
        """Of a run; an outlier layer has no coefficients, and is left out."""
        model, attrs = run.model, run.model.attrs
        coef = model["coefficients"].values
        there = np.isfinite(coef[:, 0, 0])
        errors = model["errors"].values if "errors" in model else np.full(coef.shape, np.nan)
        noise = model["noise"].values
        if noise.ndim == 3:
            noise = np.diagonal(noise, axis1=1, axis2=2)
        factors = np.atleast_1d(np.asarray(attrs["factors"], dtype=np.int64))
        return cls(
            run.features,
            tuple(str(run.feature_attrs.get(name, {}).get("units") or "") for name in run.features),
            tuple(called(run, j) for j in range(run.d)),
            factors.reshape(int(attrs["terms"]), -1),
            np.atleast_1d(np.asarray(attrs["responses"], dtype=np.int64)),
            coef[there],
            errors[there],
            np.sqrt(noise[there]),
        )

    @property
    def k(self) -> int:
        """Number of regressions."""
        return len(self.coef)

    @property
    def predictors(self) -> list[int]:
        """Features that stand in a term."""
        return [int(j) for j in np.unique(self.factors[self.factors >= 0])]

    def term(self, i: int) -> str:
        """A term in words."""
        return " · ".join(name + power for name, power in self._powers(self.names, i)) or "1"

    def unit(self, response: int, i: int) -> str:
        """The unit of a term's coefficient; empty where not all that are in it have one."""
        used = self.factors[i][self.factors[i] >= 0]
        of = self.units[self.responses[response]]
        if not of or not all(self.units[j] for j in used):
            return ""
        powers = self._powers(self.units, i)
        below = [f"({u})" * bool(_COMPOUND.search(u)) or u for u, _ in powers]
        divided = " ".join(u + power for u, (given, power) in zip(below, powers) if given != "1")
        return " per ".join([short(of, 16)] * (of != "1") + [divided] * bool(divided))

    def _powers(self, words: Sequence[str], i: int) -> list[tuple[str, str]]:
        used, times = np.unique(self.factors[i][self.factors[i] >= 0], return_counts=True)
        return [(words[j], f"^{power}" if power > 1 else "") for j, power in zip(used, times, strict=True)]

    def expected(self, rows: Float64) -> Float64:
        """What each regression expects of rows (n, d), shape (k, q, n)."""
        terms = [np.prod(rows[:, factors[factors >= 0]], axis=1) for factors in self.factors]
        return np.asarray(self.coef @ np.stack(terms))


def sections(run: Found) -> Sequence[Section]:
    """The curves and the coefficients."""
    found = Regressions.of(run)
    pairs = [(x, i) for i in range(len(found.responses)) for x in found.predictors]
    text = "Each row stands in the colour of the component it most probably belongs to. "
    if len(found.predictors) > 1:
        text += (
            "Curves are drawn along one predictor; the others are held at each component's own medians, so "
            "rows may lie off a curve for their sake. "
        )
    text += f"Bands are {BAND:g} standard deviations of the noise on both sides."
    if len(pairs) > CURVES:
        text += f" Shown are {CURVES} of {whole(len(pairs))} pairs of a predictor and a response."
    pictures = tuple(_curves(run, found, x, i) for x, i in pairs[:CURVES])
    return [
        Section("curves", "Curves", text if pictures else "", pictures, first=True),
        Section(
            "coefficients",
            "Coefficients",
            "With standard errors, which are those of rows whose components are known: where components "
            "overlap they are larger.",
            (),
            tuple(_table(run, found, i) for i in range(len(found.responses))),
            first=True,
        ),
    ]


def _curves(run: Found, found: Regressions, x: int, i: int) -> Picture:
    values, labels = run.sample["values"].values, run.sample["label"].values
    step = max(1, -(-len(values) // ROWS))
    values, labels = values[::step].astype(np.float64), labels[::step]
    y = int(found.responses[i])
    told = []
    with canvas(460.0, 320.0) as (figure, axes):
        for c in np.unique(labels[labels >= 0]):
            mine = labels == c
            # pixels of a picture know no style sheet: they have the colours themselves
            colour = tuple(v / 255.0 for v in (shade(int(c)) if c < found.k else STRAY))
            axes.plot(
                values[mine, x], values[mine, y], ".", color=colour, markersize=3.5, alpha=0.6,
                markeredgewidth=0.0, rasterized=True,
            )  # fmt: skip
        for c in range(found.k):
            mine = labels == c
            if not mine.any():
                continue
            low, high = float(values[mine, x].min()), float(values[mine, x].max())
            along = np.tile(np.median(values[mine], axis=0), (POINTS, 1))
            along[:, x] = np.linspace(low, high, POINTS)
            curve, wide = found.expected(along)[c, i], BAND * float(found.noise[c, i])
            axes.fill_between(
                along[:, x], curve - wide, curve + wide, color=component(c), alpha=0.14, linewidth=0
            )
            axes.plot(
                along[:, x],
                curve,
                color=component(c),
                linestyle=dash(c),
                linewidth=2.2,
                label=f"component {c}",
            )
            told.append(
                f"component {c}: from {number(float(curve[0]), 3)} at {number(low, 3)} "
                f"to {number(float(curve[-1]), 3)} at {number(high, 3)}"
            )
        low, high = float(values[:, y].min()), float(values[:, y].max())
        room = 0.05 * (high - low) or 1.0
        axes.set_ylim(low - room, high + room)
        if found.k > 1:
            axes.legend(frameon=False, fontsize=9)
        label(axes, found.labels[x], found.labels[y])
        return picture(
            figure,
            f"curve-{x}-{i}",
            f"{found.names[y]} along {found.names[x]}",
            "",
            f"{found.labels[y]} of {whole(len(values))} rows over {found.labels[x]}, with what each "
            f"component expects. {'; '.join(told)}.",
        )


def _table(run: Found, found: Regressions, i: int) -> Table:
    units = [found.unit(i, j) for j in range(len(found.factors))]
    terms = [_with(found.term(j), unit) for j, unit in enumerate(units)]
    noise = found.units[found.responses[i]]
    heads = ("component", "share", *terms, _with("noise", "" if noise == "1" else short(noise, 16)))
    rows = []
    for c in range(run.k):
        portion = share(float(run.weights[c]))
        if c >= found.k:
            rows.append((f"{c} (outliers)", portion, *[""] * (len(found.factors) + 1)))
            continue
        cells = [
            plus_minus(float(value), float(error)) if np.isfinite(error) else number(float(value), 4)
            for value, error in zip(found.coef[c, i], found.errors[c, i], strict=True)
        ]
        rows.append((str(c), portion, *cells, number(float(found.noise[c, i]), 3)))
    response = found.labels[int(found.responses[i])]
    caption = f"{response}: coefficient of each term, and the noise's standard deviation"
    return Table(caption, heads, tuple(rows))


def _with(name: str, unit: str) -> str:
    return f"{name} ({unit})" if unit else name
