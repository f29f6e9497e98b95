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
    floor: Annotated[float, Field(gt=0)] = Field(
        default=1e-24,
        description="The smallest variance a component may have, relative to the data's own: "
        "one that reaches it has collapsed.",
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

    def build(self, covariance: CovarianceType, variance: Float64, kernels: str) -> Mixture:
        """Make the mixture of one candidate; `variance` is the data's, in the model's units, (d,)."""
        from distem.models.gaussian import Gaussian
        from distem.models.mixture import Mixture

        return Mixture(Gaussian(covariance, self.reg_covar, self.floor, variance, kernels))


AnyModel = GaussianMixtureConfig
"""One of the families; a union discriminated by `kind` once there are more."""
