"""The section `model`: what is fitted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from distem.config.fields import (
    VARIABLES,
    CountOrCounts,
    CovarianceOrList,
    CovarianceType,
    TextOrTexts,
    VariableName,
    nesting,
    wrong,
)
from distem.config.fit import GivenParameters
from distem.config.section import Section

if TYPE_CHECKING:
    from distem.config.top import Config
    from distem.data.scan import Scan
    from distem.data.source import Source
    from distem.data.transform import Transform
    from distem.execution.base import BlockSet
    from distem.models.base import Model
    from distem.models.kmeans import KMeans
    from distem.models.markov import HiddenMarkov
    from distem.models.mixture import Mixture
    from distem.types import Float64


MOST_COLOURS = 255
"""Labels that the palette of an image has room for."""


class ModelConfig(Section):
    """What is fitted, whatever its family.

    Attributes
    ----------
    defaults : dict
        By section, what keys that were not written mean for this kind.
    can_write : tuple of str
        What can be written for each row.
    count : str
        The key that says how many components there are.
    chained : bool
        Whether a row tells of those beside it: rows come in sequences.
    soft : bool
        Whether a row belongs to its parts by probabilities of its own, which neighbours can sway.
    """

    kind: str = Field(description="The family of models.")

    defaults: ClassVar[dict[str, dict[str, Any]]] = {}
    can_write: ClassVar[tuple[VariableName, ...]] = VARIABLES
    count: ClassVar[str] = "components"
    soft: ClassVar[bool] = True
    chained: ClassVar[bool] = False
    on_collapse: Literal["reseed", "drop"] = Field(
        default="reseed", description="What becomes of a component that has lost its rows."
    )

    @property
    def n_components(self) -> tuple[int, ...]:
        """The candidates' numbers of components, one or more."""
        raise NotImplementedError

    @property
    def variants(self) -> tuple[str, ...]:
        """What besides their number of components tells the candidates apart, one or more."""
        raise NotImplementedError

    def build(self, variant: str, variance: Float64, kernels: str, units: Float64 | None = None) -> Model:
        """Make the model of one candidate.

        Parameters
        ----------
        variant : str
            One of `variants`.
        variance : ndarray, shape (d,)
            Of the data, in the model's units.
        kernels : str
            Which kernels do the work.
        units : ndarray, shape (d,), or None
            The model's units in those the config's own numbers are meant in, where they differ.
        """
        raise NotImplementedError

    def arrange(self, source: Source, again: Callable[[str], Source]) -> Source:  # noqa: ARG002
        """The data as this kind takes it; `again` opens it with a column as its only feature."""
        return source

    def units(self, transform: Transform) -> Transform:
        """The transform as this kind takes it."""
        return transform

    def examine(self, blocks: BlockSet, scan: Scan, source: Source) -> None:
        """Refuse rows that this kind cannot explain; `blocks` are as they are stored."""

    def seen(self, scan: Scan) -> ModelConfig:  # noqa: ARG002
        """The same with what was left open and the data tells."""
        return self

    @property
    def working_bytes(self) -> int:
        """Bytes that a thread works with beside a block and its sums."""
        return 0

    @property
    def working_row_bytes(self) -> int:
        """The same for each row of the block."""
        return 0

    @property
    def beside_row(self) -> int:
        """Bytes that passes leave beside each row that stays in memory, for each candidate."""
        return 0

    def sums(self, k: int, d: int) -> int:
        """Numbers in the statistics of a candidate."""
        raise NotImplementedError

    def warming(self, precision: str) -> Callable[[], float]:
        """What compiles the kernels, and returns the seconds it took."""
        raise NotImplementedError

    def check(self, config: Config) -> None:
        """Refuse what the rest of a config asks for and this kind cannot do."""
        if config.data.missing == "marginalise" and not self.chained:
            raise wrong(
                f"is marginalise, which is for sequences of rows, and kind {self.kind} knows none; use drop",
                "data",
                "missing",
            )
        if config.output.match is not None and self.kind in ("motion", "regression_mixture"):
            raise wrong(
                f"is for parts that have means, and those of {self.kind} have none", "output", "match"
            )
        if config.output.variables and not set(config.output.variables) <= set(self.can_write):
            odd = next(name for name in config.output.variables if name not in self.can_write)
            raise wrong(
                f"names {odd!r}, which a model of kind {self.kind} has not; it can write "
                f"{', '.join(self.can_write)}",
                "output",
                "variables",
            )
        if config.output.images and max(self.n_components) > MOST_COLOURS:
            raise wrong(
                f"has room for {MOST_COLOURS} labels; model.{self.count} goes up to {max(self.n_components)}",
                "output",
                "images",
            )
        if config.output.smoothing is not None and not self.soft:
            raise wrong(
                f"is for models with probabilities between 0 and 1, and one of kind {self.kind} has none",
                "output",
                "smoothing",
            )
        init = config.fit.init
        if isinstance(init, GivenParameters) and self.n_components != (len(init.means),):
            wanted = ", ".join(str(n) for n in self.n_components)
            raise wrong(
                f"has {len(init.means)} means; model.{self.count} is {wanted}, and must be their number",
                "fit",
                "init",
            )


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

    @property
    def n_components(self) -> tuple[int, ...]:
        """The candidates' numbers of components, one or more."""
        return self.components if isinstance(self.components, tuple) else (self.components,)

    @property
    def variants(self) -> tuple[str, ...]:
        """The candidates' covariance types, one or more."""
        return self.covariance if isinstance(self.covariance, tuple) else (self.covariance,)

    def build(self, variant: str, variance: Float64, kernels: str, units: Float64 | None = None) -> Mixture:
        """Make the mixture of one candidate; see `ModelConfig.build`."""
        from distem.models.gaussian import Gaussian, in_units, relative_floor
        from distem.models.mixture import Mixture

        floor = relative_floor(self.reg_covar) if self.floor is None else self.floor
        return Mixture(Gaussian(variant, in_units(self.reg_covar, units), floor, variance, kernels))

    def sums(self, k: int, d: int) -> int:
        """Moments of each component: of matrices where a candidate has them."""
        return k * (d * (d if {"full", "tied"} & set(self.variants) else 1) + d + 1)

    def warming(self, precision: str) -> Callable[[], float]:
        """The kernels of each covariance type."""
        from distem.kernels.compiled import warm_all

        return partial(warm_all, self.variants, precision)

    def check(self, config: Config) -> None:
        """Given weights there must be, and covariances of the shape that the one covariance type says."""
        init, types = config.fit.init, self.variants
        if isinstance(init, GivenParameters) and init.weights is None:
            raise wrong("is missing", "fit", "init", "weights")
        super().check(config)
        if not isinstance(init, GivenParameters) or init.covariances is None:
            return
        depth = {"full": 3, "tied": 2, "diag": 2, "spherical": 1}[types[0]]
        if len(types) > 1 or nesting(init.covariances) != depth:
            raise wrong(
                f"does not have the shape that model.covariance says ({', '.join(types)})",
                "fit",
                "init",
                "covariances",
            )


