"""The kinds of models a config can name."""

from __future__ import annotations

from typing import Annotated

from pydantic import Discriminator

from distem.config.model import GaussianMixtureConfig, HiddenMarkovConfig, KMeansConfig
from distem.config.motion import MotionConfig
from distem.config.regression import RegressionMixtureConfig

AnyModel = Annotated[
    GaussianMixtureConfig | KMeansConfig | HiddenMarkovConfig | RegressionMixtureConfig | MotionConfig,
    Discriminator("kind"),
]
"""One of the families."""
