"""Draw the README's picture from a run of configs/quickstart.yaml: python docs/pictures.py RUN"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
PAIRS = (("dep_delay", "arr_delay"), ("air_time", "distance"), ("distance", "dep_delay"))
IMAGES = Path(__file__).parent / "images"


def ellipses(axes: Axes, model: xr.Dataset, pair: tuple[str, str]) -> None:
    for k in model.component.values:
        mean = model.means.sel(component=k, feature=list(pair)).values
        block = model.covariances.sel(component=k, feature=list(pair), feature_other=list(pair)).values
        values, vectors = np.linalg.eigh(block)
        angle = np.degrees(np.arctan2(*vectors[::-1, -1]))
        for sigmas in (1, 2):
            width, height = 2 * sigmas * np.sqrt(values[::-1])
            axes.add_patch(
                Ellipse(
                    tuple(mean), width, height, angle=angle, fill=False, lw=2.2 / sigmas, color=COLOURS[k % 6]
                )
            )


def main(run: str) -> None:
    tree = xr.open_datatree(f"{run}/result.zarr")
    model, sample = tree["model"].to_dataset(), tree["sample"].to_dataset()
    titles = {"dep_delay": "departure delay (min)", "arr_delay": "arrival delay (min)"}
    titles |= {"air_time": "time in the air (min)", "distance": "distance (mi)"}
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    for axes, pair in zip(figure.subplots(1, 3), PAIRS, strict=True):
        x, y = (sample["values"].sel(feature=name).values for name in pair)
        axes.scatter(x, y, s=5, c=[COLOURS[i % 6] for i in sample.label.values], alpha=0.35, linewidths=0)
        ellipses(axes, model, pair)
        axes.set(xlabel=titles[pair[0]], ylabel=titles[pair[1]])
        axes.set_xlim(np.percentile(x, [0.2, 99]) + np.array([-10, 10]))
        axes.set_ylim(np.percentile(y, [0.2, 99]) + np.array([-10, 10]))
        axes.spines[["top", "right"]].set_visible(False)
    shares = ", ".join(f"{w:.0%}" for w in np.sort(model.weights.values)[::-1])
    figure.suptitle(f"{model.sizes['component']} kinds of flights from New York City, 2013: shares {shares}")
    IMAGES.mkdir(exist_ok=True)
    figure.savefig(IMAGES / "flights.png", dpi=110)


if __name__ == "__main__":
    main(sys.argv[1])
