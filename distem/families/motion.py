"""Motion models as a run knows them: parameters of all pairs of frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from distem.data.transform import Transform
from distem.em.loop import Fit
from distem.em.selection import Score
from distem.errors import ConfigError
from distem.families.base import Beginning, Facts, Variables
from distem.motion.designs import Geometry, in_pixels
from distem.motion.tracks import Tracks, TracksModel
from distem.types import Float64


class Motions:
    """Layers that move."""

    kind = "motion"
    title = "motion layers"
    part = "layer"
    variant = "design"
    objective = "log-likelihood"
    step = "pair"
    answers = ()

    def start(self, model: TracksModel, begin: Beginning) -> Tracks:  # noqa: ARG002
        """There is none but the pipeline's own.

        Raises
        ------
        ConfigError
            Always.
        """
        raise ConfigError("Motions start from a pair of frames.", "Set pipeline: estimate_motion.")

    def given(self, model: TracksModel, values: Mapping[str, Float64], transform: Transform) -> Tracks:  # noqa: ARG002
        """There are none to be given.

        Raises
        ------
        ConfigError
            Always.
        """
        raise ConfigError("Motions cannot be given.", "Let the pipeline estimate_motion find them.")

    def facts(self, model: TracksModel, stats: Any) -> Facts:  # noqa: ARG002
        """None: the tracks say all."""
        return {}

    def variables(self, model: TracksModel, params: Tracks, facts: Facts, transform: Transform) -> Variables:  # noqa: ARG002
        """Where each layer is over time, and how it moves."""
        geometry = Geometry(model.height, model.width)
        layer, dims = ("pair", "component"), ("pair", "motion", "direction", "term")
        pixels = {"units": "pixel"}
        return {
            "weights": (("component",), params.weights.mean(axis=0), {"long_name": "share of each layer"}),
            "share": (layer, params.weights, {"long_name": "share of each layer in each pair"}),
            "y": (layer, params.places[..., 0], {"long_name": "middle of the layer along y"} | pixels),
            "x": (layer, params.places[..., 1], {"long_name": "middle of the layer along x"} | pixels),
            "velocity_y": (
                ("pair", "motion"),
                params.velocities(model)[..., 0],
                {"long_name": "displacement of the layer's middle along y, per frame"} | pixels,
            ),
            "velocity_x": (
                ("pair", "motion"),
                params.velocities(model)[..., 1],
                {"long_name": "displacement of the layer's middle along x, per frame"} | pixels,
            ),
            "motions": (
                dims,
                in_pixels(params.motions, model.design, geometry),
                {"long_name": "displacement (y, x) on terms of pixel numbers from the first pixel"},
            ),
            "centred_motions": (
                dims,
                params.motions,
                {"long_name": "displacement (y, x) on terms of places from the middle, in half sides"},
            ),
            "errors": (dims, params.errors, {"long_name": "standard errors of centred_motions"}),
            "noise": (
                ("pair", "motion", "channel"),
                np.sqrt(params.noise),
                {"long_name": "standard deviation of the noise"},
            ),
            "pair_log_likelihood": (
                ("pair",),
                params.log_likelihood,
                {"long_name": "mean log-likelihood per pixel"},
            ),
        }

    def attributes(self, model: TracksModel) -> dict[str, Any]:
        """Design and geometry."""
        return {"design": model.design, "height": model.height, "width": model.width}

    def model(self, attributes: Mapping[str, Any]) -> TracksModel:
        """The model of `attributes`."""
        return TracksModel(str(attributes["design"]), int(attributes["height"]), int(attributes["width"]))

    def offset(self, model: TracksModel, transform: Transform) -> float:  # noqa: ARG002
        """None: grey values are in units of their range."""
        return 0.0

    def score(self, model: TracksModel, fit: Fit, transform: Transform) -> Score:  # noqa: ARG002
        """Likelihood and parameters of all pairs together."""
        tracks: Tracks = fit.params
        return Score(
            log_likelihood=float(tracks.log_likelihood @ tracks.pixels),
            mass=float(tracks.pixels.sum()),
            parameters=model.n_parameters(tracks),
            entropy=0.0,
        )
