"""The section `model`: what is fitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from distem.config.fields import CountOrCounts, CovarianceOrList, CovarianceType
from distem.config.section import Section

if TYPE_CHECKING:
    from distem.models.mixture import Mixture
    from distem.types import Float64


class ModelConfig(Section):
    """What is fitted, whatever its family."""

    kind: str = Field(description="The family of models.")


class GaussianMixtureConfig(ModelConfig):
    """A mixture of Gaussians."""

    kind: Literal["gaussian_mixture"] = Field(description="A mixture of Gaussians.")
    components: CountOrCounts = Field(
        description="The number of components; a list makes candidates, all fitted in one read of the data."
    )
    covariance: CovarianceOrList = Field(
        default="full", description="The shape of the components' covariances; a list makes candidates too."
    )
    reg_covar: Annotated[float, Field(ge=0)] = Field(
        default=1e-6,
        description="Added to the diagonal of every covariance, in the scaled features' squared units.",
    )
    floor: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="The smallest variance a component may have, relative to the data's own: "
        "one that reaches it has collapsed. null: 1e-24, or 1e-30 beside a reg_covar above 0.",
    )
    on_collapse: Literal["reseed", "drop"] = Field(
        default="reseed", description="What becomes of a component that has lost its rows."
    )

    @property
    def n_components(self) -> tuple[int, ...]:
        """The candidates' numbers of components, one or more."""
        return self.components if isinstance(self.components, tuple) else (self.components,)

    @property
    def covariance_types(self) -> tuple[CovarianceType, ...]:
        """The candidates' covariance types, one or more."""
        return self.covariance if isinstance(self.covariance, tuple) else (self.covariance,)

    def build(
        self, covariance: CovarianceType, variance: Float64, kernels: str, units: Float64 | None = None
    ) -> Mixture:
        """Make the mixture of one candidate.

        Parameters
        ----------
        covariance : str
            Shape of its covariances.
        variance : ndarray, shape (d,)
            Of the data, in the model's units.
        kernels : str
            Which kernels do the work.
        units : ndarray, shape (d,), or None
            The model's units in those `reg_covar` is meant in, where they differ.
        """
        from distem.models.gaussian import Gaussian, in_units, relative_floor
        from distem.models.mixture import Mixture

        floor = relative_floor(self.reg_covar) if self.floor is None else self.floor
        return Mixture(Gaussian(covariance, in_units(self.reg_covar, units), floor, variance, kernels))


AnyModel = GaussianMixtureConfig
"""One of the families; a union discriminated by `kind` once there are more."""
