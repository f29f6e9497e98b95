"""Draw the pictures of README and docs from finished runs: python docs/pictures.py flights RUN

The runs are those of configs/: flights, choice and apart of quickstart.yaml, hard_soft of hard_soft.yaml,
states and chain of weather_states.yaml; motion and layers of estimate_motion.yaml, on a clip that may be
shown; boundaries of segment_image.yaml, and segments takes two, a mixture and k-means on one photograph,
as docs/segmentation.md has them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.dates import ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse, Rectangle

from distem import plot

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


def legend(figure: Figure, names: dict[int, str]) -> None:
    """Say below the panels what has which colour."""
    dots = [
        Line2D([], [], ls="", marker="o", ms=8, color=COLOURS[k % 6], label=name) for k, name in names.items()
    ]
    figure.legend(handles=dots, loc="outside lower center", ncols=len(dots), frameon=False)


def flights(run: str) -> None:
    tree = xr.open_datatree(f"{run}/result.zarr")
    model, sample = tree["model"].to_dataset(), tree["sample"].to_dataset()
    titles = {"dep_delay": "departure delay (min)", "arr_delay": "arrival delay (min)"}
    titles |= {"air_time": "time in the air (min)", "distance": "distance (mi)"}
    figure = Figure(figsize=(12, 4.5), layout="constrained")
    for axes, pair in zip(figure.subplots(1, 3), PAIRS, strict=True):
        x, y = (sample["values"].sel(feature=name).values for name in pair)
        axes.scatter(x, y, s=5, c=[COLOURS[i % 6] for i in sample.label.values], alpha=0.35, linewidths=0)
        ellipses(axes, model, pair)
        axes.set(xlabel=titles[pair[0]], ylabel=titles[pair[1]])
        axes.set_xlim(np.percentile(x, [0.2, 99]) + np.array([-10, 10]))
        axes.set_ylim(np.percentile(y, [0.2, 99]) + np.array([-10, 10]))
        axes.spines[["top", "right"]].set_visible(False)
    shares = model.weights.values
    legend(figure, {int(k): f"component {k}: {shares[k]:.0%}" for k in np.argsort(-shares)})
    figure.suptitle(f"{model.sizes['component']} kinds of flights from New York City, 2013")
    IMAGES.mkdir(exist_ok=True)
    figure.savefig(IMAGES / "flights.png", dpi=110)


def states(run: str) -> None:
    """A decoded stretch of two features, and the transition matrix."""
    tree = xr.open_datatree(f"{run}/result.zarr")
    series, model = tree["series"].to_dataset(), tree["model"].to_dataset()
    names = ["temp", "pressure"]
    titles = {"temp": "temperature (°F)", "pressure": "pressure (mbar)"}
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(3, 1))
    state, place = series["state"].values[0], series["place"].values
    for row, name in enumerate(names):
        axes = figure.add_subplot(grid[row, 0])
        values = series["values"].sel(feature=name).values[0]
        axes.plot(place, values, color="0.75", lw=0.6)
        for k in np.unique(state):
            axes.plot(place, np.where(state == k, values, np.nan), ".", ms=2.5, color=COLOURS[k % 6])
        axes.set_ylabel(titles[name])
        axes.set_xlim(place[0], place[-1])
        axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator()))
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("time")
    legend(figure, {int(k): f"state {k}" for k in np.unique(state)})
    axes = figure.add_subplot(grid[:, 1])
    transition = model["transition"].values
    axes.imshow(np.sqrt(transition), cmap="cividis", vmin=0, vmax=1)
    for i, j in np.ndindex(*transition.shape):
        dark = "white" if transition[i, j] < 0.35 else "black"
        axes.text(j, i, f"{transition[i, j]:.3f}", ha="center", va="center", fontsize=8, color=dark)
    axes.set(xlabel="next state", ylabel="state", title="transition probabilities")
    for side, ticks in (("x", axes.set_xticks), ("y", axes.set_yticks)):
        ticks(range(len(transition)), labels=[str(k) for k in range(len(transition))])
        for k, tick in enumerate(getattr(axes, f"get_{side}ticklabels")()):
            tick.set_color(COLOURS[k % 6])
    hours = f"first {len(place):,} hours of 2013 at {series['sequence_name'].values[0]}"
    figure.suptitle(f"{len(transition)} states of the weather: the {hours}")
    IMAGES.mkdir(exist_ok=True)
    figure.savefig(IMAGES / "states.png", dpi=110)


def hard_soft(run: str) -> None:
    """K-means, the mixture, and the rows on which they differ."""
    tree = xr.open_datatree(f"{run}/result.zarr")
    assigned, found = tree["assignment"].to_dataset(), tree["comparison"].to_dataset()
    with xr.open_zarr(Path(run).parents[1] / "data" / "elongated.zarr", consolidated=False) as data:
        x, y = data["x"].values, data["y"].values
    shown = np.random.default_rng(0).choice(len(x), 6000, replace=False)
    x, y = x[shown], y[shown]
    soft, hard = assigned["label"].values[shown], assigned["hard_label"].values[shown]
    split = assigned["uncertainty"].values[shown] > float(found.attrs["split_above"])
    cut = (soft != hard) & ~split
    clusters = xr.Dataset(
        {n: found[f"hard_{n}"].rename(cluster="component") for n in ("means", "covariances")},
        coords={"component": np.arange(found.sizes["cluster"])},
    )
    figure = Figure(figsize=(12, 3.3), layout="constrained")
    panels = figure.subplots(1, 3, sharex=True, sharey=True)
    for axes, labels, model, name in (
        (panels[0], hard, clusters, "k-means: round clusters, hard edges"),
        (panels[1], soft, tree["model"].to_dataset(), "the mixture: its own shapes"),
    ):
        axes.scatter(x, y, s=4, c=[COLOURS[i % 6] for i in labels], alpha=0.35, linewidths=0)
        ellipses(axes, model, ("x", "y"))
        index = float(found["ari_hard" if labels is hard else "ari_soft"])
        axes.set_title(f"{name}\nadjusted Rand index {index:.2f}")
    panels[2].scatter(x, y, s=3, c="#999999", alpha=0.25, linewidths=0)
    panels[2].scatter(
        x[split], y[split], s=7, c="#0072b2", alpha=0.7, linewidths=0, label="split by the mixture"
    )
    panels[2].scatter(
        x[cut], y[cut], s=10, c="#d55e00", marker="x", linewidths=0.7, label="cut wrong by k-means"
    )
    panels[2].legend(loc="upper left", frameon=False)
    panels[2].set_title("where they differ\n")
    for axes in panels:
        axes.set(xlabel="easting (m)", ylabel="northing (m)", xlim=(-20, 20), ylim=(-9, 12), aspect="equal")
        axes.label_outer()
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(IMAGES / "hard_soft.png", dpi=110)


ZOOM = (slice(215, 305), slice(440, 590))  # rows and columns of the soft edge that is shown enlarged


def segments(soft: str, hard: str) -> None:
    """A photograph, its segments, how sure they are; and an edge, by k-means and by the mixture."""
    trees = [xr.open_datatree(f"{run}/result.zarr") for run in (soft, hard)]
    held = [tree["picture"].to_dataset().isel(frame=0) for tree in trees]
    photograph, unsure = held[0]["picture"].values, held[0]["uncertainty"].values
    labels = held[0]["palette"].values[held[0]["label"].values]
    probability = trees[0]["assignment"].to_dataset()["probability"].values
    mixed = np.rint(probability @ held[0]["palette"].values.astype(float)).astype(np.uint8)
    cut = held[1]["palette"].values[held[1]["label"].values]
    figure = Figure(figsize=(12, 5.4), layout="constrained")
    panels = figure.subplots(2, 3)
    whole = ((photograph, "the photograph"), (labels, "segments, in their mean colours"))
    for axes, (values, title) in zip(panels[0], whole, strict=False):
        axes.imshow(values, interpolation="none")
        axes.set_title(title)
    drawn = panels[0, 2].imshow(unsure, cmap="cividis", vmin=0, interpolation="none")
    figure.colorbar(drawn, ax=panels[0, 2], label="probability that the label is wrong")
    panels[0, 2].set_title("uncertainty")
    rows, columns = ZOOM
    gain = 160.0 / float(np.percentile(photograph[ZOOM].max(axis=-1), 90))  # it lies in the shade
    zoomed = (
        (photograph, f"a blurred edge of it, {gain:.1f} × brighter"),
        (cut, "k-means: hard edges"),
        (mixed, "the mixture: colours by probability"),
    )
    for axes, (values, title) in zip(panels[1], zoomed, strict=True):
        extent = (columns.start, columns.stop, rows.stop, rows.start)
        bright = np.clip(gain * values[ZOOM], 0.0, 255.0).astype(np.uint8)
        axes.imshow(bright, interpolation="none", extent=extent)
        axes.set_title(title)
    panels[0, 0].add_patch(
        Rectangle((columns.start, rows.start), 150, 90, fill=False, edgecolor="#ffd600", linewidth=1.5)
    )
    for axes in panels.ravel():
        axes.set(xlabel="x (pixel)")
        if axes in panels[:, 0]:
            axes.set(ylabel="y (pixel)")
        else:
            axes.tick_params(labelleft=False)
    figure.savefig(IMAGES / "segments.png", dpi=100)


def motion(run: str) -> None:
    """Frames tinted by layer, and the speeds of the layers."""
    from distem.report.kinds.motion import tinted

    tree = xr.open_datatree(f"{run}/result.zarr")
    model, frames = tree["model"].to_dataset(), tree["frames"].to_dataset()
    outlier = model.sizes["component"] - 1 if model.sizes["component"] > model.sizes["motion"] else None
    chosen = np.unique(np.linspace(0, frames.sizes["frame"] - 1, 3).round().astype(int))
    figure = Figure(figsize=(12, 2.95), layout="constrained")
    for axes, i in zip(figure.subplots(1, len(chosen)), chosen, strict=True):
        shot = frames["picture"].values[i]
        step = int(frames.attrs["step"])
        extent = (0, step * shot.shape[1], step * shot.shape[0], 0)
        axes.imshow(tinted(shot, frames["label"].values[i], outlier), interpolation="none", extent=extent)
        pair = int(frames["frame"].values[i])
        speeds = np.hypot(model["velocity_y"].values[pair], model["velocity_x"].values[pair])
        told = ", ".join(f"{speed:.1f}" for speed in speeds)
        axes.set(title=f"pair {pair + 1}: layers move {told} pixels", xlabel="x (pixel)", ylabel="y (pixel)")
        axes.label_outer(remove_inner_ticks=False)
    figure.savefig(IMAGES / "motion.png", dpi=100)


def choice(run: str) -> None:
    """What `distem.plot` says of the choice: a criterion, the climb, and how far components overlap."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    drawers = (plot.selection, plot.convergence, plot.overlap)
    for axes, draw in zip(figure.subplots(1, 3), drawers, strict=True):
        draw(run, ax=axes)
        if draw is not plot.overlap:
            axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(IMAGES / "choice.png", dpi=100)