class KMeansConfig(ModelConfig):
    """Lloyd's k-means: hard, round clusters, the limit of a mixture."""

    kind: Literal["kmeans"] = Field(description="Lloyd's k-means: hard, round clusters.")
    components: CountOrCounts = Field(
        description="The number of clusters; a list makes candidates, all fitted in one read of the data."
    )
    bounds: bool = Field(
        default=True,
        description="Keep bounds of the distances beside rows that stay in memory, 12 bytes a row and "
        "candidate: they spare most of the distances, and change no bit of the result.",
    )
    defaults: ClassVar[dict[str, dict[str, Any]]] = {
        "fit": {"init": "kmeans||", "acceleration": "none"},
        "output": {"variables": ("label", "distance")},
    }
    can_write: ClassVar[tuple[VariableName, ...]] = ("label", "probability", "uncertainty", "distance")
    soft: ClassVar[bool] = False

    @property
    def n_components(self) -> tuple[int, ...]:
        """The candidates' numbers of clusters, one or more."""
        return self.components if isinstance(self.components, tuple) else (self.components,)

    @property
    def variants(self) -> tuple[str, ...]:
        """One: clusters are round and alike."""
        return ("spherical",)

    @property
    def beside_row(self) -> int:
        """Of the bounds."""
        from distem.models.kmeans import BESIDE_ROW

        return BESIDE_ROW if self.bounds else 0

    def build(
        self,
        variant: str,  # noqa: ARG002 -- there is one
        variance: Float64,  # noqa: ARG002 -- clusters have none of their own
        kernels: str,
        units: Float64 | None = None,  # noqa: ARG002
    ) -> KMeans:
        """Make the model; see `ModelConfig.build`."""
        from distem.models.kmeans import KMeans

        return KMeans(kernels=kernels, bounds=self.bounds)

    def sums(self, k: int, d: int) -> int:
        """Mass and first moments."""
        return k * (d + 1)

    def warming(self, precision: str) -> Callable[[], float]:
        """The kernels of k-means."""
        from distem.kernels.compiled_centres import warm

        return partial(warm, precision)

    def check(self, config: Config) -> None:
        """Nothing that needs a density."""
        super().check(config)
        if config.fit.select in ("cv", "icl"):
            raise wrong(
                f"is {config.fit.select}, which needs a density, and k-means has none; use bic or aic",
                "fit",
                "select",
            )
        if config.fit.drop == "hopeless":
            raise wrong("is hopeless, which needs a density, and k-means has none", "fit", "drop")
        if config.fit.init == "random":
            raise wrong("is random, which gives all clusters one centre; use kmeans||", "fit", "init")
        if isinstance(config.fit.init, GivenParameters) and config.fit.init.covariances is not None:
            raise wrong("is for mixtures: clusters of k-means have none", "fit", "init", "covariances")


