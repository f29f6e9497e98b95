"""The section `model` for `kind: motion`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from distem.config.fields import VariableName, wrong
from distem.config.model import ModelConfig

if TYPE_CHECKING:
    from distem.config.top import Config
    from distem.models.base import Model
    from distem.motion.layers import Motion
    from distem.types import Float64


class MotionConfig(ModelConfig):
    """Layers of a video that move, each in its own way."""

    kind: Literal["motion"] = Field(description="Motion models of layers.")
    motions: Annotated[int, Field(ge=1, le=32)] = Field(
        description="The number of layers that move, that of the camera among them."
    )
    design: Literal["translation", "affine", "quadratic"] = Field(
        default="affine", description="What displacement a layer may have, as a function of the place."
    )
    outliers: bool = Field(
        default=True, description="One layer more, the last, of pixels that follow none of the motions."
    )
    input: Literal["frames", "flow"] = Field(
        default="frames",
        description="frames: pictures, whose brightness stays; flow: two features, u along x and v along y.",
    )
    noise: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=1e-3,
        description="The least standard deviation of the noise, as a share of the range of grey values or "
        "of the flow's standard deviation: how far a layer may be off its motion.",
    )
    window: Annotated[float, Field(ge=0, le=50)] | None = Field(
        default=None,
        description="Standard deviation in pixels of the window over which evidence for a pixel's label is "
        "gathered; 0: each pixel alone; null: 3 for frames, 0 for flow.",
    )
    levels: Annotated[int, Field(ge=0, le=10)] = Field(
        default=4, description="Most levels of the pyramid above the frames; each doubles the reach."
    )
    warps: Annotated[int, Field(ge=1, le=50)] = Field(
        default=4, description="How often the next frame is looked at anew on each level."
    )
    passes: Annotated[int, Field(ge=1, le=500)] = Field(
        default=8, description="EM steps between two looks, at most."
    )
    despeckle: bool = Field(
        default=True,
        description="Single pixels that stand out from all about them, such as noise that hits a few pixels "
        "hard, take the median of their neighbours before anything else is done.",
    )
    tile: Annotated[int, Field(ge=16)] = Field(
        default=256, description="Pixels on a side of a tile, the unit of work and of what is written."
    )
    defaults: ClassVar[dict[str, dict[str, Any]]] = {
        "fit": {"restarts": 3},
        "output": {"variables": ("label", "probability")},
    }
    can_write: ClassVar[tuple[VariableName, ...]] = ("label", "probability", "log_density", "uncertainty")
    count: ClassVar[str] = "motions"

    @property
    def n_components(self) -> tuple[int, ...]:
        """The layers that move."""
        return (self.motions,)

    @property
    def variants(self) -> tuple[str, ...]:
        """The design."""
        return (self.design,)

    @property
    def width(self) -> float:
        """Of the window of evidence, in pixels."""
        if self.window is not None:
            return self.window
        return 3.0 if self.input == "frames" else 0.0

    def asked(self, config: Config) -> Motion:
        """What is asked of the motions."""
        from distem.motion.layers import Motion

        return Motion(
            k=self.motions,
            design=self.design,
            outliers=self.outliers,
            levels=self.levels,
            warps=self.warps,
            passes=min(self.passes, config.fit.max_passes),
            restarts=config.fit.restarts,
            tolerance=config.fit.tolerance,
            tile=self.tile,
            despeckle=self.despeckle,
            window=self.width,
            noise=self.noise,
            seed=config.seed,
            kernels=config.fit.kernels,
        )

    def build(self, variant: str, variance: Float64, kernels: str, units: Float64 | None = None) -> Model:  # noqa: ARG002
        """There is none before the frames are known.

        Raises
        ------
        ConfigError
            Always: only `pipelines/estimate_motion.py` fits motions.
        """
        from distem.errors import ConfigError

        raise ConfigError("Motions are fitted pair by pair.", "Set pipeline: estimate_motion.")

    def sums(self, k: int, d: int) -> int:  # noqa: ARG002 -- of a pair, whatever the features
        """Moments of design and differences."""
        return k * 13 * 13

    def warming(self, precision: str) -> Callable[[], float]:  # noqa: ARG002 -- all is float64
        """The kernels of regressions and warps."""
        return _warm

    def check(self, config: Config) -> None:
        """Only a pipeline that goes from pair to pair can fit it."""
        super().check(config)
        name = config.pipeline
        if name != "estimate_motion" and not name.endswith(".py"):
            raise wrong(f"is {name}, which fits no motions; use estimate_motion", "pipeline")
        if config.fit.select in ("cv", "icl"):
            raise wrong(f"is {config.fit.select}; there are no candidates among motions", "fit", "select")
        if config.data.weights is not None:
            raise wrong("weighs rows; pixels of frames have no weights", "data", "weights")


def _warm() -> float:
    from distem.kernels import regression_compiled, warping_compiled

    return regression_compiled.warm() + warping_compiled.warm()
