"""The textbook case: two Gaussians in one dimension; a point halfway between is half in each."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr

from distem.config import Config
from distem.pipelines.cluster import run

__all__ = ["prepare", "run"]

ROWS = 20_000
CENTRES, SPREAD = (-2.0, 2.0), 1.0


def prepare(config: Config, say: Callable[[str], None]) -> None:
    """Draw the points, unless that is done: as many from each Gaussian, the last one halfway between."""
    path = Path(config.locate(config.data.path))
    if path.exists():
        return
    say(f"drawing {ROWS + 1:,} points to {path}")
    half = np.random.default_rng(config.seed).normal(CENTRES[1], SPREAD, ROWS // 2)
    # mirrored, so that the two are equal to the last digit and halfway is exactly that
    points = np.concatenate([np.stack([-half, half], axis=1).ravel(), [0.0]])
    dataset = xr.Dataset(
        {"x": ("point", points, {"long_name": "position"})}, attrs={"title": "Two Gaussians"}
    )
    dataset["x"].encoding["chunks"] = (4096,)
    partial = path.with_name(f"{path.name}.partial")
    dataset.to_zarr(partial, mode="w", consolidated=False)
    partial.rename(path)