def apart(run: str) -> None:
    """What sets components apart, and how sure the labels are."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    for axes, draw in zip(figure.subplots(1, 2), (plot.profile, plot.uncertainty), strict=True):
        draw(run, ax=axes)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(IMAGES / "apart.png", dpi=100)


def chain(run: str) -> None:
    """The states of a chain on the features that tell them apart, and the transitions between them."""
    figure = Figure(figsize=(12, 4.4), layout="constrained")
    panels = figure.subplots(1, 3, width_ratios=(1, 1, 1.05))
    plot.components(run, ax=panels[0])
    plot.components(run, "temp", ax=panels[1])
    plot.transitions(run, ax=panels[2])
    for axes in panels[:2]:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(IMAGES / "chain.png", dpi=100)


def layers(run: str) -> None:
    """How the layers of a video move, how large they are, and where they go."""
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    for axes, what in zip(figure.subplots(1, 3), ("speed", "share", "paths"), strict=True):
        plot.motion(run, what, ax=axes)
        if what == "paths":
            axes.set_aspect("equal")  # as the frame is
    figure.savefig(IMAGES / "layers.png", dpi=100)


def boundaries(run: str) -> None:
    """A photograph as `distem.plot` shows its segments."""
    figure = Figure(figsize=(12, 2.8), layout="constrained")
    for axes, what in zip(figure.subplots(1, 3), ("segments", "boundaries", "uncertainty"), strict=True):
        plot.segments(run, what, ax=axes)
    figure.savefig(IMAGES / "boundaries.png", dpi=100)


PICTURES = {
    "boundaries": boundaries,
    "chain": chain,
    "layers": layers,
    "choice": choice,
    "apart": apart,
    "flights": flights,
    "motion": motion,
    "hard_soft": hard_soft,
    "segments": segments,
    "states": states,
}

if __name__ == "__main__":
    PICTURES[sys.argv[1]](*sys.argv[2:])
