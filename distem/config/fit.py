"""The section `fit`: how the model is fitted."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from distem.config.fields import (
    GIVEN,
    NAMED,
    Count,
    InitName,
    Matrix,
    NamedOrGiven,
    Nested,
    Shares,
    Vector,
    wrong,
)
from distem.config.section import Section


class GivenParameters(Section):
    """Starting parameters written into the config, in the data's own units."""

    weights: Vector | None = Field(
        default=None, description="The components' weights; they sum to 1. Only kmeans does without."
    )
    means: Matrix = Field(description="The components' means, one row a component.")
    covariances: Nested | None = Field(
        default=None,
        description="The covariances: [k][d][d] for full, [d][d] for tied, [k][d] for diag, [k] for "
        "spherical; null: the data's own.",
    )

    @model_validator(mode="after")
    def _shapes(self) -> GivenParameters:
        k = len(self.means)
        if len({len(row) for row in self.means}) > 1:
            raise wrong("needs rows of one length", "means")
        if self.weights is None:
            return self
        if len(self.weights) != k:
            raise wrong(f"needs one weight for each of the {k} means, got {len(self.weights)}", "weights")
        if min(self.weights) < 0 or not math.isclose(sum(self.weights), 1, abs_tol=1e-6):
            raise wrong(
                f"needs numbers of at least 0 that sum to 1, got a sum of {sum(self.weights):g}", "weights"
            )
        return self


SAMPLE_BYTES = 32 * 2**20
"""The most bytes of a sample: workers and driver hold it whole, however much data there is."""


class SampleFirstConfig(Section):
    """Short climbs on a growing random sample before the first pass over all rows."""

    shares: Shares = Field(
        default=(0.01, 0.1), description="Shares of the rows to climb on, in this order; [] for none."
    )
    from_rows: Count = Field(default=10_000_000, description="Smaller data is climbed on at once.")

    def sizes(self, n: int, d: int) -> tuple[int, ...]:
        """Rows of each sample from n rows of d features, growing; none where the data is small."""
        if n < self.from_rows:
            return ()
        most = max(1, SAMPLE_BYTES // (8 * (d + 2)))
        return tuple(sorted({min(max(1, round(share * n)), most) for share in self.shares}))


class FitConfig(Section):
    """How the model is fitted."""

    init: Annotated[Annotated[InitName, NAMED] | Annotated[GivenParameters, GIVEN], NamedOrGiven] = Field(
        default="kmeans",
        description="Where the fit starts: kmeans, kmeans||, kmeans++, random, random_from_data, the path "
        "of a run folder (warm start; may hold ${env:NAME}), or the parameters themselves.",
    )
    init_scale: Literal["none", "whiten"] = Field(
        default="none",
        description="Units in which a start by name measures distance: the model's, or whitened by the "
        "data's covariance, so that clusters that are long in one direction are not cut across.",
    )
    init_tries: Count = Field(
        default=4,
        description="Starts by name that are tried on the sample for each restart: the likeliest after a few "
        "passes over it is where the fit starts. 1 takes the first as it is. kmeans||, which looks at all "
        "rows, is never tried twice.",
    )
    restarts: Count = Field(default=1, description="Starts for each candidate; the best is kept.")
    tolerance: Annotated[float, Field(gt=0)] = Field(
        default=1e-6,
        description="Stop when the gain still expected, in log-likelihood per row, is below this.",
    )
    max_passes: Count = Field(default=500, description="The most passes over the data.")
    acceleration: Literal["none", "squarem", "anderson"] = Field(
        default="anderson",
        description="none is plain EM; the others take fewer passes to the same end, anderson the fewest.",
    )
    sample_first: SampleFirstConfig | None = Field(
        default=None,
        description="Short climbs on samples before the first pass over all rows, where the fit starts by "
        "name and rows have no weights; {} for the usual ones, null for none.",
    )
    precision: Literal["float64", "float32"] = Field(
        default="float64", description="Of the rows while they are worked on; sums are float64 in any case."
    )
    select: Literal["bic", "aic", "icl", "cv"] = Field(
        default="bic",
        description="Picks the best of several candidates: an information criterion, or cv, the "
        "log-likelihood of rows that were held out.",
    )
    folds: Annotated[int, Field(ge=2, le=100)] = Field(
        default=5,
        description="With select: cv, into how many parts the rows are cut; each is held out once. All "
        "these fits share the passes of the others.",
    )
    drop: Literal["restarts", "hopeless", "never"] = Field(
        default="restarts",
        description="Go on without fits of a sweep that cannot win any more: restarts compares those of one "
        "candidate, hopeless candidates as well, whose criteria are then bounds. The manifest tells the "
        "rule, and each fit with its numbers.",
    )
    kernels: Literal["compiled", "reference"] = Field(
        default="compiled", description="compiled is fast; reference is plain NumPy, to check against."
    )
    stall_timeout: Annotated[float, Field(gt=0)] | None = Field(
        default=1800.0,
        description="End with exit code 75, and the cause that can be seen, when no task of a pass, of "
        "cluster.kind threads no block, gets done for so many seconds; null: wait for ever. A serial run "
        "is not watched.",
    )
    require_convergence: bool = Field(
        default=False, description="End with exit code 4 if the fit stops before it converged."
    )
    sample_rows: Count = Field(
        default=20_000, description="Rows drawn for seeding and for the report's pictures."
    )
