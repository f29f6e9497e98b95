"""Two runs side by side: which component is which, what moved, appeared and vanished."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from distem.fitted import FittedModel
from distem.matching import Matching, Parts, match, pooled_spread
from distem.report.reading import Found, read
from distem.report.words import count, listed, number, plain, share
from distem.types import Float64

THRESHOLD = 0.1
"""A component that moved less counts as the same: a tenth of a standard deviation, or of Hellinger's most."""
SHARES = 0.1
"""Shares that differ by less of the rows count as the same."""
_NOISE = 1e-5
"""What rounding makes of no distance at all."""
Verdict = Literal["same", "moved", "changed"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two runs with their components matched.

    Attributes
    ----------
    runs : tuple of Found
    parts : tuple of Parts
        The components of each, over the features of the first.
    matching : Matching
    threshold : float
        Above it a component has moved.
    shares_threshold : float
        The shares have moved if they differ by more of the rows.
    """

    runs: tuple[Found, Found]
    parts: tuple[Parts, Parts]
    matching: Matching
    threshold: float
    shares_threshold: float = SHARES

    @property
    def verdict(self) -> Verdict:
        """same: all within the thresholds; moved: some, or the shares, are not; changed: some are alone."""
        if self.matching.vanished or self.matching.appeared:
            return "changed"
        return "moved" if self.largest > self.threshold or self.redistributed else "same"

    @property
    def largest(self) -> float:
        """Largest distance of a pair; 0 where there is none."""
        return float(self.matching.distances.max(initial=0.0))

    @property
    def redistributed(self) -> bool:
        """Whether the shares differ by more than the threshold."""
        return self.share_moved > self.shares_threshold

    def beyond(self, limit: float) -> bool:
        """Whether a component moved further than a limit, appeared or vanished, or the shares moved."""
        return self.verdict == "changed" or self.largest > limit or self.redistributed

    @cached_property
    def shares(self) -> Float64:
        """Share in either run of each pair, shape (pairs, 2)."""
        a, b = self.parts
        return np.array([(a.weights[i], b.weights[j]) for i, j in self.matching.pairs]).reshape(-1, 2)

    @property
    def share_moved(self) -> float:
        """Share of the rows that went to another component: half the sum of absolute differences."""
        a, b = self.parts
        alone = sum(a.weights[list(self.matching.vanished)]) + sum(b.weights[list(self.matching.appeared)])
        return float(0.5 * (np.abs(self.shares[:, 1] - self.shares[:, 0]).sum() + alone))

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        part, m = self.parts[0].part, self.matching
        if self.verdict == "same":
            furthest = "none moved"
            if self.largest > _NOISE:
                furthest = f"the furthest moved {number(self.largest, 2)}"
            return (
                f"The same {part}s: each of the {len(m.pairs)} lies within {number(self.threshold, 3)} of "
                f"its partner; {furthest}; their shares differ by {share(self.share_moved)}."
            )
        told = []
        moved = int((m.distances > self.threshold).sum())
        if moved:
            told.append(
                f"{count(moved, part)} of {len(m.pairs)} moved by more than {number(self.threshold, 3)}, "
                f"at most {number(self.largest, 2)}"
            )
        if self.redistributed:
            told.append(f"the shares differ by {share(self.share_moved)} of the rows")
        if m.vanished:
            told.append(f"{listed([str(i) for i in m.vanished])} of the first vanished")
        if m.appeared:
            told.append(f"{listed([str(j) for j in m.appeared])} of the second appeared")
        return f"{'Changed' if self.verdict == 'changed' else 'Moved'}: {'; '.join(told)}."

    @property
    def measure(self) -> str:
        """What distances are in."""
        hellinger = self.parts[0].symbols is not None
        return "Hellinger distance" if hellinger else "standard deviations of the data"

    def furthest_feature(self, pair: int) -> tuple[int, str]:
        """The feature whose mean or spread moved most, and how, in the data's own units."""
        (i, j), (a, b) = self.matching.pairs[pair], self.parts
        scale = pooled_spread(a, b)
        sds = [np.sqrt(np.diagonal(p.covariances[c])) for p, c in ((a, i), (b, j))]
        shift, wider = np.abs(b.means[j] - a.means[i]) / scale, np.abs(sds[1] - sds[0]) / scale
        feature = int(np.argmax(np.maximum(shift, wider)))
        unit = a.units.get(a.features[feature], "")
        if shift[feature] >= wider[feature]:
            what, old, new = "mean", a.means[i, feature], b.means[j, feature]
        else:
            what, old, new = "spread", sds[0][feature], sds[1][feature]
        digits = _digits(float(old), float(new))
        change = f"{number(float(old), digits)} → {number(float(new), digits)} {unit}".strip()
        return feature, f"{what} of {plain(a.features[feature])} {change}"

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        (a, b), m = self.parts, self.matching
        return {
            "run_a": self.runs[0].folder,
            "run_b": self.runs[1].folder,
            "kind": a.kind,
            "verdict": self.verdict,
            "threshold": self.threshold,
            "largest_distance": self.largest,
            "share_moved": self.share_moved,
            "shares_threshold": self.shares_threshold,
            "components": [a.k, b.k],
            "log_likelihood": [_likelihood(run) for run in self.runs],
            "features": list(a.features),
            "matched": [
                {
                    "a": i,
                    "b": j,
                    "distance": float(m.distances[p]),
                    "moved": bool(m.distances[p] > self.threshold),
                    "share_a": float(a.weights[i]),
                    "share_b": float(b.weights[j]),
                    "mean_a": a.means[i].tolist(),
                    "mean_b": b.means[j].tolist(),
                }
                for p, (i, j) in enumerate(m.pairs)
            ],
            "vanished": list(m.vanished),
            "appeared": list(m.appeared),
        }

    def rows(self) -> list[tuple[str, ...]]:
        """A table: number in either run, share in either, distance, what moved most; first the headings."""
        a, b = self.parts
        found: list[tuple[str, ...]] = [(a.part, "is now", "share", "now", "distance", "what moved most")]
        for p, (i, j) in enumerate(self.matching.pairs):
            far = float(self.matching.distances[p])
            moved = self.furthest_feature(p)[1] if far > _NOISE else ""
            shares = share(a.weights[i]), share(b.weights[j])
            far_ = number(far, 2) if far > _NOISE else "0"
            found.append((str(i), str(j), *shares, far_ + (" *" if far > self.threshold else ""), moved))
        found += [(str(i), "–", share(a.weights[i]), "–", "", "vanished") for i in self.matching.vanished]
        found += [("–", str(j), "–", share(b.weights[j]), "", "appeared") for j in self.matching.appeared]
        return found

    def lines(self) -> list[str]:
        """The comparison as text."""
        rows = self.rows()
        widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
        table = [
            "  ".join(cell.rjust(w) if c < 5 else cell for c, (cell, w) in enumerate(zip(row, widths)))
            for row in rows
        ]
        a, b = self.parts
        limit = share(self.shares_threshold)
        likelihoods = [number(_likelihood(run), 6) for run in self.runs]
        return [
            self.sentence,
            "",
            *(line.rstrip() for line in table),
            "",
            f"Distances in {self.measure}; * is more than {number(self.threshold, 3)}.",
            f"The shares differ by {share(self.share_moved)} of the rows (moved: over {limit}).",
            f"{a.part.capitalize()}s: {a.k} and {b.k}.",
            f"Log-likelihood per row: {likelihoods[0]} and {likelihoods[1]}.",
        ]


def compare(
    first: str | Path,
    second: str | Path,
    threshold: float = THRESHOLD,
    apart: float | None = None,
    shares_threshold: float = SHARES,
    fail_over: float = 0.0,
) -> Comparison:
    """Match the components of two complete runs.

    Parameters
    ----------
    first, second : str or Path
        Run folders.
    threshold : float
        A component that moved further has moved.
    apart : float, optional
        Components further apart are not the same one, unless one of the other limits is larger; default:
        one standard deviation of the data, or a Hellinger distance of a half.
    shares_threshold : float
        The shares have moved if they differ by more of the rows.
    fail_over : float
        What the comparison will be held against.

    Raises
    ------
    ConfigError
        They are no complete runs, or of different kinds, features or units.
    """
    runs = read(first), read(second)
    a, b = (Parts.of(FittedModel.from_dataset(run.model)) for run in runs)
    b = b.over(a.features) if a.kind == b.kind else b
    furthest = max(a.apart if apart is None else apart, threshold, fail_over)
    return Comparison(runs, (a, b), match(a, b, furthest), threshold, shares_threshold)


def _likelihood(run: Found) -> float:
    return float(run.say("fit", "log_likelihood", otherwise=np.nan))


def _digits(old: float, new: float) -> int:
    """So many digits that the difference shows."""
    gap, size = abs(new - old), max(abs(old), abs(new))
    if gap == 0.0 or size == 0.0:
        return 4
    return int(np.clip(np.ceil(np.log10(size / gap)) + 2, 3, 9))