class HiddenMarkovConfig(ModelConfig):
    """A hidden Markov model: rows in sequences, states that follow each other."""

    kind: Literal["hidden_markov"] = Field(description="A hidden Markov model: rows in sequences.")
    states: CountOrCounts = Field(
        description="The number of states; a list makes candidates, all fitted in one read of the data."
    )
    emission: Literal["gaussian", "poisson", "categorical"] = Field(
        default="gaussian",
        description="What a state says: Gaussian numbers, counts, or one of some symbols (0, 1, 2 ...).",
    )
    covariance: CovarianceType = Field(
        default="full", description="The shape of the covariances of Gaussian states."
    )
    components_per_state: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=1,
        description="Gaussians of each state; of several what it says is a mixture, and tied is one "
        "covariance for those of a state.",
    )
    sequence: TextOrTexts | None = Field(
        default=None,
        description="What tells sequences apart: a dimension of the samples, each index of which is one (all "
        "but the one that rows follow each other along, and before it); or a variable of ids, one for each "
        "row; or of offsets, where each begins, and the end. null: all rows are one.",
    )
    stationary: bool = Field(
        default=False, description="Whether sequences start as the chain is in the long run."
    )
    symbols: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(
        default=None, description="How many symbols there are; null: one more than the largest in the data."
    )
    reg_covar: Annotated[float, Field(ge=0)] = Field(
        default=1e-6,
        description="Added to the variances of Gaussian states, in the scaled features' squared units.",
    )
    score_sequences: bool = Field(
        default=False, description="Write the log-likelihood of every sequence: the group sequences."
    )
    count: ClassVar[str] = "states"
    chained: ClassVar[bool] = True
    can_write: ClassVar[tuple[VariableName, ...]] = (*VARIABLES, "path")
    defaults: ClassVar[dict[str, dict[str, Any]]] = {"output": {"variables": (*VARIABLES, "path")}}

    @property
    def n_components(self) -> tuple[int, ...]:
        """The candidates' numbers of states, one or more."""
        return self.states if isinstance(self.states, tuple) else (self.states,)

    @property
    def variants(self) -> tuple[str, ...]:
        """One: what the states say, Gaussian numbers by the shape of their covariances."""
        return (f"{self.covariance} {self.emission}" if self.emission == "gaussian" else self.emission,)

    def arrange(self, source: Source, again: Callable[[str], Source]) -> Source:
        """The rows in sequences."""
        from distem.data.sequences import in_sequences

        return in_sequences(source, self.sequence, again)

    def units(self, transform: Transform) -> Transform:
        """Counts and symbols as they are; missing rows in their places."""
        from dataclasses import replace

        from distem.data.transform import Transform

        if self.emission != "gaussian":
            return Transform(missing="marginalise", dtype=transform.dtype)
        return replace(transform, missing="marginalise")

    def examine(self, blocks: BlockSet, scan: Scan, source: Source) -> None:
        """Counts and symbols are whole numbers.

        Raises
        ------
        DataError
            One is not, or symbols have more than one feature.
        """
        from distem.data.whole import WholePass, symbols_up_to
        from distem.errors import DataError

        if self.emission == "gaussian":
            return
        symbols = None if self.emission == "poisson" else self.symbols or 0
        if symbols is not None and scan.d != 1:
            raise DataError(f"The data has {scan.d} features; symbols are one a row.", "Name one feature.")
        blocks.map_reduce(WholePass(symbols)).refuse(symbols, source.features)
        if symbols == 0 and scan.usable:
            symbols_up_to(float(scan.maximum[0]), f"'{source.features[0]}'", "model.symbols")

    def seen(self, scan: Scan) -> ModelConfig:
        """The number of symbols."""
        if self.emission != "categorical" or self.symbols is not None:
            return self
        return self.model_copy(update={"symbols": int(scan.maximum[0]) + 1})

    def build(
        self,
        variant: str,  # noqa: ARG002 -- there is one
        variance: Float64,
        kernels: str,
        units: Float64 | None = None,
    ) -> HiddenMarkov:
        """Make the model of one candidate; see `ModelConfig.build`."""
        from distem.models.discrete import Categorical, Poisson
        from distem.models.gaussian import Gaussian, in_units, relative_floor
        from distem.models.markov import HiddenMarkov
        from distem.models.mixed import MixedGaussians

        if self.emission == "poisson":
            return HiddenMarkov(Poisson(), self.stationary, kernels)
        if self.emission == "categorical":
            return HiddenMarkov(Categorical(self.symbols or 1), self.stationary, kernels)
        floor, m = relative_floor(self.reg_covar), self.components_per_state
        tied = m > 1 and self.covariance == "tied"
        shape = "full" if tied else self.covariance
        component = Gaussian(shape, in_units(self.reg_covar, units), floor, variance, kernels)
        mixed = MixedGaussians(component, m, tied) if m > 1 else component
        return HiddenMarkov(mixed, self.stationary, kernels)

    @property
    def working_bytes(self) -> int:
        """What a sweep remembers, and the matrices of a tile."""
        from distem.models._sweep import KEPT_BYTES, TILE

        return KEPT_BYTES + 8 * TILE * 8 * max(self.n_components) * self.components_per_state

    @property
    def working_row_bytes(self) -> int:
        """Where rows lie in the data, which of them begin a sequence, and their log densities."""
        return 32

    def sums(self, k: int, d: int) -> int:
        """Moments and transitions."""
        wide = d if self.emission == "gaussian" and self.covariance in ("full", "tied") else 1
        each = k * self.components_per_state
        return each * (d * wide + d + 1) + k * (k + 1) + (k * (self.symbols or 256))

    def warming(self, precision: str) -> Callable[[], float]:
        """The kernels of chains, and of Gaussian states."""
        return partial(_warm_chains, (self.covariance,) if self.emission == "gaussian" else (), precision)

    def check(self, config: Config) -> None:
        """Nothing that takes rows out of their places."""
        if config.data.missing == "drop":
            raise wrong(
                "is drop, which would tear sequences; use marginalise: such a row says nothing, in its place",
                "data",
                "missing",
            )
        if config.data.weights is not None:
            raise wrong("is for rows without an order; rows of sequences have none", "data", "weights")
        if config.fit.select == "cv":
            raise wrong(
                "is cv, which holds out rows one by one; those beside them tell of them: use bic",
                "fit",
                "select",
            )
        if config.output.smoothing is not None:
            raise wrong("is for pictures; a chain smooths along its rows already", "output", "smoothing")
        if self.components_per_state > 1 and self.emission != "gaussian":
            raise wrong(
                f"is {self.components_per_state}, and is for Gaussian states; these say {self.emission}",
                "model",
                "components_per_state",
            )
        super().check(config)
        init = config.fit.init
        if isinstance(init, GivenParameters):
            if self.components_per_state > 1:
                raise wrong(
                    "has one mean a state; states of several Gaussians start by name, or from a run",
                    "fit",
                    "init",
                )
            if self.emission == "categorical":
                raise wrong("has means; states that say symbols start by name, or from a run", "fit", "init")
            if self.emission == "poisson" and init.covariances is not None:
                raise wrong("are for Gaussian states", "fit", "init", "covariances")


def _warm_chains(kinds: tuple[str, ...], precision: str) -> float:
    from distem.kernels.chains_compiled import warm
    from distem.kernels.compiled import warm_all

    return warm() + warm_all(kinds, precision)
