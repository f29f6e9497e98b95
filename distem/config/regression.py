"""The section `model` for `kind: regression_mixture`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, PrivateAttr, field_validator

from distem.config.fields import CountOrCounts, Text, TextOrTexts, Texts, wrong
from distem.config.fit import GivenParameters
from distem.config.model import ModelConfig
from distem.errors import ConfigError

if TYPE_CHECKING:
    from distem.config.top import Config
    from distem.data.scan import Scan
    from distem.data.transform import Transform
    from distem.models.design import Design
    from distem.models.regression import RegressionMixture
    from distem.types import Float64


class RegressionMixtureConfig(ModelConfig):
    """A mixture of linear regressions."""

    kind: Literal["regression_mixture"] = Field(description="A mixture of linear regressions.")
    components: CountOrCounts = Field(
        description="The number of regressions; a list makes candidates, all fitted in one read of the data."
    )
    response: TextOrTexts = Field(description="The features that are explained, one or more.")
    design: Annotated[tuple[Text, ...], Field(min_length=1, strict=False)] | None = Field(
        default=None,
        description="The terms that explain them: 1, features, their powers and products, such as x, x^2 "
        "and x*z; null: 1 and all features that are no response.",
    )
    noise: Literal["diag", "full"] = Field(
        default="diag", description="Whether the noise of a row's responses is independent."
    )
    position: Texts | None = Field(
        default=None,
        description="Features that say where a row lies: each component has a Gaussian of them too.",
    )
    outliers: bool = Field(
        default=False,
        description="One component more, the last, of the same density all over the range of the responses; "
        "its share is estimated.",
    )
    noise_floor: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=1e-6,
        description="The least standard deviation of the noise, relative to that of the response.",
    )
    defaults: ClassVar[dict[str, dict[str, Any]]] = {"fit": {"init": "random_from_data"}}

    _features: tuple[str, ...] = PrivateAttr(default=())
    _reach: tuple[float, ...] = PrivateAttr(default=())

    @field_validator("design", mode="before")
    @classmethod
    def _constant(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        # the constant is a number in YAML
        return [str(term) if type(term) is int else term for term in value]

    @property
    def n_components(self) -> tuple[int, ...]:
        """The candidates' numbers of regressions, one or more."""
        return self.components if isinstance(self.components, tuple) else (self.components,)

    @property
    def variants(self) -> tuple[str, ...]:
        """The noise's shape."""
        return (self.noise,)

    @property
    def responses(self) -> tuple[str, ...]:
        """Names of the responses."""
        return (self.response,) if isinstance(self.response, str) else self.response

    @property
    def terms(self) -> Design:
        """The design, over the features that are no response."""
        from distem.models.design import Design

        predictors = [name for name in self._features if name not in self.responses]
        if self.design is None:
            return Design.linear(predictors)
        return Design.parsed(self.design, predictors)

    def build(
        self,
        variant: str,
        variance: Float64,
        kernels: str,
        units: Float64 | None = None,  # noqa: ARG002 -- the floor is relative
    ) -> RegressionMixture:
        """Make the mixture of one candidate; see `ModelConfig.build`."""
        import numpy as np

        from distem.kernels.regression_reference import Layout
        from distem.models.regression import RegressionMixture

        design, names = self.terms, list(self._features)
        columns = np.array([names.index(name) for name in design.names] + [-1])
        factors = np.where(design.factors >= 0, columns[design.factors], -1)
        responses = np.array([[names.index(name) for name in self.responses]])
        position = np.array([names.index(name) for name in self.position or ()], dtype=np.int64)
        ranged = np.concatenate([responses[0], position])
        reach = np.array(self._reach)[ranged] if self._reach else np.ones(len(ranged))
        sides = reach * np.sqrt(variance[ranged])
        return RegressionMixture(
            Layout(factors, responses, position),
            variant,
            self.noise_floor**2,
            variance[responses[0]],
            -float(np.log(sides).sum()) if self.outliers else -np.inf,
            kernels,
        )

    def seen(self, scan: Scan) -> RegressionMixtureConfig:
        """The same with the range of each feature, in standard deviations.

        Raises
        ------
        DataError
            Outliers have no range to lie in.
        """
        import numpy as np

        from distem.errors import DataError

        known = self.model_copy()
        with np.errstate(divide="ignore", invalid="ignore"):
            reach = (scan.maximum - scan.minimum) / scan.std
        flat = [
            name
            for name, constant in zip(self._features, scan.constant, strict=True)
            if constant and name in (*self.responses, *(self.position or ()))
        ]
        if self.outliers and flat:
            raise DataError(
                f"'{flat[0]}' has one value only: outliers have no range to lie in.", "Leave outliers out."
            )
        known._reach = tuple(np.where(np.isfinite(reach), reach, 1.0).tolist())
        return known

    def units(self, transform: Transform) -> Transform:
        """Without shifts where the design holds only about zero."""
        import numpy as np

        design = self.terms
        if design.closed or transform.shift is None:
            return transform
        moves = np.array([design.constant is not None and name in self.responses for name in self._features])
        return replace(transform, shift=np.where(moves, transform.shift, 0.0))

    def sums(self, k: int, d: int) -> int:
        """Moments of design and residuals."""
        p = len(self.design) if self.design else d
        return k * (p + d) ** 2

    def warming(self, precision: str) -> Callable[[], float]:  # noqa: ARG002 -- all is float64
        """The kernels of regressions."""
        from distem.kernels.regression_compiled import warm

        return warm

    def check(self, config: Config) -> None:
        """Names there must be, and units that the design allows."""
        super().check(config)
        features = config.data.features
        if not isinstance(features, tuple):
            raise wrong("must be a list that names predictors and responses", "data", "features")
        self._features = features
        for key, names in (("response", self.responses), ("position", self.position or ())):
            for name in names:
                if name not in features:
                    raise wrong(f"names {name!r}, which is no feature: {', '.join(features)}", "model", key)
        if set(self.position or ()) & set(self.responses):
            raise wrong("names a response; where a row lies is given", "model", "position")
        try:
            _ = self.terms
        except ConfigError as error:
            raise wrong(f"is wrong: {error.fact}", "model", "design") from error
        if config.data.scale == "whiten":
            raise wrong("is whiten, which mixes predictors and responses; use standard", "data", "scale")
        if isinstance(config.fit.init, GivenParameters):
            raise wrong("gives means, which regressions have not; name a start or a run", "fit", "init")
